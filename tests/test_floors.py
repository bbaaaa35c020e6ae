"""Imports go down the floors only: the order of the study holds in the code."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "distill_lib"
FLOORS = {
    "tools": 9,
    "study": 8,
    "plots": 7,
    "datafree": 6,
    "undistillable": 6,
    "distillation": 5,
    "attacks": 4,
    "defences": 4,
    "evaluation": 3,
    "training": 2,
    "data": 1,
    "vision": 1,
    "errors": 0,
    "": 10,  # the package itself and its command line
}


def module_name(path, root):
    """`distill_lib/vision/encoders.py` -> `distill_lib.vision.encoders`; an `__init__.py` is its folder."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source, name, is_folder):
    """Every (line, module) that a module imports, at the top, in functions, relative ones too."""
    package = name.split(".") if is_folder else name.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def folder(name, modules):
    """The part of the house that a dotted name lies in; "" for the package itself, its version, its command line."""
    part = name.split(".")[1] if "." in name else ""
    return part if part != "__main__" and f"{PACKAGE}.{part}" in modules else ""


def offences(root):
    """One line for each import that does not go strictly down."""
    paths = sorted((root / PACKAGE).rglob("*.py"))
    modules = {module_name(path, root) for path in paths}
    modules |= {module_name(path.parent / "__init__.py", root) for path in paths}
    for path in paths:
        name = module_name(path, root)
        home = folder(name, modules)
        for line, target in imports(path.read_text(), name, path.name == "__init__.py"):
            if target.split(".")[0] != PACKAGE:
                continue
            other = folder(target, modules)
            if other != home and not FLOORS[other] < FLOORS[home]:
                places = f"floor {FLOORS[home]} to floor {FLOORS[other]}"
                yield f"{path.relative_to(root)}:{line} imports {target}: {places}"


def test_every_folder_has_a_floor():
    parts = {path.stem for path in (ROOT / PACKAGE).iterdir() if path.suffix == ".py" or any(path.rglob("*.py"))}
    assert parts - {"__init__", "__main__"} <= FLOORS.keys()


def test_imports_go_strictly_down():
    found = list(offences(ROOT))
    assert not found, "imports that do not go down the floors:\n" + "\n".join(found)


def house(root, files):
    for path, source in files.items():
        file = root / PACKAGE / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    return [line.split(": ")[0] for line in offences(root)]


BASE = {"__init__.py": "", "errors.py": "", "data/__init__.py": "", "vision/__init__.py": "", "vision/encoders.py": ""}


@pytest.mark.parametrize(
    ("path", "source", "target"),
    [
        ("data/x.py", "from distill_lib.vision import encoders", "distill_lib.vision.encoders"),
        ("data/x.py", "from distill_lib.vision.encoders import STAGES", "distill_lib.vision.encoders.STAGES"),
        ("data/x.py", "import distill_lib.vision.encoders as e", "distill_lib.vision.encoders"),
        ("data/x.py", "def f():\n    from distill_lib import vision", "distill_lib.vision"),
        ("data/x.py", "from .. import vision", "distill_lib.vision"),
        ("data/x.py", "from ..vision.encoders import STAGES", "distill_lib.vision.encoders.STAGES"),
        ("data/__init__.py", "if True:\n    from ..vision import encoders", "distill_lib.vision.encoders"),
        ("errors.py", "from distill_lib.data import load", "distill_lib.data.load"),
        ("vision/x.py", "from distill_lib import __version__", "distill_lib.__version__"),
        ("vision/x.py", "import distill_lib", "distill_lib"),
        ("study/x.py", "from distill_lib import __main__", "distill_lib.__main__"),
        ("training/x.py", "from distill_lib.study import store", "distill_lib.study.store"),
    ],
)
def test_the_check_sees_an_import_that_goes_up_or_sideways(tmp_path, path, source, target):
    found = house(tmp_path, BASE | {"study/store.py": "", "training/y.py": ""} | {path: source})
    line = source.count("\n") + 1
    assert found == [f"distill_lib/{path}:{line} imports {target}"]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("vision/x.py", "from distill_lib.vision.encoders import STAGES"),
        ("vision/x.py", "from . import encoders"),
        ("vision/x.py", "from distill_lib.errors import UsageError"),
        ("training/x.py", "from distill_lib import vision\nfrom distill_lib.data import load"),
        ("__main__.py", "from distill_lib import __version__, data"),
        ("__init__.py", "from distill_lib.vision import encoders"),
        ("errors.py", "import torch, sys\nfrom torch.vision import data"),
    ],
)
def test_the_check_lets_imports_down_and_at_home_pass(tmp_path, path, source):
    assert house(tmp_path, BASE | {path: source}) == []
