"""The batched augmentation against torchvision: to the pixel for fixed draws, in distribution over many views."""

import math

import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from distill_lib.vision import augment
from distill_lib.vision.augment import Augmentation, apply

PLAIN = {"crop_scale": None, "flip": 0.0, "jitter_probability": 0.0, "greyscale": 0.0}
VIEWS = 2000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(count=48, size=32, seed=0):
    """Colourful images with structure: coarse noise plus fine noise, black and white spots, a grey image."""
    source = generator(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=source)
    images = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    images = (images + 0.3 * torch.rand(count, 3, size, size, generator=source) - 0.15).clamp(0, 1)
    images = (images * 255).round().to(torch.uint8)
    images[:, :, :3, :3], images[:, :, 5:8, 5:8] = 0, 255
    images[0] = images[0, :1]
    return images


ADJUST = (
    reference.adjust_brightness,
    reference.adjust_contrast,
    reference.adjust_saturation,
    reference.adjust_hue,
)


def one_view(image, draws, row):
    """torchvision's functions on one float image (3, H, W), with the draws of `row`."""
    top, left, height, width = (int(value) for value in draws["box"][row])
    size = list(image.shape[-2:])
    view = reference.resized_crop(image.float() / 255, top, left, height, width, size, antialias=True)
    if draws["flip"][row]:
        view = reference.horizontal_flip(view)
    if draws["jitter"][row]:
        for number in draws["order"][row].tolist():
            view = ADJUST[number](view, draws["factors"][row, number].item())
    return reference.rgb_to_grayscale(view, 3) if draws["grey"][row] else view


@pytest.mark.parametrize("size", [16, 32])
def test_pixels_equal_torchvisions_for_the_same_draws(size):
    images = pixels(size=size)
    draws = Augmentation().draw(len(images), size, generator(1), "cpu")
    draws["jitter"][:] = torch.arange(len(images)) % 4 > 0
    expected = torch.stack([one_view(image, draws, row) for row, image in enumerate(images)])
    torch.testing.assert_close(apply(images, draws), expected, atol=1e-3, rtol=0)


def test_what_a_gpu_does_is_the_same():
    images = pixels(200)
    draws = Augmentation().draw(len(images), 32, generator(1), "cpu")
    masked = augment._apply(images, draws, augment.jitter_masked)
    torch.testing.assert_close(masked, apply(images, draws), atol=1e-6, rtol=0)


def test_images_without_jitter_keep_their_colours():
    images = pixels(8).float() / 255
    draws = Augmentation().draw(len(images), 32, generator(1), "cpu") | {"jitter": torch.zeros(8, dtype=torch.bool)}
    assert torch.equal(augment.jitter_masked(images.clone(), draws), images)
    assert torch.equal(augment.jitter(images.clone(), draws, augment.NEVER), images)


def adjusted(images, number, factors):
    if number == augment.HUE:
        return augment.hue(images, factors)
    blended = images.clone()
    augment.blend(blended, torch.full_like(factors, number), factors)
    return blended


@pytest.mark.parametrize("number", range(4), ids=["brightness", "contrast", "saturation", "hue"])
def test_each_adjustment_alone(number):
    images = pixels(12).float() / 255
    low, high = (-0.5, 0.5) if number == 3 else (0.0, 2.0)
    for factor in torch.linspace(low, high, 7).tolist():
        factors = torch.full((len(images), 1), factor)
        expected = torch.stack([ADJUST[number](image, factor) for image in images])
        torch.testing.assert_close(adjusted(images, number, factors), expected, atol=1e-3, rtol=0)


def test_crops_equal_torchvisions_antialiased_bilinear_resize():
    images = pixels(6).float() / 255
    boxes = [(0, 0, 32, 32), (3, 7, 11, 20), (31, 31, 1, 1), (0, 30, 32, 2), (5, 0, 16, 31), (12, 12, 15, 14)]
    got = augment.resample(images, torch.tensor(boxes).float(), torch.zeros(6, dtype=torch.bool))
    for view, image, box in zip(got, images, boxes, strict=True):
        torch.testing.assert_close(
            view, reference.resized_crop(image, *box, [32, 32], antialias=True), atol=1e-5, rtol=0
        )


def test_interpolation_rows_are_weights():
    weights = augment.interpolation(torch.tensor([0.0, 5.0]), torch.tensor([32.0, 9.0]), 32)
    torch.testing.assert_close(weights[0], torch.eye(32))
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 32))
    assert (weights[1] > 0).any(0).nonzero().squeeze(1).tolist() == list(range(5, 14))


def test_nothing_switched_on_is_the_image_itself():
    images = pixels(5)
    assert torch.equal(Augmentation(**PLAIN)(images, generator()), images.float().div(255))


