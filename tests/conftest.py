"""What all tests share."""

import os

import pytest

# What a test computes is small: other processes would take longer to start.
os.environ["DISTILL_WORKERS"] = "1"


def pytest_collection_modifyitems(items):
    """The file that takes longest comes first: files are dealt out in this order, and the last ends the run."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")


@pytest.fixture
def enter_repository(monkeypatch):
    """Gives a function that makes a folder an empty repository and goes there: a study opened then has it to itself."""

    def enter(folder):
        (folder / "notebooks").mkdir(parents=True)
        monkeypatch.chdir(folder)
        for name in ("DISTILL_RUNS", "DISTILL_DATA", "DISTILL_RESULT", "DISTILL_PROGRESS"):
            monkeypatch.delenv(name, raising=False)

    return enter
