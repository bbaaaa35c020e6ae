"""pyproject.toml, requirements.lock and environment.yml describe one environment."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WANTED = [Requirement(line) for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]]
LOCK = (ROOT / "requirements.lock").read_text()
SUPPORTED = ("3.11", "3.12", "3.13")
PLATFORMS = ("linux", "darwin", "win32")


def pins(text: str) -> dict[Requirement, list[str]]:
    """The pinned requirements of a lock, each with its hashes."""
    blocks = re.findall(r"^([a-z0-9].*?)((?: \\\n +--hash=\S+)*)$", text, re.MULTILINE)
    return {Requirement(line): re.findall(r"--hash=sha256:([0-9a-f]{64})", hashes) for line, hashes in blocks}


PINS = pins(LOCK)


def pinned_versions(name: str, python: str, platform: str) -> list[Version]:
    """What the lock installs of a package on one interpreter and platform."""
    where = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": platform}
    found = [pin for pin in PINS if pin.name == name and (not pin.marker or pin.marker.evaluate(where))]
    return [Version(specifier.version) for pin in found for specifier in pin.specifier]


@pytest.mark.parametrize("python", SUPPORTED)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_lock_pins_one_admitted_version_of_each_dependency(python, platform):
    for wanted in WANTED:
        versions = pinned_versions(wanted.name, python, platform)
        assert len(versions) == 1, wanted
        assert versions[0] in wanted.specifier, wanted


def test_every_pin_is_exact_and_has_a_hash():
    assert len(PINS) > len(WANTED)
    for pin, hashes in PINS.items():
        assert [specifier.operator for specifier in pin.specifier] == ["=="], pin
        assert hashes, pin


def test_no_block_of_the_lock_escapes_the_reading():
    assert len(re.findall(r"--hash=", LOCK)) == sum(map(len, PINS.values()))
    assert len(re.findall(r"^\S*==", LOCK, re.MULTILINE)) == len(PINS)


@pytest.mark.parametrize("word", ["://", "-index", "--find-links", "--trusted-host", " -e ", "file:"])
def test_lock_names_no_address(word):
    assert word not in LOCK


def test_torch_is_new_enough_to_load_checkpoints_safely():
    torch = next(wanted for wanted in WANTED if wanted.name == "torch")
    assert "2.9.1" not in torch.specifier
    assert "2.11.0" in torch.specifier


def test_every_supported_python_is_admitted_and_no_other():
    admitted = SpecifierSet(PROJECT["requires-python"])
    assert [minor for minor in range(20) if f"3.{minor}.5" in admitted] == [11, 12, 13]


def test_conda_environment_is_a_supported_python_and_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, packages = environment["dependencies"]
    assert environment["name"] == PROJECT["name"]
    assert environment["channels"] == ["conda-forge"]
    assert python.removeprefix("python=") in SUPPORTED
    assert (pip, packages) == ("pip", {"pip": ["-r requirements.lock"]})


CONDA_NAMES = {"torch": "pytorch-cpu", "matplotlib": "matplotlib-base", "jupyter-client": "jupyter_client"}


def test_binder_has_every_dependency_at_the_same_floor():
    environment = yaml.safe_load((ROOT / "binder" / "environment.yml").read_text())
    python, *packages = environment["dependencies"]
    assert python.removeprefix("python=") in SUPPORTED
    wanted = [Requirement(line) for line in PROJECT["dependencies"]]
    named = {f"{CONDA_NAMES.get(each.name, each.name)}{each.specifier}" for each in wanted}
    assert set(packages) == {*named, "pip", "setuptools>=77"}
    assert (ROOT / "binder" / "postBuild").stat().st_mode & 0o111


def test_commit_hooks_use_the_versions_of_the_lock():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    used = [line for hook in hooks for line in hook["additional_dependencies"]]
    assert {line.partition("==")[0] for line in used} == {"ruff", "nbstripout"}
    assert set(used) <= {str(pin) for pin in PINS}
