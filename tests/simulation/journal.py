"""What happens in a run, each with its virtual time: two runs of a seed must have the same."""

import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

SHOWN: Final = 3  # events before the first that differs
SHOWN_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True)
class Told:
    """A journal that is closed: small enough for another process."""

    digest: str
    packed: bytes

    def events(self) -> list[str]:
        return zlib.decompress(self.packed).decode().split("\0")


class Journal:
    """Calls of the network, the store and the ledger, what is said, and where chance stands in the
    end. It keeps nothing unless it is `open`."""

    def __init__(self, now_s: Callable[[], float], *, open: bool) -> None:
        self.open = open
        self._now_s = now_s
        self._events: list[tuple[float, tuple[Any, ...]]] = []

    def note(self, *what: Any) -> None:
        """What can change later is not to be in it."""
        if self.open:
            self._events.append((self._now_s(), what))

    def close(self) -> Told:
        text = "\0".join(f"{at_s!r} s: {' '.join(map(_show, what))}" for at_s, what in self._events)
        data = text.encode()
        return Told(hashlib.sha256(data).hexdigest(), zlib.compress(data, 1))


def _show(what: Any) -> str:
    return (what if isinstance(what, str) else repr(what)).replace("\0", "\\0")


def difference(one: Told, other: Told) -> str:
    """The first event that differs, in words; empty where none does."""
    if one.digest == other.digest:
        return ""
    before: list[str] = []
    pairs = zip_longest(one.events(), other.events(), fillvalue="nothing: it is over")
    for number, (first, second) in enumerate(pairs, 1):
        if first != second:
            return "\n".join(
                [
                    f"event {number} is another:",
                    *(f"  both had {_cut(event)}" for event in before[-SHOWN:]),
                    f"  once     {_around(first, second)}",
                    f"  then     {_around(second, first)}",
                ]
            )
        before.append(first)
    raise AssertionError("the same events have different digests")


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _around(text: str, other: str) -> str:
    """Of a long event, its beginning and where it differs from the other."""
    at = same(text, other)
    if at < SHOWN_CHARACTERS // 2:
        return _cut(text)
    return f"{text[: SHOWN_CHARACTERS // 2]}... {_cut(text[max(0, at - 20) :])}"


def same(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many of their first items are the same."""
    pairs = zip(one, other, strict=False)
    shorter = min(len(one), len(other))
    return next((at for at, (a, b) in enumerate(pairs) if a != b), shorter)
