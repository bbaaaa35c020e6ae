"""Checkpoints of people who mean harm: each ends in one sentence, in bounded memory, and nothing in it runs."""

import builtins
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from distill_lib import __main__ as main_module

OPTIONS = ("--arch", "study_stem2", "--steps", "3", "--device", "cpu")
SPOT = "CANARY"  # what any code that runs leaves behind


class Runs:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def touching(folder):
    return f"touch {folder / SPOT}"


def written(folder):
    return f"open({str(folder / SPOT)!r}, 'w').close()"


def to_file(name, data):
    """A maker of a file with these bytes."""

    def make(folder, weights):
        (folder / name).write_bytes(data)
        return folder / name

    return make


def saved(name, value, **how):
    """A maker of what torch.save writes; `value` is a function of folder and weights."""

    def make(folder, weights):
        torch.save(value(folder, weights), folder / name, **how)
        return folder / name

    return make


def pickled(name, value, **how):
    """A maker of a bare pickle."""

    def make(folder, weights):
        (folder / name).write_bytes(pickle.dumps(value(folder, weights), **how))
        return folder / name

    return make


def changed(name, **tensors):
    """A maker of an encoder's file with some tensors replaced, or without those that are None."""

    def make(folder, weights):
        kept = {key: each for key, each in {**weights, **tensors}.items() if each is not None}
        save_file(kept, folder / name)
        return folder / name

    return make


def spoilt(value):
    """A maker of an encoder's file with one value replaced."""

    def make(folder, weights):
        weights = {name: each.clone() for name, each in weights.items()}
        weights["stage3.0.conv1.weight"].view(-1)[7] = value
        torch.save(weights, folder / "spoilt.pt")
        return folder / "spoilt.pt"

    return make


def cut(name):
    """A maker of a file that ends in the middle."""

    def make(folder, weights):
        (save_file if name.endswith("safetensors") else torch.save)(weights, folder / name)
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])
        return folder / name

    return make