def test_flip_alone():
    settings = PLAIN | {"flip": 1.0}
    images = pixels(5)
    assert torch.equal(Augmentation(**settings)(images, generator()), images.flip(3).float().div(255))


def test_greyscale_alone():
    settings = PLAIN | {"greyscale": 1.0}
    images = pixels(5)
    expected = reference.rgb_to_grayscale(images.float().div(255), 3)
    torch.testing.assert_close(Augmentation(**settings)(images, generator()), expected, atol=1e-3, rtol=0)


def test_cut_out_is_one_grey_square_of_every_size_up_to_the_largest():
    images = torch.zeros(2000, 3, 32, 32, dtype=torch.uint8)
    views = Augmentation(**PLAIN, cutout=0.5)(images, generator())
    assert views.unique().tolist() == [0.0, 0.5]
    grey = views[:, 0] == 0.5
    assert torch.equal(views, 0.5 * grey[:, None].expand_as(views))
    rows, columns = grey.any(2), grey.any(1)
    assert torch.equal(grey, rows[:, :, None] & columns[:, None])
    whole = ~(grey[:, 0].any(1) | grey[:, -1].any(1) | grey[:, :, 0].any(1) | grey[:, :, -1].any(1))
    sides = rows[whole].sum(1)
    assert (sides - columns[whole].sum(1)).abs().max() <= 1  # a square, up to where its edges fall between pixels
    assert sides.max() == 16
    assert rows.float().mean(0)[[1, 16, 30]].tolist() == pytest.approx([0.15, 0.25, 0.15], abs=0.04)


def test_without_cut_out_nothing_is_drawn_for_it():
    images = pixels()
    plain, cut = generator(3), generator(3)
    Augmentation()(images, plain)
    Augmentation(cutout=0.5)(images, cut)
    assert not torch.equal(plain.get_state(), cut.get_state())
    assert torch.equal(Augmentation(cutout=0.0)(images, generator(3)), Augmentation()(images, generator(3)))


def test_views_are_floats_in_the_unit_interval_channels_last():
    views = Augmentation()(pixels(), generator())
    assert views.dtype == torch.float32
    assert views.is_contiguous(memory_format=torch.channels_last)
    assert views.min() >= 0
    assert views.max() <= 1


def test_one_draw_an_image():
    """Views of copies of one image all differ: a transform drawn once for the batch would make them equal."""
    views = Augmentation()(pixels(2)[1:].repeat(64, 1, 1, 1), generator()).flatten(1)
    distances = torch.cdist(views, views) + 1e6 * torch.eye(64)
    assert distances.min() > 0.1


def test_the_generator_is_the_only_source_of_randomness():
    images, source = pixels(), generator(5)
    before = torch.get_rng_state()
    first, second = Augmentation()(images, source), Augmentation()(images, source)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first, second)
    torch.rand(3)
    assert torch.equal(Augmentation()(images, generator(5)), first)
    assert not torch.equal(Augmentation()(images, generator(6)), first)


@pytest.mark.parametrize("chunk", [1, 7, 48])
def test_chunks_change_nothing(monkeypatch, chunk):
    whole = Augmentation()(pixels(), generator())
    monkeypatch.setattr(augment, "CHUNK", chunk)
    torch.testing.assert_close(Augmentation()(pixels(), generator()), whole, atol=1e-6, rtol=0)


def test_the_images_given_stay_as_they_were():
    images = pixels()
    kept = images.clone()
    Augmentation()(images, generator())
    assert torch.equal(images, kept)


def draw(count=4000, size=32, seed=0, **settings):
    return Augmentation(**settings).draw(count, size, generator(seed), "cpu")


def shares(boxes, size):
    return boxes[:, 2] * boxes[:, 3] / size**2


