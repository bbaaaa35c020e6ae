from dataclasses import FrozenInstanceError

import pytest
import torch

from distill_lib.data import ImageSet


def make(count=6, groups=None, seed=0):
    images = torch.randint(0, 256, (count, 3, 4, 5), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    return ImageSet("toy", "train", images, torch.arange(count) % 2, ("a", "b"), "archive", groups)


@pytest.mark.parametrize("index", [[4, 1], torch.tensor([4, 1]), range(4, 0, -3)])
def test_subset_keeps_the_order_asked_for(index):
    whole = make(groups=torch.arange(6) + 10)
    part = whole.subset(index)
    assert part.labels.tolist() == [0, 1]
    assert part.groups.tolist() == [14, 11]
    assert torch.equal(part.images, whole.images[[4, 1]])
    assert (part.name, part.classes, len(part)) == ("toy", ("a", "b"), 2)


def test_subset_by_mask_slice_and_nothing():
    whole = make()
    assert torch.equal(whole.subset(whole.labels == 1).images, whole.images[1::2])
    assert torch.equal(whole.subset(slice(1, 3)).images, whole.images[1:3])
    assert len(whole.subset([])) == 0


def test_digest_follows_pixels_labels_and_groups_only():
    first, same, other = make(), make(), make(seed=1)
    assert first.digest == same.digest
    assert len(first.digest) == 64
    assert first.digest != other.digest
    relabelled = ImageSet("toy", "train", first.images, first.labels.flip(0), ("a", "b"), "archive")
    renamed = ImageSet("else", "test", first.images, first.labels, ("c", "d"), "torchvision")
    grouped = ImageSet("toy", "train", first.images, first.labels, ("a", "b"), "archive", torch.arange(6))
    assert relabelled.digest != first.digest == renamed.digest != grouped.digest


def test_a_subset_has_its_own_digest():
    whole = make()
    before = whole.digest
    assert whole.subset([0, 1]).digest != before
    assert whole.subset(range(6)).digest == before


def test_to_the_same_device_is_the_set_itself():
    whole = make()
    assert whole.to("cpu") is whole


def test_to_another_device_moves_everything_and_keeps_the_digest():
    whole = make(groups=torch.arange(6))
    digest = whole.digest
    moved = whole.to("meta")  # a device without memory: shapes only, on every machine
    assert {moved.images.device.type, moved.labels.device.type, moved.groups.device.type} == {"meta"}
    assert moved.digest == digest


def test_images_are_made_contiguous():
    images = torch.zeros(2, 4, 5, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
    assert ImageSet("toy", "train", images, torch.zeros(2).long(), ("a",), "archive").images.is_contiguous()


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2).long(), "uint8"),
        (torch.zeros(2, 4, 4, 3, dtype=torch.uint8), torch.zeros(2).long(), "N, 3, H, W"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3).long(), "labels must be"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2), "labels must be"),
    ],
)
def test_wrong_tensors_are_refused(images, labels, said):
    with pytest.raises(ValueError, match=said):
        ImageSet("toy", "train", images, labels, ("a",), "archive")


def test_a_set_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        make().labels = torch.zeros(6).long()