def claimed(folder, weights):
    """A tensor of 100 GB in a file of 100 bytes."""
    entry = {"dtype": "F32", "shape": [5, 5 * 10**9], "data_offsets": [0, 10**11]}
    text = json.dumps({"conv.weight": entry}).encode()
    (folder / "claim.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 8)
    return folder / "claim.safetensors"


def zipped(name, records, **how):
    """A maker of a zip; `records` is a function of the folder."""

    def make(folder, weights):
        with zipfile.ZipFile(folder / name, "w", **how) as archive:
            for record, data in records(folder):
                archive.writestr(record, data)
        return folder / name

    return make


def tarred(folder, weights):
    """The form of torch before 0.1.10, with a pickle that runs."""
    data = pickle.dumps(Runs(os.system, touching(folder)), protocol=2)
    with tarfile.open(folder / "old.pt", "w") as archive:
        for name in ("pickle", "storages", "tensors"):
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return folder / "old.pt"


def piped(folder, weights):
    os.mkfifo(folder / "pipe.pt")
    return folder / "pipe.pt"


def circle(folder, weights):
    (folder / "circle.pt").symlink_to(folder / "circle2.pt")
    (folder / "circle2.pt").symlink_to(folder / "circle.pt")
    return folder / "circle.pt"


def inside(folder, weights):
    (folder / "folder.pt").mkdir()
    return folder / "folder.pt"


def system(folder, weights):
    return {**weights, "more": Runs(os.system, touching(folder))}


ZIP_PICKLE = b"\x80\x02}."
HOSTILE = {
    "pickle of os.system": (pickled("a.pt", system, protocol=2), "a bare pickle"),
    "pickle of eval": (pickled("a.pth", lambda folder, _: Runs(builtins.eval, written(folder))), "a bare pickle"),
    "pickle of subprocess": (
        pickled("a.bin", lambda folder, _: Runs(subprocess.call, ["touch", str(folder / SPOT)]), protocol=0),
        "no checkpoint",
    ),
    "torch, os.system": (saved("a.pt", system), "asks for 'posix.system'"),
    "torch, exec": (
        saved("a.ckpt", lambda folder, _: {"a": Runs(exec, written(folder))}),
        "asks for '__builtin__.exec'",
    ),
    "torch, import": (saved("a.pt", lambda *_: Runs(__import__, "os")), "asks for"),
    "torch, a bytearray of a terabyte": (saved("a.pt", lambda *_: Runs(bytearray, 10**12)), "bytearray'"),
    "torch, a whole model": (saved("a.pt", lambda *_: torch.nn.Linear(2, 2)), "asks for 'torch.nn.modules.linear"),
    "torch before 1.6": (saved("a.pt", system, _use_new_zipfile_serialization=False), "before 1.6"),
    "torch before 0.1.10": (tarred, "no checkpoint"),
    "torch, a tensor folded out to a terabyte": (
        saved("a.pt", lambda *_: {"a": torch.zeros(1).expand(500_000, 500_000)}),
        "larger than what the file holds",
    ),
    "renamed": (
        lambda folder, weights: saved("a.pt", system)(folder, weights).rename(folder / "a.safetensors"),
        "no safetensors file",
    ),
    "cut archive": (cut("a.pt"), "cut short"),
    "cut safetensors": (cut("a.safetensors"), "allowed: what is there"),
    "header of 100 GB": (to_file("a.safetensors", struct.pack("<Q", 10**11) + b"{}"), "100,000,000,000 bytes"),
    "tensor of 100 GB": (claimed, r"claims 1e\+11 bytes"),
    "header without end": (
        to_file("a.safetensors", struct.pack("<Q", 200_005) + b'{"a":' + b"[" * 200_000),
        "no JSON",
    ),
    "zip bomb": (
        zipped("a.pt", lambda _: [("a/data.pkl", ZIP_PICKLE), ("a/data/0", bytes(10**8))],
               compression=zipfile.ZIP_DEFLATED),
        r"unpack to 100,000,\d+ bytes",
    ),
    "TorchScript": (zipped("a.pt", lambda _: [("a/data.pkl", ZIP_PICKLE), ("a/constants.pkl", b"")]), "TorchScript"),
    "two pickles of one name": (
        zipped("a.pt", lambda folder: [
            ("a/data.pkl", ZIP_PICKLE), ("a/DATA.PKL", pickle.dumps(Runs(os.system, touching(folder)), 2))]),
        "ambiguous",
    ),
    "wrong shapes": (changed("a.safetensors", **{"bn.weight": torch.ones(17)}), r"'bn.weight' has the shape \(17,\)"),
    "a key too many": (changed("a.safetensors", more=torch.ones(3)), "'more' is unknown"),
    "a key too few": (changed("a.safetensors", **{"bn.weight": None}), "'bn.weight' is missing"),
    "a width of terabytes": (
        changed("a.safetensors", **{"conv.weight": torch.zeros(90_000, 3, 3, 3)}),
        "has the shape",
    ),
    "NaN": (spoilt(float("nan")), "'stage3.0.conv1.weight' holds NaN or infinity"),
    "infinity": (spoilt(float("-inf")), "'stage3.0.conv1.weight' holds NaN or infinity"),
    "a name that writes to terminals": (changed("a.safetensors", **{"\x1b[2J\n": torch.ones(1)}), r"'\\x1b\[2J\\n'"),
    "a folder": (inside, "it is a folder"),
    "a device": (lambda *_: "/dev/zero", "it is a device"),
    "a pipe": (piped, "it is a pipe"),
    "an empty file": (to_file("a.pt", b""), "it has 0 bytes"),
    "a text": (to_file("a.pt", b"these are no weights"), "no checkpoint"),
    "a text with another suffix": (to_file("a.txt", b"these are no weights"), "its suffix is '.txt'"),
    "links in a circle": (circle, "Too many levels of symbolic links"),
    "nothing": (lambda folder, _: folder / "nosuch.pt", "No such file"),
}  # fmt: skip


@pytest.fixture
def earlier(tmp_path):
    """A folder with what an earlier repair has written."""
    place = tmp_path / "out"
    (place / "clean.report").mkdir(parents=True)
    for name in ("clean.safetensors", "clean.md", "clean.report/report.json"):
        (place / name).write_text(f"earlier {name}")
    return place


def contents(place):
    return {path.relative_to(place): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_in_one_sentence(name, own_weights, folder, earlier, tmp_path, capsys):
    make, words = HOSTILE[name]
    (tmp_path / "in").mkdir()
    path = make(tmp_path / "in", own_weights)
    before = contents(earlier)
    capsys.readouterr()
    code = main_module.main(
        ["purify", str(path), "--images", str(folder), "--out", str(earlier / "clean.safetensors"), *OPTIONS]
    )
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert repr(str(path)) in err
    assert "allowed: " in err
    assert "\x1b" not in err
    assert re.search(words, err), err
    assert contents(earlier) == before
    assert not (tmp_path / "in" / SPOT).exists()


LIMITED = """
import resource, sys
import torch, safetensors.torch, torchvision
from distill_lib import __main__
from distill_lib.tools.purify import command, purify

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

rest = sys.argv[2:]
pages = int(open("/proc/self/statm").read().split()[0])
most = pages * resource.getpagesize() + 2**30
resource.setrlimit(resource.RLIMIT_AS, (most, most))
for path in sys.argv[1].split(":"):
    before = peak()
    code = __main__.main(["purify", path, *rest])
    print(code, (peak() - before) // 1024)
"""
HEAVY = (
    "header of 100 GB", "tensor of 100 GB", "zip bomb", "a device", "a width of terabytes",
    "torch, a bytearray of a terabyte", "torch, a tensor folded out to a terabyte", "header without end",
)  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are set as on Linux")
@pytest.mark.timeout(120)
def test_memory_stays_bounded(own_weights, folder, tmp_path):
    paths = []
    for number, name in enumerate(HEAVY):
        (tmp_path / str(number)).mkdir()
        paths.append(str(HOSTILE[name][0](tmp_path / str(number), own_weights)))
    arguments = [":".join(paths), "--images", str(folder), "--out", str(tmp_path / "clean.safetensors"), *OPTIONS]
    done = subprocess.run([sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True)
    lines = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(lines) == len(HEAVY), done.stderr
    assert [code for code, _ in lines] == [2] * len(HEAVY)
    assert max(grown for _, grown in lines) < 200, list(zip(HEAVY, lines, strict=True))  # MB
    assert len(done.stderr.splitlines()) == len(HEAVY)
    assert not (tmp_path / "clean.safetensors").exists()


def test_the_traps_would_have_snapped(tmp_path):
    """The payloads are live: an unpickler that trusts them runs them."""
    for number, value in enumerate((Runs(os.system, touching(tmp_path)), Runs(exec, written(tmp_path)))):
        pickle.loads(pickle.dumps(value))
        (tmp_path / SPOT).rename(tmp_path / f"{SPOT}{number}")
    assert {path.name for path in tmp_path.iterdir()} == {f"{SPOT}0", f"{SPOT}1"}
