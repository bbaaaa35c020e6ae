import hashlib
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import resnet18

from distill_lib.errors import UsageError
from distill_lib.tools.inspect.suspect import Kind, Suspect, check_alike, check_works, load_suspect

CPU = torch.device("cpu")
OURS = Kind("study_stem4")


def changed(weights, tmp_path, change):
    tensors = load_file(weights)
    change(tensors)
    save_file(tensors, tmp_path / "changed.safetensors")
    return tmp_path / "changed.safetensors"


def test_an_encoder_is_read_as_it_was_written(weights, encoder, images):
    suspect = load_suspect(weights, OURS, CPU)
    assert torch.allclose(suspect.encoder(images / 255), encoder(images / 255), atol=1e-6)
    assert (suspect.side, suspect.encoder.training) == (32, False)
    assert suspect.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert suspect.parameters == sum(p.numel() for p in encoder.parameters())


def test_a_torchvision_resnet_is_read_without_its_head(tmp_path):
    torch.manual_seed(0)
    model = resnet18().eval()
    torch.save(model.state_dict(), tmp_path / "theirs.pth")
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    suspect = load_suspect(tmp_path / "theirs.pth", Kind("resnet18", 64, mean, std), CPU)
    head = sum(p.numel() for p in model.fc.parameters())
    assert suspect.parameters == sum(p.numel() for p in model.parameters()) - head
    model.fc = torch.nn.Identity()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = model((images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1))
        assert torch.allclose(suspect.encoder(images), expected, atol=1e-5)
    assert suspect.side == 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("bn.weight"), "bn.weight"),
        (lambda t: t.update(more=torch.ones(1)), "more"),
        (lambda t: t["bn.bias"].fill_(float("nan")), "NaN or infinity"),
    ],
)
def test_weights_that_do_not_fit_are_one_sentence(weights, tmp_path, change, message):
    path = changed(weights, tmp_path, change)
    with pytest.raises(UsageError, match=message) as caught:
        load_suspect(path, OURS, CPU)
    assert str(path) in str(caught.value)


class Runs:
    def __reduce__(self):
        return (open, ("/nonexistent/ran", "w"))


@pytest.mark.parametrize("name", ["folder.safetensors", "code.pt", "none.safetensors"])
def test_what_is_no_checkpoint_is_refused(tmp_path, name):
    path = tmp_path / name
    if "folder" in name:
        path.mkdir()
    elif "code" in name:
        path.write_bytes(pickle.dumps(Runs()))
    with pytest.raises(UsageError, match=r"refused|cannot be read") as caught:
        load_suspect(path, OURS, CPU)
    assert str(path) in str(caught.value)


def test_the_architecture_must_be_known(weights):
    with pytest.raises(UsageError, match="unknown architecture 'vgg'"):
        load_suspect(weights, Kind("vgg"), CPU)


def test_an_impossible_normalisation_is_refused():
    with pytest.raises(UsageError, match=r"std \(0.2, 0.2, 0.0\) is impossible"):
        Kind("resnet18", 32, (0.5, 0.5, 0.5), (0.2, 0.2, 0.0))


def test_an_encoder_that_tells_nothing_apart_is_refused(weights, tmp_path, images):
    suspect = load_suspect(changed(weights, tmp_path, lambda t: t["conv.weight"].zero_()), OURS, CPU)
    with pytest.raises(UsageError, match="all the same"):
        check_works(suspect, images, "a file")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Suspect(torch.nn.Linear(3, 1), 32, ""), "--clean has 4 parameters, the encoder 3; allowed"),
        (Suspect(torch.nn.Linear(2, 1), 64, ""), "--clean has 64 pixels a side, the encoder 32; allowed"),
    ],
)
def test_encoders_that_are_compared_are_of_one_kind(other, message):
    subject = Suspect(torch.nn.Linear(2, 1), 32, "")
    check_alike(subject, subject, "--clean")
    with pytest.raises(UsageError, match=message):
        check_alike(subject, other, "--clean")
