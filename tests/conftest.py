"""What all tests share."""

import os
import sys
import zlib

import pytest

# What a test computes is small: other processes would take longer to start.
os.environ["DISTILL_WORKERS"] = "1"
DRAWN = {}  # built-in sets, by name and split


def pytest_collection_modifyitems(items):
    """The file that takes longest comes first: files are dealt out in this order, and the last ends the run."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")


@pytest.fixture(scope="module", autouse=True)
def drawn_once(request):
    """The built-in sets are drawn once a process, not once a store; where they are themselves under test, as ever."""
    if "data" in request.path.relative_to(request.config.rootpath).parts:
        yield
        return
    from distill_lib.data import builtin  # here, not above: the process that hands out the tests needs no torch

    build = builtin.build

    def copied(*which):
        if which not in DRAWN:
            DRAWN[which] = build(*which)
        return {name: array.copy() for name, array in DRAWN[which].items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtin, "build", copied)
        yield


@pytest.fixture(autouse=True)
def drawn_by_name(request):
    """What a test draws from torch's global generator hangs on its name alone, not on the tests before it."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(zlib.crc32(request.node.nodeid.encode()))
    yield
    torch.set_rng_state(state)


@pytest.fixture
def enter_repository(monkeypatch):
    """Gives a function that makes a folder an empty repository and goes there: a study opened then has it to itself."""

    def enter(folder):
        (folder / "notebooks").mkdir(parents=True)
        monkeypatch.chdir(folder)
        for name in ("DISTILL_RUNS", "DISTILL_DATA", "DISTILL_RESULT", "DISTILL_PROGRESS"):
            monkeypatch.delenv(name, raising=False)

    return enter
