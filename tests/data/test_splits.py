import pytest
import torch

from distill_lib.data import ImageSet, clean_share, holdout
from distill_lib.errors import UsageError


def numbered(count, groups=None):
    """Images whose label is their number, so that a part says which ones it holds."""
    images = torch.zeros(count, 3, 2, 2, dtype=torch.uint8)
    groups = None if groups is None else torch.tensor(groups)
    return ImageSet("toy", "train", images, torch.arange(count), tuple(map(str, range(count))), "archive", groups)


def test_holdout_without_groups_is_exact_and_complete():
    train, held = holdout(numbered(200), 0.25, seed=3)
    assert (len(train), len(held)) == (150, 50)
    assert sorted(train.labels.tolist() + held.labels.tolist()) == list(range(200))


def test_holdout_never_divides_a_group():
    groups = [number // 30 for number in range(600)]  # 20 tracks of 30
    train, held = holdout(numbered(600, groups), 0.2, seed=0)
    assert not set(train.groups.tolist()) & set(held.groups.tolist())
    assert len(held) == 120
    assert len(train) + len(held) == 600


def test_holdout_by_groups_of_unequal_size_comes_near_the_share():
    groups = [number for number in range(40) for _ in range(1 + number % 7)]
    train, held = holdout(numbered(len(groups), groups), 0.3, seed=5)
    assert abs(len(held) / len(groups) - 0.3) < 7 / len(groups)
    assert not set(train.groups.tolist()) & set(held.groups.tolist())


def test_holdout_depends_on_the_seed_alone():
    images = numbered(100)
    first, again, other = (holdout(images, 0.2, seed)[1].labels.tolist() for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_holdout_refuses_a_share_out_of_range(share):
    with pytest.raises(UsageError, match="over 0 and under 1"):
        holdout(numbered(20), share, 0)


@pytest.mark.parametrize(("count", "groups", "share"), [(20, None, 0.01), (20, None, 0.99), (20, [0] * 20, 0.5)])
def test_holdout_refuses_an_empty_side(count, groups, share):
    with pytest.raises(UsageError, match="leaves nothing on one side of 'toy'"):
        holdout(numbered(count, groups), share, 0)


def test_clean_share_is_a_random_subset_not_the_head_of_the_file():
    images = numbered(1000)
    part = clean_share(images, 0.05, seed=0)
    rows = part.labels.tolist()
    assert len(part) == len(set(rows)) == 50
    assert rows == sorted(rows)
    assert max(rows) > 500
    assert rows != clean_share(images, 0.05, seed=1).labels.tolist()
    assert rows == clean_share(images, 0.05, seed=0).labels.tolist()


def test_clean_share_may_be_everything():
    assert clean_share(numbered(30), 1, 0).labels.tolist() == list(range(30))


def test_clean_share_and_holdout_draw_independently():
    images = numbered(400)
    held = set(holdout(images, 0.5, 7)[1].labels.tolist())
    common = held & set(clean_share(images, 0.5, 7).labels.tolist())
    assert 70 < len(common) < 130  # 100 expected, 5 the deviation


@pytest.mark.parametrize("share", [0, -1, 1.01])
def test_clean_share_refuses_a_share_out_of_range(share):
    with pytest.raises(UsageError, match=r"over 0 and at most 1"):
        clean_share(numbered(100), share, 0)


def test_clean_share_needs_sixteen_images():
    assert len(clean_share(numbered(160), 0.1, 0)) == 16
    with pytest.raises(UsageError, match=r"gives 15 of the 150 images of 'toy'; at least 16"):
        clean_share(numbered(150), 0.1, 0)


@pytest.mark.parametrize("split", [holdout, clean_share])
def test_a_negative_seed_is_refused(split):
    with pytest.raises(UsageError, match="seed of -1"):
        split(numbered(100), 0.5, -1)
