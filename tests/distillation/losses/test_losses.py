"""The registry: names, weights, and terms that come out weighted."""

import math

import pytest
import torch
from torch import nn

from distill_lib.distillation.losses import LOSSES, compute, prepare, resolve
from distill_lib.distillation.losses.at import at
from distill_lib.distillation.losses.cosine import cosine
from distill_lib.distillation.losses.kd import kd_released
from distill_lib.distillation.losses.mimic import mimic_weights
from distill_lib.errors import UsageError

FOUR = ("stage1", "stage2", "stage3", "stage4")
NAMES = [each.name for loss in LOSSES.values() for each in (loss, *loss.variants.values())]


def ready(name, representation):
    channels = {stage: maps.shape[1] for stage, maps in representation.maps.items()}
    return prepare(resolve(name), channels, seed=0, taught=lambda: representation)


def test_the_losses_and_their_variants():
    assert list(LOSSES) == ["kd", "sp", "fitnet", "cc", "at", "afd", "cosine", "mimic"]
    variants = {name: set(loss.variants) for name, loss in LOSSES.items()}
    assert variants.pop("afd") == {"learned", "released"}
    assert variants.pop("at") == {"released", "nad"}
    assert variants.pop("cosine") == variants.pop("mimic") == set()
    assert all(each == {"released"} for each in variants.values())


@pytest.mark.parametrize(
    ("name", "weight", "cosine_weight", "stages"),
    [
        ("kd", 1, 0, ()),
        ("sp", 3000, 0, ("stage4",)),
        ("fitnet", 100, 0, FOUR),
        ("cc", 0.02, 0, ()),
        ("at", 1000, 0, FOUR),
        ("afd", 1000, 0, FOUR),
        ("afd:learned", 1000, 0, FOUR),
        ("cosine", 1, 0, ()),
        ("kd:released", 1000, 0, ("stage1",)),
        ("sp:released", 0, 1, ()),
        ("fitnet:released", 1000, 0, FOUR),
        ("cc:released", 1000, 0, FOUR),
        ("at:released", 1000, 0, FOUR),
        ("at:nad", 1000, 0, FOUR[1:]),
        ("mimic", 1000, 1, FOUR),
        ("afd:released", 1000, 0, FOUR),
    ],
)
def test_weights_and_stages(name, weight, cosine_weight, stages):
    loss = resolve(name)
    assert (loss.name, loss.weight, loss.cosine_weight, loss.stages) == (name, weight, cosine_weight, stages)


def test_every_family_resolves_to_itself():
    assert all(resolve(name) is loss for name, loss in LOSSES.items())


@pytest.mark.parametrize("name", ["atx", "at:published", "cosine:released", "at:", ":released", "", "AT"])
def test_an_unknown_name_is_one_sentence_with_those_allowed(name):
    with pytest.raises(UsageError, match=r"unknown loss .*; allowed: kd, kd:released, sp, .*afd:learned") as error:
        resolve(name)
    assert repr(name) in str(error.value)


def test_a_weight_of_ones_own_scales_the_term(small):
    (plain,) = compute(resolve("at"), *small).values()
    (half,) = compute(resolve("at", 500), *small).values()
    assert half.item() == pytest.approx(plain.item() / 2)


@pytest.mark.parametrize("name", NAMES)
def test_the_registrys_weight_handed_in_again_changes_nothing(name):
    assert resolve(name, resolve(name).weight) == resolve(name)


def test_released_sp_is_the_cosine_alone_and_has_no_other_weight(small):
    assert compute(resolve("sp:released"), *small) == {"cosine": cosine(*small)}
    with pytest.raises(UsageError, match="'sp:released' is its cosine term alone, so weight 3 is impossible"):
        resolve("sp:released", 3)


