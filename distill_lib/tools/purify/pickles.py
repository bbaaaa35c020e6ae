"""What the pickle in a checkpoint would do, found out without doing any of it.

torch.load(weights_only=True) runs no foreign code, but it allocates what a pickle asks for (a bytearray, a tensor of
any size) before anyone can look at it. So the pickle is walked first, on stand-ins: nothing is imported, called or
allocated, and only what torch.save writes for plain weights passes.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from distill_lib.tools.purify.refusal import Refusal, shown

MOST_OPERATIONS = 500_000  # ResNet-152 with the state of its optimiser takes about 80,000

# Storage class -> bytes an element.
STORAGES = {
    **dict.fromkeys(("torch DoubleStorage", "torch LongStorage"), 8),
    **dict.fromkeys(("torch FloatStorage", "torch IntStorage"), 4),
    **dict.fromkeys(("torch HalfStorage", "torch BFloat16Storage", "torch ShortStorage"), 2),
    **dict.fromkeys(("torch CharStorage", "torch ByteStorage", "torch BoolStorage"), 1),
}


class Global(NamedTuple):
    """A class or function that the pickle names, as "module name"."""

    path: str


class StandIn:
    """Something that would be made; each kind is one object, known by identity."""


STORAGE, TENSOR, ORDERED, LIST, DICT = (StandIn() for _ in range(5))


def audit(data: bytes, records: Mapping[str, int]) -> None:
    """Walk through a pickle.

    Args:
        data: The pickle.
        records: Bytes of each record of the archive that it lies in, by name (`data/0`).

    Raises:
        Refusal: If it would do anything but put tensors of these records into dicts and lists.
    """
    machine = _Machine(records)
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
            if count >= MOST_OPERATIONS:
                raise Refusal(f"its pickle has more than {MOST_OPERATIONS:,} operations; allowed: that many")
            if operation.name not in OPERATIONS:
                raise Refusal(f"its pickle uses the operation {operation.name}; allowed: those of torch.save")
            OPERATIONS[operation.name](machine, argument)
    except Refusal:
        raise
    except Exception as error:  # nonsense fails in many ways: ValueError, IndexError, TypeError, UnicodeDecodeError
        raise Refusal("its pickle is broken; allowed: what torch.save writes") from error


class _Machine:
    """The stack and the memo of an unpickler, holding numbers, texts and tuples, and stand-ins for all else."""

    def __init__(self, records: Mapping[str, int]):
        self.records = records
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # stacks under each open mark
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        found, self.stack = self.stack, self.below.pop()
        return found

    def take(self, count: int) -> tuple[Any, ...]:
        """The last `count` values, off the stack."""
        if count > len(self.stack):
            raise IndexError("the stack is empty")
        taken = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return taken

    def put(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def name(self, path: str) -> None:
        if path not in CALLS and path not in STORAGES:
            raise Refusal(f"its pickle asks for {shown(path.replace(' ', '.'))}; allowed: tensors, numbers and names")
        self.push(Global(path))

    def call(self) -> None:
        function, arguments = self.take(2)
        if not isinstance(function, Global) or function.path not in CALLS:
            raise Refusal("its pickle calls what is no function of torch.save; allowed: the making of tensors")
        self.push(CALLS[function.path](arguments))

    def build(self) -> None:
        target, _ = self.take(2)
        if target is not ORDERED:
            raise Refusal("its pickle sets the state of an object; allowed: that of an ordered dict")
        self.push(target)

    def fetch(self) -> None:
        """A storage of the archive: ("storage", class, key, device, elements)."""
        word, kind, key, _, elements = self.take(1)[0]
        if word != "storage" or not isinstance(kind, Global) or kind.path not in STORAGES:
            raise Refusal("its pickle refers to something outside; allowed: the records of the archive")
        held = self.records.get(f"data/{key}") if isinstance(key, str) else None
        if held is None or type(elements) is not int or not 0 <= elements * STORAGES[kind.path] <= held:
            raise Refusal(
                f"record {shown(key)} is said to hold {shown(elements)} elements and holds {held or 0} bytes; "
                "allowed: records that are there, at their size"
            )
        self.push(STORAGE)


def _ordered(arguments: Any) -> StandIn:
    if arguments != ():  # a filled one would be a copy, and copies of copies fill any memory
        raise Refusal("its pickle copies a dict; allowed: dicts that are filled once")
    return ORDERED


def _tensor(arguments: Any) -> StandIn:
    if not isinstance(arguments, tuple) or len(arguments) < 6 or arguments[0] is not STORAGE:
        raise Refusal("its pickle makes a tensor of something else than a record; allowed: of records of the archive")
    return TENSOR


def _parameter(arguments: Any) -> StandIn:
    if not isinstance(arguments, tuple) or len(arguments) != 3 or arguments[0] is not TENSOR:
        raise Refusal("its pickle makes a parameter of something else than a tensor; allowed: of tensors")
    return TENSOR


CALLS: dict[str, Callable[[Any], StandIn]] = {
    "collections OrderedDict": _ordered,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
}


def _pushing(value: Any) -> Callable[[_Machine, Any], Any]:
    return lambda machine, _: machine.push(value)


def _own(machine: _Machine, argument: Any) -> None:
    machine.push(argument)


def _tuple_of(count: int) -> Callable[[_Machine, Any], Any]:
    return lambda machine, _: machine.push(machine.take(count))


def _dropping(count: int) -> Callable[[_Machine, Any], Any]:
    return lambda machine, _: machine.take(count)


OPERATIONS: dict[str, Callable[[_Machine, Any], Any]] = {
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"), _own),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), lambda machine, place: machine.put(place)),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda machine, place: machine.push(machine.memo[place])),
    **dict.fromkeys(("APPENDS", "SETITEMS"), lambda machine, _: machine.since_mark()),
    **dict.fromkeys(("PROTO", "STOP"), lambda machine, _: None),
    "NONE": _pushing(None),
    "NEWTRUE": _pushing(True),
    "NEWFALSE": _pushing(False),
    "EMPTY_TUPLE": _pushing(()),
    "EMPTY_LIST": _pushing(LIST),
    "EMPTY_DICT": _pushing(DICT),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "MARK": lambda machine, _: machine.mark(),
    "APPEND": _dropping(1),
    "SETITEM": _dropping(2),
    "GLOBAL": lambda machine, path: machine.name(path),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.fetch(),
}
