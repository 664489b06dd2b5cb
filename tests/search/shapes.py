"""Parts of a world, interned: a part is pickled, stepped and compared once, however many worlds it
is in.

Sessions have names, drawn at random, of which only matters which are equal. A *shape* is a part
without regard to them: two parts have one shape where they differ in names alone. The names are
kept beside the shape's number, in the order in which they come in the part.
"""

import itertools
import pickle
from collections import deque
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from tiers.core.hop.peers import PeerLimits

NAME_BYTES: Final = 8  # nothing else that is kept is bytes of this length
_count = itertools.count(1)


def draw() -> bytes:
    """A name that nothing has had."""
    return next(_count).to_bytes(NAME_BYTES, "big")


T = TypeVar("T")


class Shapes(Generic[T]):
    """The shapes of one kind of part, numbered."""

    def __init__(self) -> None:
        self._numbers: dict[object, int] = {}
        self._packed: list[bytes] = []
        self.names: list[tuple[bytes, ...]] = []  # in the value that stands for the shape

    def __len__(self) -> int:
        return len(self._packed)

    def number(self, value: T) -> tuple[int, tuple[bytes, ...]]:
        """The shape of a value, and the value's names."""
        named: dict[bytes, int] = {}
        key = _frozen(value, named, {})
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._packed)
            self._packed.append(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
            self.names.append(tuple(named))
        return number, tuple(named)

    def value(self, number: int) -> T:
        """A value of the shape, to do with as one likes."""
        value: T = pickle.loads(self._packed[number])
        return value


def _frozen(value: Any, named: dict[bytes, int], met: dict[int, int]) -> object:
    """Hashable, with names numbered as they come. An object that is met again is told by its
    place, since what happens to it will be seen from both."""
    if isinstance(value, bytes) and len(value) == NAME_BYTES:
        return named.setdefault(value, len(named)), "name"
    if isinstance(value, bytes | str | int | float | None):
        return value
    if isinstance(value, dict):
        items = [(_frozen(k, named, met), _frozen(v, named, met)) for k, v in value.items()]
        return tuple(items) if items else ()
    if isinstance(value, set | frozenset):
        return frozenset(value)
    if isinstance(value, list | tuple | deque):
        return _all_frozen(value, named, met) if value else ()
    if isinstance(value, PeerLimits) or callable(value):
        return ()
    if id(value) in met:
        return met[id(value)], "again"
    met[id(value)] = len(met)
    names = _names_of(type(value))
    values = vars(value).values() if names is None else [getattr(value, one) for one in names]
    return _all_frozen(values, named, met)


_ATOMS: Final = frozenset((int, float, str, bool, type(None)))


def _all_frozen(values: Iterable[Any], named: dict[bytes, int], met: dict[int, int]) -> object:
    # Most are atoms: a call for each of them is what searches would take most of their time for.
    return tuple([one if type(one) in _ATOMS else _frozen(one, named, met) for one in values])


_FIELDS: dict[type, tuple[str, ...] | None] = {}


def _names_of(kind: type) -> tuple[str, ...] | None:
    """Of its fields; None where it is no dataclass."""
    if kind not in _FIELDS:
        plain = not is_dataclass(kind)
        _FIELDS[kind] = None if plain else tuple([one.name for one in fields(kind)])
    return _FIELDS[kind]


class Messages:
    """The shapes of messages."""

    def __init__(self) -> None:
        self._shapes: Shapes[Any] = Shapes()
        self.kinds: list[Any] = []  # one of each, to be looked at

    def number(self, message: Any) -> tuple[int, tuple[bytes, ...]]:
        number, names = self._shapes.number(message)
        if number == len(self.kinds):
            self.kinds.append(message)
        return number, names

    def called(self, number: int, names: tuple[bytes, ...]) -> Any:
        """A message of that shape with these names."""
        message = self.kinds[number]
        new = dict(zip(self._shapes.names[number], names, strict=True))
        had = {name: getattr(message, name, b"") for name in ("session", "token")}
        return replace(message, **{name: new[old] for name, old in had.items() if old in new})


# A name in what comes of a step: the place that it had among the part's names before, or FRESH
# and its place among the names of the message that was heard, or DRAWN and any number.
Ref = int
FRESH: Final = 1000
DRAWN: Final = 2000
Heard = tuple[int, tuple[Ref, ...]]  # a message's shape, and its names


class Outcome(NamedTuple):
    """What comes of a step."""

    after: int  # the part's shape
    names: tuple[Ref, ...]
    said: tuple[tuple[str, int, tuple[Ref, ...]], ...]  # to whom, what
    told: Any  # what else the world has to know


class Part(Protocol):
    """Something that is stepped."""

    def settle(self) -> None:
        """Takes out what no further step depends on, so that equal futures have one shape."""

    def taken(self) -> tuple[list[tuple[str, Any]], Any]:
        """What it has said, to whom, and what else is told; it is forgotten by that."""


P = TypeVar("P", bound=Part)


class Parts(Generic[P]):
    """The shapes of a part, and what comes of each step of each."""

    def __init__(self, messages: Messages) -> None:
        self.shapes: Shapes[P] = Shapes()
        self._messages = messages
        self._steps: dict[tuple[object, ...], Outcome] = {}

    def step(self, part: int, what: str, *args: Any, heard: Heard | None = None) -> Outcome:
        """Calls the method `what`, with the message at the end when one is heard."""
        key = (part, what, args, heard)
        known = self._steps.get(key)
        if known is None:
            known = self._steps[key] = self._step(part, what, args, heard)
        return known

    def _step(self, part: int, what: str, args: tuple[Any, ...], heard: Heard | None) -> Outcome:
        stepped = self.shapes.value(part)
        names = self.shapes.names[part]
        refs = {name: ref for ref, name in enumerate(names)}
        if heard is not None:
            message, places = heard
            called = tuple([names[ref] if ref < FRESH else draw() for ref in places])
            refs |= {name: ref for name, ref in zip(called, places, strict=True) if ref >= FRESH}
            args = (*args, self._messages.called(message, called))
        getattr(stepped, what)(*args)
        said, told = stepped.taken()
        stepped.settle()
        after, names = self.shapes.number(stepped)

        def ref(name: bytes) -> Ref:
            return refs.setdefault(name, DRAWN + len(refs))

        left = tuple([ref(name) for name in names])
        sent = []
        for whom, message in said:
            shape, names = self._messages.number(message)
            sent.append((whom, shape, tuple([ref(name) for name in names])))
        return Outcome(after, left, tuple(sent), told)