@pytest.mark.parametrize("weight", [-1, math.inf, math.nan])
def test_an_impossible_weight_is_refused(weight):
    with pytest.raises(UsageError, match=f"weight {weight} of loss 'at' is impossible; allowed"):
        resolve("at", weight)


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_gives_finite_terms_named_after_its_family(small, name):
    loss = ready(name, small[0])
    terms = compute(loss, *small, generator=torch.Generator().manual_seed(0))
    assert list(terms) == {"sp:released": ["cosine"], "mimic": ["mimic", "cosine"]}.get(name, [name.partition(":")[0]])
    assert all(term.isfinite() and term > 0 for term in terms.values())


def test_terms_are_weighted(small):
    assert compute(resolve("at"), *small)["at"].item() == pytest.approx(1000 * at(*small).item())
    released = compute(resolve("kd:released"), *small)["kd"].item()
    assert released == pytest.approx(1000 * kd_released(*small).item())


def test_released_at_is_the_same_mathematics(small):
    assert compute(resolve("at:released"), *small) == compute(resolve("at"), *small)


def test_stages_may_weigh_differently(small):
    """NAD's 500, 1000, 1000 on the last three stages; a weight of one's own scales them together."""
    expected = sum(
        weight * at(*small, stages=(stage,)).item() for weight, stage in zip((500, 1000, 1000), FOUR[1:], strict=True)
    )
    assert compute(resolve("at:nad"), *small)["at"].item() == pytest.approx(expected)
    assert compute(resolve("at:nad", 100), *small)["at"].item() == pytest.approx(expected / 10)


def test_mimic_weighs_the_stages_by_the_teacher(small):
    loss = prepare(resolve("mimic"), {}, 0, taught=lambda: small[1])
    assert loss.relative == mimic_weights(small[1])
    expected = sum(
        1000 * weight * at(*small, stages=(stage,)).item() for weight, stage in zip(loss.relative, FOUR, strict=True)
    )
    terms = compute(loss, *small)
    assert terms["mimic"].item() == pytest.approx(expected)
    assert terms["cosine"] == cosine(*small)


def test_mimic_without_its_teacher_is_refused(small):
    with pytest.raises(ValueError, match="'mimic' weighs its stages by the teacher: hand in its representation"):
        prepare(resolve("mimic"), {}, 0)
    with pytest.raises(ValueError, match=r"'mimic' weighs its stages by the teacher: call prepare\(\) first"):
        compute(resolve("mimic"), *small)


def test_no_other_loss_looks_at_the_teacher_beforehand(small):
    def never():
        raise AssertionError

    channels = {stage: maps.shape[1] for stage, maps in small[0].maps.items()}
    assert [prepare(resolve(name), channels, 0, never).name for name in NAMES if name != "mimic"]


def test_weight_zero_leaves_the_term_out(small):
    assert compute(resolve("at", 0), *small) == {}


def test_learned_parameters_are_built_first(small):
    with pytest.raises(ValueError, match=r"'afd:learned' has parameters of its own: call prepare\(\) first"):
        compute(resolve("afd:learned"), *small)
    built = ready("afd:learned", small[0])
    assert isinstance(built.function, nn.Module)
    assert len(list(built.function.parameters())) == 4 * len(FOUR)
    assert prepare(resolve("at"), {}, 0) is resolve("at")


def test_a_random_attention_asks_for_its_generator(small):
    with pytest.raises(ValueError, match="'afd:released' draws its attention at random: hand in a generator"):
        compute(resolve("afd:released"), *small)


@pytest.mark.parametrize("name", NAMES)
def test_autocast_does_not_reach_into_a_loss(small, name):
    student, teacher = (type(r)(r.output.float(), {k: v.float() for k, v in r.maps.items()}) for r in small)
    loss = ready(name, student)

    def terms():
        return compute(loss, student, teacher, generator=torch.Generator().manual_seed(0))

    plain = terms()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = terms()
    assert {key: value.item() for key, value in plain.items()} == {k: v.item() for k, v in inside.items()}
    assert all(value.dtype == torch.float32 for value in inside.values())
