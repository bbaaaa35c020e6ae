"""Two encoders' views of one batch, and the properties that every distillation loss must have."""

import pytest
import torch

from distill_lib.distillation.losses import Representation

SHAPES = [(2, 3, 1, 1), (3, 4, 2, 2), (5, 2, 3, 2)]
STAGES = ("stage1", "stage2", "stage3", "stage4")


def draw(shape, seed, dtype=torch.float64):
    """Stage maps of growing depth and shrinking size, non-negative like those after a ReLU, and an output."""
    count, channels, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    maps = {}
    for index, stage in enumerate(STAGES):
        size = (count, channels + index, height + 3 - index, width + 3 - index)
        maps[stage] = torch.rand(size, generator=generator, dtype=dtype) + 0.05
    return Representation(torch.randn(count, 6, generator=generator, dtype=dtype), maps)


def leaves(representation, dtype=None):
    """A copy whose tensors collect gradients."""
    output, maps = representation
    fresh = [each.to(dtype or each.dtype).detach().clone().requires_grad_() for each in (output, *maps.values())]
    return Representation(fresh[0], dict(zip(maps, fresh[1:], strict=True)))


def tensors(representation):
    return [representation.output, *representation.maps.values()]


@pytest.fixture(params=SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def pair(request):
    """Student and teacher, float64, over a grid of shapes."""
    return draw(request.param, 1), draw(request.param, 2)


@pytest.fixture
def small():
    """One small student and teacher, float64."""
    return draw(SHAPES[1], 3), draw(SHAPES[1], 4)


@pytest.fixture
def at_stage():
    """A representation from one map (B, C, H, W), at one stage or at all four."""

    def build(maps, *stages):
        maps = torch.as_tensor(maps, dtype=torch.float64)
        return Representation(maps.mean((2, 3)), dict.fromkeys(stages or STAGES, maps))

    return build


@pytest.fixture
def at_output():
    """A representation from an output (B, D) alone."""
    return lambda output: Representation(torch.as_tensor(output, dtype=torch.float64), {})


@pytest.fixture
def obeys_contract(small):
    """What every loss owes: a scalar, float32 from low precision, right gradients to the student alone."""

    def check(loss):
        student, teacher = map(leaves, small)
        value = loss(student, teacher)
        assert value.shape == ()
        value.backward()
        assert all(each.grad is None for each in tensors(teacher))
        reached = [each.grad for each in tensors(student) if each.grad is not None]
        assert reached
        assert all(grad.isfinite().all() and grad.abs().sum() > 0 for grad in reached)
        _casts_up(loss, small, value)
        _gradient_is_right(loss, small)

    return check


def _casts_up(loss, small, value):
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.1)):
        student, teacher = (leaves(each, dtype) for each in small)
        low = loss(student, teacher)
        assert low.dtype == torch.float32
        torch.testing.assert_close(low.double(), value, rtol=tolerance, atol=1e-6)


def _gradient_is_right(loss, small):
    student, teacher = leaves(small[0]), small[1]

    def function(*values):
        return loss(Representation(values[0], dict(zip(STAGES, values[1:], strict=True))), teacher)

    assert torch.autograd.gradcheck(function, tensors(student))
