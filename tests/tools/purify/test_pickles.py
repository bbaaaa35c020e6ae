import collections
import io
import os
import pickle
import time
import zipfile

import pytest
import torch

from distill_lib.tools.purify.pickles import MOST_OPERATIONS, audit
from distill_lib.tools.purify.refusal import Refusal, shown


def saved(value):
    """The pickle of torch.save, and the bytes of each record beside it."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    with zipfile.ZipFile(buffer) as archive:
        sizes = {entry.filename.partition("/")[2]: entry.file_size for entry in archive.infolist()}
        return archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl"))), sizes


@pytest.mark.parametrize(
    "value",
    [
        {"a": torch.zeros(3, 2), "b": torch.ones(2, dtype=torch.float16), "c": torch.tensor(7)},
        {"state_dict": torch.nn.BatchNorm2d(3).state_dict(), "epoch": 10**12, "names": ["x", None, True, 0.5, (1, 2)]},
        {"p": torch.nn.Parameter(torch.zeros(4)), "shared": [torch.zeros(2)] * 3, "long": list(range(3000))},
        torch.optim.Adam(torch.nn.Linear(2, 2).parameters()).state_dict(),
    ],
)
def test_what_training_programs_save_passes(value):
    audit(*saved(value))


class Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Runs(os.system, "true"), "asks for 'posix.system'"),
        (Runs(eval, "1"), "asks for '__builtin__.eval'"),
        (Runs(bytearray, 10**12), "asks for '__builtin__.bytearray'"),
        (Runs(torch.Tensor, 10**12), "asks for 'torch.Tensor'"),
        (torch.nn.Linear(2, 2), "asks for 'torch.nn.modules.linear.Linear'"),
        (collections.OrderedDict, None),
        ({1, 2}, "asks for '__builtin__.set'"),
    ],
)
def test_all_else_is_named_and_refused(value, words):
    data, sizes = saved(value)
    if words is None:  # the name alone does nothing
        audit(data, sizes)
        return
    with pytest.raises(Refusal, match=words):
        audit(data, sizes)


def test_protocols_that_torch_does_not_write_are_refused():
    with pytest.raises(Refusal, match="uses the operation FRAME"):
        audit(pickle.dumps(Runs(os.system, "true"), protocol=4), {})
    with pytest.raises(Refusal, match="asks for"):
        audit(pickle.dumps(Runs(os.system, "true"), protocol=0), {})


ORDERED = b"ccollections\nOrderedDict\n"
STORAGE = b"X\x07\x00\x00\x00storage"
FLOATS = b"ctorch\nFloatStorage\n"
CPU = b"X\x03\x00\x00\x00cpu"


def text(character):
    return b"X\x01\x00\x00\x00" + character


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x80\x02" + ORDERED + b"]\x85R.", "copies a dict"),
        (b"\x80\x02K\x01)R.", "calls what is no function"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "calls what is no function"),
        (b"\x80\x02}}b.", "sets the state of an object"),
        (b"\x80\x02(" + STORAGE + FLOATS + text(b"0") + CPU + b"K\x03tQ.", "3 elements and holds 8 bytes"),
        (b"\x80\x02(" + STORAGE + FLOATS + text(b"1") + CPU + b"K\x01tQ.", "1 elements and holds 0 bytes"),
        (b"\x80\x02(" + STORAGE + b"K\x01" + text(b"0") + CPU + b"K\x01tQ.", "refers to something"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + 6 * b"K\x01" + b"tR.", "makes a tensor of something"),
        (b"\x80\x02\x86.", "broken"),
        (b"\x80\x02h\x07.", "broken"),
        (b"\x80\x02}", "broken"),
        (b"", "broken"),
        (b"hello", "broken|operation"),
        (b"\x80\x02" + b"}" * (MOST_OPERATIONS + 1) + b".", "more than 500,000 operations"),
    ],
)
def test_pickles_made_by_hand_are_refused(data, words):
    with pytest.raises(Refusal, match=words):
        audit(data, {"data/0": 8})


def test_a_nest_of_tuples_costs_nothing():
    # Each tuple holds the one before twice: written out, it would have 2^60 parts.
    nest = b"\x80\x02K\x01" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60))
    begun = time.monotonic()
    audit(nest + b".", {})
    with pytest.raises(Refusal, match=r"broken|refers"):
        audit(nest + b"\x85Q.", {})
    assert time.monotonic() - begun < 5


def test_names_are_shown_without_control_characters():
    assert shown("a\x1b[2J\n") == r"'a\x1b[2J\n'"
    assert len(shown("x" * 10**6)) == 80
    assert shown((1, 2)) == "a tuple"
    assert shown(None) == "None"
