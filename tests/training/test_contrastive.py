"""NT-Xent against a transcription of SimCLR's pseudo-code, closed forms, symmetry and gradients."""

import math

import pytest
import torch

from distill_lib.training.contrastive import nt_xent


def draw(count, length, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(count, length, generator=generator, dtype=dtype) for _ in range(2))


def pseudo_code(z1, z2, temperature):
    """Algorithm 1 of Chen et al. (2020), its loops kept: views 2k-1 and 2k are of one image."""
    z = [row for both in zip(z1.tolist(), z2.tolist(), strict=True) for row in both]
    count = len(z)

    def similarity(i, j):
        dot = sum(a * b for a, b in zip(z[i], z[j], strict=True))
        return dot / (math.sqrt(sum(a * a for a in z[i])) * math.sqrt(sum(b * b for b in z[j])))

    def loss(i, j):
        others = sum(math.exp(similarity(i, k) / temperature) for k in range(count) if k != i)
        return -math.log(math.exp(similarity(i, j) / temperature) / others)

    return sum(loss(k, k + 1) + loss(k + 1, k) for k in range(0, count, 2)) / count


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("length", [1, 2, 5, 16])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_equals_the_pseudo_code(count, length, temperature):
    z1, z2 = draw(count, length, seed=count)
    expected = pseudo_code(z1, z2, temperature)
    assert nt_xent(z1, z2, temperature).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert nt_xent(z1.float(), z2.float(), temperature).item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_the_temperature_is_a_half_unless_said():
    assert nt_xent(*draw(4, 6)).item() == nt_xent(*draw(4, 6), 0.5).item()


@pytest.mark.parametrize("temperature", [0.07, 0.5, 2.0])
def test_all_views_alike_is_a_guess_among_2b_minus_1(temperature):
    same = torch.ones(5, 3)
    assert nt_xent(same, same, temperature).item() == pytest.approx(math.log(9), rel=1e-6)


@pytest.mark.parametrize("temperature", [0.07, 0.5, 2.0])
def test_agreeing_views_of_images_at_right_angles(temperature):
    eye = torch.eye(6, dtype=torch.float64)
    expected = math.log(1 + 10 * math.exp(-1 / temperature))
    assert nt_xent(eye, 3 * eye, temperature).item() == pytest.approx(expected, rel=1e-9)


def test_two_views_at_right_angles_to_everything():
    """Nothing resembles anything: every candidate scores 0."""
    eye = torch.eye(8, dtype=torch.float64)
    assert nt_xent(eye[:4], eye[4:]).item() == pytest.approx(math.log(7), rel=1e-9)


def test_one_image_has_nothing_to_be_told_from():
    assert nt_xent(*draw(1, 4)).item() == pytest.approx(0, abs=1e-12)


def test_symmetric_in_the_views_and_in_the_order_of_images():
    z1, z2 = draw(6, 4)
    value, order = nt_xent(z1, z2).item(), torch.randperm(6, generator=torch.Generator().manual_seed(1))
    assert nt_xent(z2, z1).item() == pytest.approx(value)
    assert nt_xent(z1[order], z2[order]).item() == pytest.approx(value)
    assert nt_xent(z1[order], z2).item() != pytest.approx(value)  # partners matter


def test_blind_to_the_length_of_projections():
    z1, z2 = draw(6, 4)
    assert nt_xent(100 * z1, z2 / 100).item() == pytest.approx(nt_xent(z1, z2).item())


def test_gradients_are_right_and_reach_both_views():
    z1, z2 = (each.requires_grad_() for each in draw(4, 3))
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.5), (z1, z2))
    nt_xent(z1, z2).backward()
    assert z1.grad.abs().sum() > 0
    assert z2.grad.abs().sum() > 0


def test_a_tiny_temperature_stays_finite():
    z1, z2 = (each.requires_grad_() for each in draw(8, 16, dtype=torch.float32))
    value = nt_xent(z1, z2, 1e-3)
    value.backward()
    assert value.isfinite()
    assert z1.grad.isfinite().all()


def test_low_precision_and_autocast_are_computed_in_float32():
    z1, z2 = draw(16, 8, dtype=torch.float32)
    plain = nt_xent(z1, z2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert nt_xent(z1, z2).item() == plain.item()
    low = nt_xent(z1.bfloat16(), z2.bfloat16())
    assert low.dtype == torch.float32
    assert low.item() == nt_xent(z1.bfloat16().float(), z2.bfloat16().float()).item()


def test_double_stays_double():
    assert nt_xent(*draw(3, 3)).dtype == torch.float64


@pytest.mark.parametrize("shapes", [((2, 3), (3, 3)), ((2, 3), (2, 4)), ((2, 3, 1), (2, 3, 1))])
def test_shapes_that_differ_are_named(shapes):
    with pytest.raises(ValueError, match="both must be one"):
        nt_xent(*(torch.zeros(shape) for shape in shapes))
