"""A study at a tiny size; a made-up repository with small notebooks."""

import json
from pathlib import Path

import pytest

from distill_lib.study.session import open_study

TINY = str(Path(__file__).parents[1] / "profiles" / "tiny.toml")

PARAMETERS = 'profile: str = "quick"  # a profile\nseeds: list[int] = [0]  # seeds\nflag: bool = True  # a switch'
RESULT = (
    "import json, os\n"
    "given = {'profile': profile, 'seeds': seeds, 'flag': flag}\n"
    "open(os.environ['DISTILL_RESULT'], 'w').write(json.dumps({**given, **globals().get('more', {})}))"
)


@pytest.fixture
def study(tmp_path, enter_repository):
    """A study in a folder of its own."""
    enter_repository(tmp_path)
    return open_study(TINY, attack="badencoder")


@pytest.fixture
def repository(tmp_path):
    """A repository of this test."""
    return Repository(tmp_path)


@pytest.fixture(scope="module")
def shared_repository(tmp_path_factory):
    """A repository of all tests of a file."""
    return Repository(tmp_path_factory.mktemp("repository"))


class Repository:
    """A folder with `notebooks/`."""

    parameters, result = PARAMETERS, RESULT

    def __init__(self, root):
        self.root, self.runs = root, root / "runs"
        (root / "notebooks").mkdir()

    def write(self, stem, *sources, parameters=PARAMETERS, tags=("parameters",)):
        """Write a notebook whose cells are the parameters (None: no such cell), the sources, nothing else."""
        cells = [] if parameters is None else [_cell(0, parameters, list(tags))]
        cells += [_cell(i, source, []) for i, source in enumerate(sources, start=1)]
        text = json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
        path = self.root / "notebooks" / f"{stem}.ipynb"
        path.write_text(text)
        return path


def _cell(number, source, tags):
    return {
        "cell_type": "code",
        "id": f"c{number}",
        "source": source,
        "metadata": {"tags": tags},
        "outputs": [],
        "execution_count": None,
    }
