"""An explorer over a store whose encoders were made without a step of training."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distill_lib.attacks.ctrl import FrequencyTrigger
from distill_lib.errors import UsageError
from distill_lib.evaluation.probes import PROBES
from distill_lib.study import backdoors, components, stages, workshop
from distill_lib.study.session import open_study
from distill_lib.tools.explore import open_explorer
from distill_lib.tools.explore.sources import attacked_cell, is_stored, square
from distill_lib.vision.features import extract
from distill_lib.vision.triggers import Patch, ScatteredPatch, corner_patch

TINY = str(Path(__file__).parents[2] / "profiles" / "tiny.toml")
RECIPE = "finetuned / warmup / at"


@pytest.fixture
def study(tmp_path, monkeypatch, enter_repository):
    """A study in which no training takes a step."""
    enter_repository(tmp_path)
    nothing = lambda *given, **named: []  # noqa: E731
    for module, name in ((stages.Stages, "pretrain"), (workshop, "distil"), (backdoors, "inject")):
        monkeypatch.setattr(module, name, nothing)
    for name in ("finetune", "clean_share"):
        monkeypatch.setattr(components, name, nothing)
    return open_study(TINY)


def make(study, *names):
    """Put encoders into the store."""
    cell = study.attacked("patterns", 0)
    known = {"clean": replace(cell, stage="clean"), "attacked": cell, RECIPE: study.recipe([cell])[0]}
    for name in names:
        study.artefact(known.get(name) or cell.defended(name))
    return cell


def makes(study):
    return [line.split()[1] for line in (study.stages.store.root / "makes.log").read_text().splitlines()]


@pytest.mark.parametrize(
    ("there", "missing"), [((), "clean"), (("clean",), "attacked"), (("clean", "attacked"), RECIPE)]
)
def test_a_missing_encoder_is_one_sentence_that_says_what_to_run(study, there, missing):
    make(study, *there)
    before = sorted(study.stages.store.root.rglob("weights.safetensors"))
    with pytest.raises(UsageError) as caught:
        open_explorer(study)
    words = str(caught.value)
    assert f"has no encoder {missing!r} of badencoder on 'patterns', seed 0" in words
    assert "./run_all.sh --only 01_attack,02_teacher" in words
    assert "\n" not in words
    assert sorted(study.stages.store.root.rglob("weights.safetensors")) == before  # nothing was made


def test_an_attack_whose_target_is_found_later_is_missing_too(study):
    with pytest.raises(UsageError, match="no encoder 'attacked' of ctrl on 'shapes'"):
        attacked_cell(open_study(TINY, attack="ctrl"))


def test_every_stored_encoder_is_there_and_the_head_is_the_measured_one(study):
    cell = make(study, "finetune", RECIPE)
    explorer = open_explorer(study)
    assert explorer.names == ("clean", "attacked", RECIPE, "finetune")
    assert explorer.bank.about == "badencoder, patterns, seed 0"
    assert (explorer.bank.target, explorer.patch) == (0, corner_patch(10))
    assert not is_stored(study, cell.defended("clp"))

    shown = explorer.show(explorer.start())
    under = study.under("badencoder")
    encoder, train = study.encoder(cell), under.downstream("patterns")[0]
    head = PROBES["head"](extract(encoder, train.images), train.labels, len(train.classes), under.head(), 0)
    with torch.no_grad():
        scores = head(extract(encoder, shown.image[None]))[0]
    torch.testing.assert_close(shown.probabilities, scores.softmax(0), rtol=1e-2, atol=1e-3)  # bf16, other batches
    assert makes(study).count("explored") == 1

    again = open_explorer(study).show(explorer.start())
    assert torch.equal(again.probabilities, shown.probabilities)
    assert again.position == shown.position
    assert makes(study).count("explored") == 1


def test_a_set_that_is_asked_for_is_explored(study):
    assert attacked_cell_of(study, ["shapes"]).downstream == "shapes"


def attacked_cell_of(study, downstream):
    other = open_study(TINY, downstream=downstream)
    cell = other.attacked("shapes", 0)
    for each in (replace(cell, stage="clean"), cell, *other.recipe([cell])):
        other.artefact(each)
    return attacked_cell(other)


def test_triggers_as_squares():
    assert square("badencoder", Patch(4, 3, 2)) == Patch(4, 3, 2)
    assert square("poisoned_data", ScatteredPatch(6, (255, 0, 0))) == Patch(6, 25, 25, (255, 0, 0))
    with pytest.raises(UsageError, match="the trigger of 'ctrl' is no square"):
        square("ctrl", FrequencyTrigger())
