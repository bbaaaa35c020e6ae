import pytest
import torch
from torch import nn

from distill_lib.errors import UsageError
from distill_lib.tools.purify import recipes
from distill_lib.tools.purify.checkpoint import Checkpoint
from distill_lib.tools.purify.recipes import RECIPES, Repair, find
from distill_lib.tools.purify.subject import draw_up
from distill_lib.training.loop import Watch

IMAGES = torch.randint(0, 256, (16, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
HALVES = (0.5, 0.5, 0.5)


def repair(weights, arch="study_stem2", normalisation=(None, None), views=160, **more):
    found = Checkpoint("x.pt", "0" * 64, weights, ())
    blueprint = draw_up(found, arch, None, normalisation, torch.device("cpu"), "float32")
    return Repair(blueprint, IMAGES, views, 0, **more)


@pytest.fixture(scope="module")
def transformer_weights():
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 8, 4, 3, 48, 96).state_dict()


def told(stages):
    """A watching that notes (stage, steps) of each training."""
    return lambda stage: Watch(lambda step, steps, terms: stages.append((stage, steps)))


def test_the_studys_recipe_is_the_default_and_pays_from_one_budget(own_weights):
    stages = []
    encoder = find("recipe").run(repair(own_weights, views=640, watch=told(stages)))
    steps = dict.fromkeys(stages)
    # Two views of 16 images a step: 20 steps, of which the study's shares are 6, 6 and 8.
    assert list(steps) == [("fine-tuning the teacher", 6), ("warming the student up", 6), ("distilling with at", 8)]
    assert encoder.training is False


def test_the_studys_own_recipe_has_the_settings_that_were_frozen(own_weights, monkeypatch):
    stages, seen = [], {}
    real = recipes.distil

    def distil(teacher, student, images, config, seed, watch):
        seen.update(loss=config.loss, alone=config.nt_xent_weight, weight=config.weight)
        return real(teacher, student, images, config, seed, watch)

    monkeypatch.setattr(recipes, "distil", distil)
    work = repair(own_weights, views=640, watch=told(stages))
    find("fitnet").run(work)
    # Half of 640 views, two of 16 images a step; the student sees one view of an image, as it has no NT-Xent.
    assert list(dict.fromkeys(stages)) == [("fine-tuning the teacher", 10), ("distilling with fitnet", 20)]
    assert seen == {"loss": "fitnet", "alone": 0.0, "weight": recipes.tuned().distillation.weights["fitnet"]}
    assert find("fitnet").afresh
    # `distillation` reads its settings from these two tables: any other would be left out without a word.
    (frozen,) = [each for each in recipes.tuned().recipes if each.cell == "finetuned/random/fitnet"]
    assert {key.partition(".")[0] for key in frozen.settings} == {"distillation", "defender"}


def test_finetuning_spends_all_the_views(own_weights):
    stages = []
    find("finetune").run(repair(own_weights, views=640, watch=told(stages)))
    assert set(stages) == {("fine-tuning", 20)}


@pytest.mark.parametrize("name", [*RECIPES, "poisoned/random/cosine", "finetuned/copy/fitnet", "scratch/warmup/at:nad"])
def test_every_recipe_changes_the_encoder_and_keeps_it_finite(name, own_weights):
    work = repair(own_weights)
    before, after = work.blueprint.suspect(), find(name).run(work)
    images = IMAGES.float() / 255
    with torch.no_grad():
        changed, original = after.eval()(images), before(images)
    assert changed.shape == original.shape
    assert changed.isfinite().all()
    assert not torch.equal(changed, original) or name == "clp"  # no channel of random weights need stand out


def test_it_is_the_studys_own_finetuning(own_weights):
    from distill_lib.defences.finetune import finetune
    from distill_lib.study.workshop import FRESH_REPAIR
    from distill_lib.vision.encoders import EncoderConfig, build_encoder

    work = repair(own_weights)
    encoder = build_encoder(EncoderConfig(10, 16, 2), 0)
    encoder.load_state_dict(own_weights)
    finetune(encoder, IMAGES, work.contrastive(160), FRESH_REPAIR)
    repaired = find("finetune").run(work).model
    for one, other in zip(repaired.parameters(), encoder.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["recipe", "finetune", "fitnet", "nad", "finetuned/copy/fitnet"])
def test_transformers_are_repaired_too(name, transformer_weights):
    work = repair(transformer_weights, "vit:3", (HALVES, HALVES))
    assert work.schedule(100).lr == recipes.GENTLE_LR
    assert find(name).run(work)(IMAGES[:2].float() / 255).isfinite().all()


@pytest.mark.parametrize("name", ["bn_reset", "clp"])
def test_what_changes_batch_norm_needs_some(name, transformer_weights):
    with pytest.raises(UsageError, match="changes batch norm, which vit:3 does not have; allowed: recipe, finetune"):
        find(name).run(repair(transformer_weights, "vit:3", (HALVES, HALVES)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nosuch", "unknown recipe 'nosuch'; allowed: recipe, finetune, fitnet, nad, bn_reset, clp"),
        ("a/b", "unknown recipe 'a/b'"),
        ("clean/warmup/at", "unknown teacher 'clean'; allowed: poisoned, finetuned, scratch"),
        ("finetuned/x/at", "unknown student 'x'; allowed: random, warmup, copy"),
        ("finetuned/copy/x", "unknown loss 'x'; allowed: kd"),
    ],
)
def test_unknown_recipes_are_said(name, words):
    with pytest.raises(UsageError, match=words):
        find(name)


def test_a_batch_is_no_larger_than_the_images(own_weights):
    assert repair(own_weights).batch == 16
    many = Repair(repair(own_weights).blueprint, IMAGES.repeat(10, 1, 1, 1), 160, 0)
    assert many.batch == 128
    assert many.schedule(2560).steps == 10


def test_a_fresh_start_is_said():
    assert [name for name, recipe in RECIPES.items() if recipe.afresh] == ["recipe", "fitnet"]
    assert find("finetuned/random/at").afresh
    assert not find("finetuned/copy/at").afresh


def test_repairs_leave_the_files_weights_alone(own_weights):
    before = {name: each.clone() for name, each in own_weights.items()}
    find("finetune").run(repair(own_weights))
    assert all(torch.equal(before[name], own_weights[name]) for name in before)
    assert isinstance(repair(own_weights).blueprint.suspect(), nn.Module)
