import hashlib
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from distill_lib.errors import UsageError
from distill_lib.tools.inspect.suspect import check_works, load_images, load_suspect

CPU = torch.device("cpu")


def changed(weights, tmp_path, change):
    tensors = load_file(weights)
    change(tensors)
    save_file(tensors, tmp_path / "changed.safetensors")
    return tmp_path / "changed.safetensors"


def test_an_encoder_is_read_as_it_was_written(weights, encoder, images):
    suspect = load_suspect(weights, "study_stem4", CPU)
    assert torch.equal(suspect.encoder(images / 255), encoder(images / 255))
    assert (suspect.side, suspect.encoder.training) == (32, False)
    assert suspect.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert suspect.parameters == sum(p.numel() for p in encoder.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("bn.weight"), "bn.weight"),
        (lambda t: t.update(more=torch.ones(1)), "more"),
        (lambda t: t.update({"conv.weight": torch.ones(17, 3, 3, 3)}), "size mismatch"),
        (lambda t: t.update({"conv.weight": torch.ones(2, 3, 3, 3)}), "width 2"),
        (lambda t: t.update({"conv.weight": torch.tensor(1.0)}), "none of this study"),
        (lambda t: t.clear(), "no depth of this study"),
        (lambda t: t["bn.bias"].fill_(float("nan")), "not finite"),
    ],
)
def test_weights_that_do_not_fit_are_one_sentence(weights, tmp_path, change, message):
    path = changed(weights, tmp_path, change)
    with pytest.raises(UsageError, match=message) as caught:
        load_suspect(path, "study_stem4", CPU)
    assert str(path) in str(caught.value)


class Runs:
    def __reduce__(self):
        return (open, ("/nonexistent/ran", "w"))


@pytest.mark.parametrize(
    "name", ["folder.safetensors", "cut.safetensors", "code.safetensors", "code.pt", "none.safetensors"]
)
def test_what_is_no_checkpoint_is_refused(weights, tmp_path, name):
    path = tmp_path / name
    if "folder" in name:
        path.mkdir()
    elif "cut" in name:
        path.write_bytes(weights.read_bytes()[:-50])
    elif "code" in name:
        path.write_bytes(pickle.dumps(Runs()))
    with pytest.raises(UsageError, match=r"allowed|cannot be read") as caught:
        load_suspect(path, "study_stem4", CPU)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("arch", [None, "resnet18"])
def test_the_architecture_must_be_known(weights, arch):
    with pytest.raises(UsageError, match="allowed: study_stem1"):
        load_suspect(weights, arch, CPU)


def test_an_encoder_that_tells_nothing_apart_is_refused(weights, tmp_path, images):
    suspect = load_suspect(changed(weights, tmp_path, lambda t: t["conv.weight"].zero_()), "study_stem4", CPU)
    with pytest.raises(UsageError, match="all the same"):
        check_works(suspect, images, "a file")


def test_pictures_are_cut_and_resized_in_the_order_of_their_names(folder):
    images = load_images(folder, 32)
    assert (images.shape, images.dtype) == ((20, 3, 32, 32), torch.uint8)
    assert torch.equal(images, load_images(folder, 32))
    assert len(images.unique(dim=0)) == 20


def test_fewer_than_16_pictures_are_refused(folder, tmp_path):
    with pytest.raises(UsageError, match="is not a folder"):
        load_images(tmp_path / "nowhere", 32)
    for number in range(15):
        (tmp_path / f"{number}.png").write_bytes((folder / f"{number:02d}.png").read_bytes())
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match="has 15 readable images; allowed: 16 or more"):
        load_images(tmp_path, 32)
