"""Check a Python environment, or build the repository's own in `.venv`; needs the standard library alone.

    python scripts/environment.py check [NAME ...]   exit code 0 if this interpreter's environment has every
                                                     dependency of pyproject.toml, and the packages named
    python scripts/environment.py build              build `.venv` from requirements.lock if it is not ready

`.venv` carries a stamp: "building" from its first moment, the hash of requirements.lock once all is there.
So an interrupted set-up is seen and begun anew, and so is one of an older lock.
"""

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows: there, two set-ups at once are not held apart
    fcntl = None

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "distill-study.stamp"
LOCK = ROOT / "requirements.lock"
BUILDING = "building"
BASE = sys._base_executable  # not sys.executable: where that is in `.venv`, it is deleted before it is needed
IS_SUPPORTED = "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))"
IMPORT_NAMES = {"scikit-learn": "sklearn", "pytest-xdist": "xdist"}  # where the module is not named as the package


class SetupError(Exception):
    """What stopped the set-up, in one sentence."""


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "2.11.0+cu130" gives (2, 11, 0)."""
    return tuple(int(number) for number in re.match(r"(?:\d+\.?)*", version)[0].split(".") if number)


def lacks(requirement: str) -> str | None:
    """What this environment lacks of a requirement such as "torch>=2.10"; None if it is met.

    Nothing is imported: seconds of torch on every start would be paid for nothing.
    """
    name, _, floor = requirement.partition(">=")
    if util.find_spec(IMPORT_NAMES.get(name, name.replace("-", "_"))) is None:
        return name
    # A build without metadata (a cluster's own) has no version to compare: it is taken as it is.
    with contextlib.suppress(metadata.PackageNotFoundError):
        if floor and release(metadata.version(name)) < release(floor):
            return f"{requirement} (it has {metadata.version(name)})"
    return None


def lock_hash() -> str:
    return hashlib.sha256(LOCK.read_bytes()).hexdigest()


def stamp() -> str | None:
    """The stamp of `.venv`; None if there is none: not built, or made by someone else."""
    return STAMP.read_text().strip() if STAMP.exists() else None


def check(extra: list[str]) -> int:
    """0 if this environment has everything; a `.venv` of ours must also be finished, of today's lock."""
    if Path(sys.prefix).resolve() == VENV.resolve() and stamp() not in (None, lock_hash()):
        return 1
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    missing = [lack for each in [*project["dependencies"], *extra] if (lack := lacks(each))]
    if missing:
        say(f"{sys.prefix} lacks {', '.join(missing)}")
    return 1 if missing else 0


def call(*command: str | Path, quiet: bool = False) -> bool:
    """Run one command of the set-up; True if it succeeded. What it prints goes to stderr."""
    out = subprocess.DEVNULL if quiet else sys.stderr
    try:  # close_fds: the lock goes with it, see one_at_a_time
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, close_fds=False)
    except OSError:
        return False
    return done.returncode == 0


def is_ready() -> bool:
    """Whether `.venv` still starts and has everything."""
    return call(PYTHON, __file__, "check", quiet=True)


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold the set-up's lock, which is on requirements.lock itself so that no further file is needed.

    The installers inherit it: should this process be killed, the lock holds until its installer has ended.
    A file system without locks is used without.
    """
    with LOCK.open("a") as file:
        os.set_inheritable(file.fileno(), True)
        try:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is under way: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass
        yield


def make_empty() -> None:
    """An environment without a package, stamped as unfinished before anything in it changes."""
    VENV.mkdir(exist_ok=True)
    STAMP.write_text(BUILDING)
    for old in set(VENV.iterdir()) - {STAMP}:  # the folder itself stays: it may be a link to a larger disk
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    if not call(BASE, "-m", "venv", "--without-pip", VENV):
        raise SetupError(f"{BASE} cannot make a virtual environment: install its venv module")


def keep_foreign() -> None:
    """Take over a `.venv` that someone else made, with what is in it."""
    if not call(PYTHON, "-c", IS_SUPPORTED, quiet=True):
        raise SetupError(f"{VENV} was not made by this set-up and has no Python 3.11 to 3.13: move it away")
    STAMP.write_text(BUILDING)


def find_pip() -> list[str | Path]:
    """The command of a pip that installs into `.venv`.

    Debian's bare Python cannot bring its own pip (ensurepip is left out): then any pip on the PATH will do.
    """
    if call(PYTHON, "-m", "ensurepip", "--default-pip", quiet=True):
        return [PYTHON, "-m", "pip"]
    for pip in ([BASE, "-m", "pip"], ["python3", "-m", "pip"], ["pip3"], ["pip"]):
        if call(*pip, "--python", PYTHON, "--version", quiet=True):
            return [*pip, "--python", PYTHON]
    raise SetupError(f"neither uv nor pip can be had for {BASE}: install uv, pip or python3-venv")


def with_pip(file: Path = LOCK, *options: str) -> bool:
    options = ["--no-input", "--disable-pip-version-check", "--require-hashes", *options]
    return call(*find_pip(), "install", *options, "-r", file)


def find_uv() -> str | Path | None:
    """The uv on the PATH, or else the one that the lock pins, put into `.venv`; None if it cannot be had."""
    if uv := shutil.which("uv"):
        return uv
    pinned = re.search(r"^uv==(?:.*\\\n)*.*", LOCK.read_text(), re.MULTILINE)
    only_uv = VENV / "uv.lock"
    only_uv.write_text(pinned[0] if pinned else "")
    return PYTHON.with_name("uv") if pinned and with_pip(only_uv, "--quiet") else None


def with_uv() -> bool:
    uv = find_uv()
    # Compiled once, as pip does it: where Python may not write beside its modules, each process would do it anew, and
    # a study of many processes would spend ten seconds of every one on it.
    options = ["--python", PYTHON, "--require-hashes", "--compile-bytecode"]
    return bool(uv) and call(uv, "pip", "install", *options, "-r", LOCK)


def show_repository() -> None:
    """Make `import distill_lib` work wherever the environment is used, in JupyterLab too."""
    for site in [*VENV.glob("lib/python*/site-packages"), *VENV.glob("Lib/site-packages")]:
        (site / "distill_study.pth").write_text(os.path.relpath(ROOT, site) + "\n")


def install() -> None:
    if with_uv():
        return
    say("uv could not install the packages: trying pip, which takes longer")
    if not with_pip():
        raise SetupError("the packages could not be installed (see above): check the network and the disk")


def finish() -> None:
    """Stamp `.venv` as built, if it holds what the study needs."""
    STAMP.write_text(lock_hash())
    if not call(PYTHON, __file__, "check"):
        STAMP.write_text(BUILDING)
        raise SetupError("requirements.lock does not hold all that pyproject.toml names: compile it again")


def build() -> int:
    with one_at_a_time():
        if is_ready():
            return 0
        is_foreign = VENV.is_dir() and any(VENV.iterdir()) and stamp() is None
        again = " again, since the last set-up did not end" if stamp() == BUILDING else ""
        say(f"setting up the environment in {VENV}{again}: once, a few minutes and some gigabytes")
        (keep_foreign if is_foreign else make_empty)()
        install()
        show_repository()
        finish()
        say("the environment is ready")
    return 0


def main(command: str = "", *extra: str) -> int:
    try:
        if command == "check":
            return check(list(extra))
        if command == "build":
            return build()
        raise SetupError("say check or build")
    except (SetupError, OSError) as error:
        say(f"set-up: {error}")
    except KeyboardInterrupt:
        say("set-up: interrupted; the next one begins anew")
    return 2


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
