"""run_all.sh and run_tests.sh find or build the right environment: real runs of a small copy, no network.

The copy has the real scripts, but a lock with nothing in it and a library that prints how it was started;
`uv` on its PATH is a script that notes each call.
"""

import argparse
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill_lib.study.command import add_arguments

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPTS = ("run_all.sh", "run_tests.sh", "scripts/environment.sh", "scripts/environment.py")
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # a shell that still runs the old one goes on reading that
    path.write_text(text)
    path.chmod(0o755)


class Copy:
    """A small repository with the real scripts, and a PATH with a bare Python and a pretended uv."""

    def __init__(self, folder: Path):
        self.root, self.bin, self.calls = folder / "repo", folder / "bin", folder / "uv-calls"
        for name in SCRIPTS:
            target = self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
        self.depend_on()
        (self.root / "requirements.lock").write_text("# nothing\n")
        says = "import sys\nprint(sys.executable, *sys.argv[1:])\n"
        executable(self.root / "distill_lib/__init__.py", "")
        executable(self.root / "distill_lib/__main__.py", says)
        self.bin.mkdir()
        (self.bin / "python3").symlink_to(sys._base_executable)
        self.pretend_uv("exit 0")

    def depend_on(self, *names: str) -> None:
        (self.root / "pyproject.toml").write_text(f"[project]\ndependencies = {list(names)!r}\n")

    def pretend_uv(self, does: str) -> None:
        executable(self.bin / "uv", f'#!/bin/sh\necho "$@" >>"{self.calls}"\n{does}\n')

    def builds_without(self, name: str) -> None:
        """From now on the study needs a package that only the pretended uv installs."""
        self.depend_on(name)
        site = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
        self.pretend_uv(f'touch "{self.root}/.venv/{site}/{name}.py"')

    def environment(self, **more: str) -> dict[str, str]:
        base = {name: os.environ[name] for name in ("HOME", "TMPDIR") if name in os.environ}
        return base | {"PATH": f"{self.bin}:/usr/bin:/bin"} | more

    def start(self, *command: str, **more: str) -> subprocess.Popen:
        return subprocess.Popen(
            [self.root / command[0], *command[1:]],
            cwd="/",
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess:
        process = self.start(*command, **more)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    @property
    def python(self) -> str:
        return str(self.root / ".venv/bin/python")

    @property
    def installs(self) -> int:
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0


@pytest.fixture
def copy(tmp_path) -> Copy:
    """A copy that no Python at hand satisfies: it needs a package that only its set-up installs."""
    made = Copy(tmp_path)
    made.builds_without("installed_by_setup")
    return made


def test_first_run_builds_and_second_does_not(copy):
    first = copy.run("run_all.sh", "--seeds", "-1", "--list")
    assert (first.returncode, first.stdout) == (0, f"{copy.python} run --seeds -1 --list\n")
    assert copy.installs == 1
    second = copy.run("run_all.sh", "--setup")
    assert (second.returncode, second.stderr) == (0, "")
    assert copy.installs == 1


def test_library_is_found_by_the_environment_itself(copy):
    copy.run("run_all.sh", "--setup")
    code = "import importlib.util as u; print(*u.find_spec('distill_lib').submodule_search_locations)"
    found = subprocess.run([copy.python, "-c", code], cwd="/", capture_output=True, text=True, env={})
    assert Path(found.stdout.strip()).samefile(copy.root / "distill_lib")


def test_another_lock_builds_anew(copy):
    copy.run("run_all.sh", "--setup")
    left = copy.root / ".venv/left-over"
    left.touch()
    (copy.root / "requirements.lock").write_text("# another\n")
    assert copy.run("run_all.sh", "--setup").returncode == 0
    assert copy.installs == 2
    assert not left.exists()


def test_a_lost_package_builds_anew(copy):
    copy.run("run_all.sh", "--setup")
    next((copy.root / ".venv").rglob("installed_by_setup.py")).unlink()
    assert copy.run("run_all.sh", "--setup").returncode == 0
    assert copy.installs == 2


def wait_for_install(copy: Copy) -> None:
    while not copy.installs:
        time.sleep(0.02)


def test_killed_setup_is_begun_anew(copy):
    install = (copy.bin / "uv").read_text()
    copy.pretend_uv("sleep 30")
    process = copy.start("run_all.sh", "--setup")
    wait_for_install(copy)
    assert (copy.root / ".venv/distill-study.stamp").read_text() == "building"
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    executable(copy.bin / "uv", install)
    again = copy.run("run_all.sh", "--setup")
    assert again.returncode == 0
    assert "the last set-up did not end" in again.stderr
    assert copy.installs == 2


def test_installer_that_outlives_its_killed_setup_is_waited_for(copy):
    install = (copy.bin / "uv").read_text()
    copy.pretend_uv(f'kill -9 $PPID; sleep 1; touch "{copy.root}/outlived"')
    killed = copy.start("run_all.sh", "--setup")
    assert killed.wait(timeout=60) != 0
    assert not (copy.root / "outlived").exists()
    executable(copy.bin / "uv", install)
    again = copy.run("run_all.sh", "--setup")
    assert (copy.root / "outlived").exists()
    assert again.returncode == 0
    assert "another set-up is under way" in again.stderr
    killed.communicate()


def test_two_setups_at_once_build_once(copy):
    copy.pretend_uv("sleep 1\n" + (copy.bin / "uv").read_text().splitlines()[-1])
    processes = [copy.start("run_all.sh", "--setup") for _ in range(2)]
    ends = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum("another set-up is under way" in err for err in ends) == 1
    assert copy.installs == 1


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_active_environment_that_has_everything_is_used(copy, variable):
    copy.depend_on("pytest>=1", "filelock")
    done = copy.run("run_all.sh", "--dry-run", **{variable: sys.prefix})
    assert done.stdout == f"{sys.prefix}/bin/python run --dry-run\n"
    assert not (copy.root / ".venv").exists()


def test_first_python_on_the_path_that_has_everything_is_used(copy):
    copy.depend_on()
    assert copy.run("run_all.sh").stdout.endswith(" run\n")
    assert not (copy.root / ".venv").exists()


@pytest.mark.parametrize("lack", ["nosuch_package", "pytest>=9999.1"])
def test_active_environment_that_lacks_something_is_passed_over_and_named(copy, lack):
    copy.depend_on("installed_by_setup", lack)
    done = copy.run("run_all.sh", "--setup", VIRTUAL_ENV=sys.prefix)
    assert f"{sys.prefix} lacks installed_by_setup, {lack}" in done.stderr
    assert copy.installs == 1


def test_lock_without_a_dependency_is_said_and_not_taken_for_ready(copy):
    copy.depend_on("installed_by_setup", "nosuch_package")
    for installs in (1, 2):
        done = copy.run("run_all.sh")
        assert (done.returncode, done.stdout, copy.installs) == (2, "", installs)
        assert "lacks nosuch_package" in done.stderr


def test_tests_need_pytest_too(copy):
    copy.depend_on()
    bare = copy.root.parent / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    plain = copy.run("run_all.sh", "--setup", VIRTUAL_ENV=str(bare))
    assert plain.stdout == f"environment: {bare}/bin/python\n"
    tests = copy.run("run_tests.sh", VIRTUAL_ENV=str(bare))
    assert f"{bare} lacks pytest, pytest-timeout, pytest-xdist: passed over" in tests.stderr
    assert copy.installs == 1


@pytest.mark.parametrize(
    ("option", "passed"), [(("-n", "0"), "plain"), (("--browser",), "browser"), (("--slurm",), "slurm")]
)
def test_run_tests_chooses_the_kind_of_tests(copy, option, passed):
    copy.depend_on()
    (copy.root / "test_kinds.py").write_text(
        "import pytest\ndef test_plain(): pass\n"
        "@pytest.mark.browser\ndef test_browser(): pass\n@pytest.mark.slurm\ndef test_slurm(): pass\n"
    )
    done = copy.run("run_tests.sh", *option, "-v", "-p", "no:cacheprovider", VIRTUAL_ENV=sys.prefix)
    assert done.returncode == 0
    kinds = ("plain", "browser", "slurm")
    assert [kind for kind in kinds if f"test_{kind} PASSED" in done.stdout] == [passed]


@pytest.mark.parametrize("word", ["--nosuch", "--seed", "-x", "--profil=quick"])
def test_unknown_option_is_one_sentence_and_builds_nothing(copy, word):
    done = copy.run("run_all.sh", "--profile", "quick", word)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert repr(word) in done.stderr
    assert "--dry-run" in done.stderr
    assert not (copy.root / ".venv").exists()


def test_help_needs_no_environment(copy):
    (copy.bin / "python3").unlink()
    done = copy.run("run_all.sh", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: ./run_all.sh")
    assert not (copy.root / ".venv").exists()


def test_shell_and_library_know_the_same_options(copy):
    copy.depend_on()
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = {option for action in parser._actions for option in action.option_strings} - {"-h"}
    explained = re.findall(r"^  (--[a-z-]+)", copy.run("run_all.sh", "--help").stdout, re.MULTILINE)
    allowed = re.findall(r"--[a-z-]+", copy.run("run_all.sh", "-x").stderr.partition("allowed:")[2])
    assert set(explained) == set(allowed) == options | {"--setup"}
    for option in options - {"--help"}:
        assert copy.run("run_all.sh", option).returncode == 0


def test_unsupported_python_is_one_sentence(copy):
    for name in ("python", "python3", "python3.11", "python3.12", "python3.13"):
        (copy.bin / name).unlink(missing_ok=True)
        executable(copy.bin / name, "#!/bin/sh\nexit 1\n")
    for tool in ("bash", "dirname", "env", "cat"):
        (copy.bin / tool).symlink_to(shutil.which(tool))
    (copy.bin / "uv").unlink()
    done = copy.run("run_all.sh", PATH=str(copy.bin))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Python 3.11, 3.12 or 3.13 is needed")
    assert len(done.stderr.splitlines()) == 1


def test_an_environment_of_someone_else_is_taken_over_with_what_it_holds(copy):
    folder = copy.root / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (folder / "theirs").touch()
    assert copy.run("run_all.sh", "--setup", VIRTUAL_ENV=str(folder)).returncode == 0
    assert copy.installs == 1
    assert (folder / "theirs").exists()


def test_setup_that_cannot_install_says_so(copy):
    copy.pretend_uv("exit 1")
    modules = {"ensurepip": "raise SystemExit(1)", "pip": "import sys\nsys.exit('--version' not in sys.argv)"}
    for name, does in modules.items():
        executable(copy.root / name / "__init__.py", "")
        executable(copy.root / name / "__main__.py", does)
    done = copy.run("run_all.sh", "--setup")
    assert done.returncode == 2
    assert "trying pip" in done.stderr
    assert "the packages could not be installed" in done.stderr
    assert "Traceback" not in done.stderr


def test_version_numbers_are_compared_as_numbers():
    spec = importlib.util.spec_from_file_location("environment", ROOT / "scripts/environment.py")
    environment = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(environment)
    assert environment.release("2.11.0+cu130") == (2, 11, 0)
    assert environment.release("2.10.0a0+git123") == (2, 10, 0)
    assert environment.release("2.9.1") < environment.release("2.10") <= environment.release("2.10.0")
