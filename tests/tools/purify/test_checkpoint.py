import hashlib
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from distill_lib.errors import UsageError
from distill_lib.tools.purify.checkpoint import read

WEIGHTS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.float16), "n": torch.tensor(3)}


def same(one, other):
    return list(one) == list(other) and all(
        torch.equal(one[name], other[name]) and one[name].dtype == other[name].dtype for name in one
    )


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".PT"])
def test_torchs_files_are_read(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    torch.save(WEIGHTS, path)
    found = read(path)
    assert same(found.tensors, WEIGHTS)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.notes == ()


def test_safetensors_are_read(tmp_path):
    save_file(WEIGHTS, tmp_path / "a.safetensors")
    assert same(dict(sorted(read(tmp_path / "a.safetensors").tensors.items())), WEIGHTS)


def test_what_was_read_does_not_change_with_the_file(tmp_path):
    torch.save(WEIGHTS, tmp_path / "a.pt")
    found = read(tmp_path / "a.pt")
    with open(tmp_path / "a.pt", "r+b") as file:
        file.write(b"\xff" * (tmp_path / "a.pt").stat().st_size)
    assert same(found.tensors, WEIGHTS)


@pytest.mark.parametrize("nest", [("state_dict",), ("model",), ("model", "state_dict")])
def test_the_state_dict_is_found_in_a_training_checkpoint(nest, tmp_path):
    saved = WEIGHTS
    for name in reversed(nest):
        saved = {"epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}, name: saved}
    torch.save(saved, tmp_path / "a.pt")
    found = read(tmp_path / "a.pt")
    assert same(found.tensors, WEIGHTS)
    assert found.notes == tuple(f"the weights lie under {name!r}" for name in nest)


def test_a_transposed_or_shared_tensor_is_read_as_it_is(tmp_path):
    shared = torch.arange(6.0)
    weights = {"a": shared.view(2, 3).T, "b": shared, "c": shared[2:4]}
    torch.save(weights, tmp_path / "a.pt")
    assert same(read(tmp_path / "a.pt").tensors, weights)


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        ([torch.zeros(1)], "it holds a list"),
        ({}, "no state dict"),
        ({"a": torch.zeros(1), "epoch": 3}, "no state dict"),
        ({"state_dict": WEIGHTS, "model": WEIGHTS, "epoch": 1}, "several state dicts"),
        ({"model": {"model": {"model": {"model": WEIGHTS}}}}, "deeper than 3 levels"),
        ({3: torch.zeros(1)}, "a tensor's name is 3"),
        ({"a": torch.tensor([1.0, float("nan")])}, "'a' holds NaN or infinity"),
        ({"a": torch.tensor([float("inf")], dtype=torch.float16)}, "'a' holds NaN or infinity"),
        ({"a": torch.zeros(1, 1).expand(10**6, 10**6)}, "larger than what the file holds"),
        ({"a": torch.zeros(0, 3)}, "is empty"),
        ({"a": torch.zeros(3, dtype=torch.complex64)}, "asks for 'torch.ComplexFloatStorage'"),
        ({"a": torch.zeros(3).to_sparse()}, "asks for"),
    ],
)
def test_what_is_no_state_dict_of_finite_tensors_is_refused(saved, words, tmp_path):
    torch.save(saved, tmp_path / "a.pt")
    with pytest.raises(UsageError, match=words) as caught:
        read(tmp_path / "a.pt")
    assert repr(str(tmp_path / "a.pt")) in str(caught.value)
    assert "allowed: " in str(caught.value)


def test_tensors_that_unfold_to_too_much_are_refused(tmp_path):
    shared = torch.zeros(1000)
    torch.save({f"a{number}": shared for number in range(10)}, tmp_path / "a.pt")
    assert len(read(tmp_path / "a.pt", 40_000).tensors) == 10
    with pytest.raises(UsageError, match="its tensors have 40,000 bytes; allowed: 39,999"):
        read(tmp_path / "a.pt", 39_999)


def test_no_other_suffix_is_read(tmp_path):
    torch.save(WEIGHTS, tmp_path / "a.pkl")
    with pytest.raises(UsageError, match=r"its suffix is '.pkl'; allowed: .safetensors, .pt, .pth, .bin, .ckpt"):
        read(tmp_path / "a.pkl")


def test_an_attribute_in_a_methods_place_does_no_harm(tmp_path):
    weights = torch.nn.Linear(2, 2).state_dict()
    weights.itemz = weights.valuez = 3
    torch.save(weights, tmp_path / "honest.pt")
    with zipfile.ZipFile(tmp_path / "honest.pt") as honest, zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        for entry in honest.infolist():
            archive.writestr(entry, honest.read(entry).replace(b"itemz", b"items").replace(b"valuez", b"values"))
    assert list(read(tmp_path / "a.pt").tensors) == ["weight", "bias"]