@pytest.mark.parametrize("size", [32, 224])
def test_boxes_lie_inside_the_image_and_keep_55_percent_of_it(size):
    top, left, height, width = draw(20000, size)["box"].unbind(1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (height >= 1).all()
    assert (width >= 1).all()
    assert (top + height <= size).all()
    assert (left + width <= size).all()
    assert torch.equal(top, top.round())
    assert torch.equal(width, width.round())
    assert (height * width / size**2).mean().item() == pytest.approx(0.55, abs=0.01)  # not .6: tries are rejected
    assert (width / height).log().mean().abs() < 0.005


def test_boxes_are_distributed_as_torchvisions():
    ours = draw(3000, 64)["box"]
    crop = v2.RandomResizedCrop(64, scale=(0.2, 1.0))
    blank = torch.zeros(3, 64, 64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [crop.make_params([blank]) for _ in range(3000)]
    theirs = torch.tensor([[box[name] for name in ("top", "left", "height", "width")] for box in drawn]).float()
    summaries = {
        "area": shares,
        "ratio": lambda box, _: box[:, 3] / box[:, 2],
        "top": lambda box, _: box[:, 0],
        "left": lambda box, _: box[:, 1],
        "centre": lambda box, _: box[:, 0] + box[:, 2] / 2,
    }
    for name, summary in summaries.items():
        assert ks_2samp(summary(ours, 64), summary(theirs, 64)).pvalue > 0.01, name


def test_a_crop_that_never_fits_is_the_whole_image():
    """Ten tries at an area above the image's own all fail, as in torchvision."""
    assert draw(5, crop_scale=(3.0, 4.0))["box"].tolist() == [[0, 0, 32, 32]] * 5


def test_probabilities_factors_and_orders():
    draws = draw(20000)
    for name, probability in (("flip", 0.5), ("jitter", 0.8), ("grey", 0.2)):
        assert draws[name].float().mean().item() == pytest.approx(probability, abs=0.015), name
    for number, (low, high) in enumerate([(0.6, 1.4)] * 3 + [(-0.1, 0.1)]):
        factor = draws["factors"][:, number]
        assert low <= factor.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < factor.max() <= high
        assert factor.mean().item() == pytest.approx((low + high) / 2, abs=0.01)
        assert factor.std().item() == pytest.approx((high - low) / math.sqrt(12), abs=0.005)
    codes, counts = (draws["order"] * torch.tensor([64, 16, 4, 1])).sum(1).unique(return_counts=True)
    assert len(codes) == 24  # all orders of four adjustments
    assert counts.min() > 0.8 * 20000 / 24
    assert torch.equal(draws["order"].sort(1).values, torch.arange(4).expand(20000, 4))


def test_draws_are_independent_of_each_other():
    draws = draw(20000)
    columns = [draws[name].float() for name in ("flip", "jitter", "grey")]
    columns += [*draws["factors"].unbind(1), shares(draws["box"], 32), draws["order"][:, 0].float()]
    correlation = torch.corrcoef(torch.stack(columns)) - torch.eye(len(columns))
    assert correlation.abs().max() < 0.03


def summaries(views):
    """Scalars of each view (B, 3, H, W) that every step of the augmentation moves."""
    red, green, blue = views.mean((2, 3)).unbind(1)
    grey = views.mean(1)
    left, right = grey.chunk(2, 2)
    return {
        "luminance": grey.mean((1, 2)),
        "contrast": grey.std((1, 2)),
        "red": red,
        "blue against green": blue - green,
        "colour": (views.amax(1) - views.amin(1)).mean((1, 2)),
        "left against right": left.mean((1, 2)) - right.mean((1, 2)),
        "fineness": grey.diff(dim=2).square().mean((1, 2)),
    }


@pytest.fixture(scope="module")
def many_views():
    """Views of one image, ours and torchvision's own transform applied one by one."""
    image = pixels(3, 24)[2]
    ours = Augmentation()(image.expand(VIEWS, 3, 24, 24), generator(11))
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(24, scale=(0.2, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
            v2.RandomGrayscale(0.2),
        ]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12)
        theirs = torch.stack([transform(image.float() / 255) for _ in range(VIEWS)])
    return summaries(ours), summaries(theirs), ours, theirs


def test_moments_equal_torchvisions(many_views):
    for name, ours in many_views[0].items():
        theirs = many_views[1][name]
        error = (ours.var() / VIEWS + theirs.var() / VIEWS).sqrt()
        assert (ours.mean() - theirs.mean()).abs() < 3 * error, name
        assert (ours.std() / theirs.std()).log().abs() < 0.12, name


def test_distributions_equal_torchvisions(many_views):
    for name, ours in many_views[0].items():
        assert ks_2samp(ours, many_views[1][name]).pvalue > 0.01, name


def test_mean_and_deviation_of_every_pixel_equal_torchvisions(many_views):
    ours, theirs = many_views[2], many_views[3]
    error = ((ours.var(0) + theirs.var(0)) / VIEWS).sqrt()
    scores = (ours.mean(0) - theirs.mean(0)) / error
    assert scores.abs().max() < 5
    assert (ours.std(0) / theirs.std(0) - 1).abs().max() < 0.15


def test_greyscale_views_are_as_many(many_views):
    ours, theirs = (((each.amax(1) - each.amin(1)).flatten(1).amax(1) < 1e-4).float().mean() for each in many_views[2:])
    assert ours.item() == pytest.approx(0.2, abs=0.03)
    assert theirs.item() == pytest.approx(0.2, abs=0.03)
