import numpy as np
import pytest
import torch

from distill_lib.data import load
from distill_lib.data.archives import has_archives, read_archive
from distill_lib.errors import UsageError

X = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
Y = np.array([0, 1, 2, 0, 1, 2])


def write(root, name="toy", file="train.npz", **arrays):
    path = root / name / file
    path.parent.mkdir(exist_ok=True)
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("y", [Y, Y[:, None], Y.astype(np.uint8), Y.astype(np.int32)[:, None]])
def test_labels_of_every_layout(tmp_path, y):
    write(tmp_path, x=X, y=y)
    images = load("toy", data_dir=tmp_path)
    assert images.labels.tolist() == Y.tolist()
    assert images.labels.dtype == torch.int64
    assert images.classes == ("0", "1", "2")
    assert (images.source, images.split, images.groups) == ("archive", "train", None)


def test_pixels_are_the_stored_ones(tmp_path):
    write(tmp_path, x=X[:, :20, :28], y=Y)
    images = load("toy", data_dir=str(tmp_path)).images
    assert images.shape == (6, 3, 20, 28)
    assert images.is_contiguous()
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), X[:, :20, :28])


@pytest.mark.parametrize("track", [np.arange(6) + 40, np.arange(6)[:, None] + 40])
def test_tracks_become_groups(tmp_path, track):
    write(tmp_path, x=X, y=Y, track=track)
    assert load("toy", data_dir=tmp_path).groups.tolist() == list(range(40, 46))


def test_other_arrays_are_left_alone(tmp_path):
    write(tmp_path, x=X, y=Y, coarse=np.array(["a"] * 6))
    assert len(load("toy", data_dir=tmp_path)) == 6


@pytest.mark.parametrize("file", ["unlabeled.npz", "unlabelled.npz"])
@pytest.mark.parametrize("split", ["unlabeled", "unlabelled"])
@pytest.mark.parametrize("extra", [{}, {"y": np.zeros(6, int)}, {"y": np.full(6, -1)}])
def test_unlabelled_split(tmp_path, file, split, extra):
    write(tmp_path, "stl10", file, x=X, **extra)
    images = load("stl10", split, data_dir=tmp_path)
    assert images.labels.tolist() == [-1] * 6
    assert (images.classes, images.split) == ((), "unlabelled")


def test_known_sets_have_names_for_their_classes(tmp_path):
    write(tmp_path, "gtsrb", x=X, y=Y)
    write(tmp_path, "cifar10", x=X, y=Y)
    write(tmp_path, "cifar100", x=X, y=Y)
    write(tmp_path, "mnist", x=X, y=Y)
    gtsrb = load("gtsrb", data_dir=tmp_path).classes
    assert (len(gtsrb), len(set(gtsrb)), gtsrb[12], gtsrb[14]) == (43, 43, "priority road", "stop")
    assert load("cifar10", data_dir=tmp_path).classes[::9] == ("airplane", "truck")
    assert load("cifar100", data_dir=tmp_path).classes[-1] == "99"
    assert load("mnist", data_dir=tmp_path).classes == tuple("0123456789")


def test_test_split_has_the_classes_of_the_training_split(tmp_path):
    write(tmp_path, x=X, y=Y)
    write(tmp_path, file="test.npz", x=X, y=Y % 2)
    assert load("toy", "test", data_dir=tmp_path).classes == ("0", "1", "2")
    write(tmp_path, file="test.npz", x=X, y=Y + 1)
    with pytest.raises(UsageError, match=r"test\.npz .* label 3, but 'toy' has 3 classes \(0 to 2\)"):
        load("toy", "test", data_dir=tmp_path)


WRONG = {
    "no x": ({"y": Y}, "holds no array x"),
    "no y": ({"x": X}, "holds no array y"),
    "float pixels": ({"x": X / 255, "y": Y}, "x is float64, not uint8"),
    "grey": ({"x": X[..., 0], "y": Y}, r"shape \(6, 32, 32\), not \(N, H, W, 3\)"),
    "channels first": ({"x": X.transpose(0, 3, 1, 2), "y": Y}, r"shape \(6, 3, 32, 32\)"),
    "no height": ({"x": X[:, :0], "y": Y}, r"shape \(6, 0, 32, 3\)"),
    "empty": ({"x": X[:0], "y": Y[:0]}, "is empty"),
    "no labels": ({"x": X, "y": Y[:0]}, "is empty"),
    "too few labels": ({"x": X, "y": Y[:5]}, "x holds 6 images, y 5 values"),
    "too few tracks": ({"x": X, "y": Y, "track": Y[:5]}, "x holds 6 images, track 5 values"),
    "one class": ({"x": X, "y": Y * 0 + 2}, r"of one class \(2\)"),
    "negative": ({"x": X, "y": Y - 1}, "negative label -1"),
    "absurd": ({"x": X, "y": Y * 10**9}, "label 2000000000"),
    "float labels": ({"x": X, "y": Y / 1}, "y is float64, not integers"),
    "one-hot labels": ({"x": X, "y": np.eye(3, dtype=int)[Y]}, r"y has the shape \(6, 3\)"),
    "pickled labels": ({"x": X, "y": Y.astype(object)}, "cannot be read"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_content_is_one_sentence(tmp_path, case):
    arrays, said = WRONG[case]
    path = write(tmp_path, **arrays)
    with pytest.raises(UsageError, match=said) as caught:
        load("toy", data_dir=tmp_path)
    message = str(caught.value)
    assert str(path) in message
    assert "replace the file" in message
    assert "\n" not in message


def test_label_over_a_known_number_of_classes(tmp_path):
    write(tmp_path, "cifar10", x=X, y=Y * 5)
    with pytest.raises(UsageError, match="label 10, but 'cifar10' has 10 classes"):
        load("cifar10", data_dir=tmp_path)


@pytest.mark.parametrize("keep", [0, 3, 200, 5000, -30])
def test_truncated_file(tmp_path, keep):
    path = write(tmp_path, x=X, y=Y)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UsageError, match="it cannot be read") as caught:
        load("toy", data_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_damaged_pixels(tmp_path):
    path = write(tmp_path, x=X, y=Y)
    content = bytearray(path.read_bytes())
    content[3000] ^= 255
    path.write_bytes(content)
    with pytest.raises(UsageError, match="it cannot be read"):
        load("toy", data_dir=tmp_path)


def test_text_a_bare_array_or_a_folder_in_place_of_an_npz(tmp_path):
    path = write(tmp_path, x=X, y=Y)
    path.write_text("no images here\n" * 9)
    with pytest.raises(UsageError, match="it cannot be read"):
        load("toy", data_dir=tmp_path)
    with path.open("wb") as file:
        np.save(file, X)
    with pytest.raises(UsageError, match="a single array, not an npz"):
        load("toy", data_dir=tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(UsageError, match="it cannot be read"):
        load("toy", data_dir=tmp_path)


def test_missing_split_names_the_file_and_the_way_out(tmp_path):
    write(tmp_path, "cifar10", "test.npz", x=X, y=Y)
    with pytest.raises(UsageError, match=r"no file .*train\.npz; put the train images there"):
        load("cifar10", data_dir=tmp_path, download=False)
    with pytest.raises(UsageError, match=r"no file .*unlabeled\.npz"):
        read_archive(tmp_path, "cifar10", "unlabelled")


def test_a_folder_without_archives_is_no_archive(tmp_path):
    (tmp_path / "gtsrb" / "GTSRB").mkdir(parents=True)  # where torchvision keeps its own files
    assert not has_archives(tmp_path, "gtsrb")
