"""Values in messages: packed, and unpacked with distrust. PeerError for what they may not be."""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

import msgpack

from tiers.core.batch import BatchId, Buffer
from tiers.core.life import START_BYTES, TOLD_MAX, Point
from tiers.core.names import NAME_CHARS_MAX
from tiers.errors import PeerError

BYTES_LENGTHS: Final = {
    "session": (0, 8),
    "token": (8,),
    "channel": (16,),
    "sender": (16,),
    "receiver": (16,),
}
IDS, SUMS, NAMES = tuple[BatchId, ...], tuple[int, ...], tuple[str, ...]
POINT, MET, TEXTS = Point | None, tuple[tuple[bytes, Point], ...], Mapping[str, str]


def type_of(annotation: Any) -> Any:
    """A type of a field, as the one of those above that it is, which `is` tells from the others."""
    known = (one for one in (IDS, SUMS, NAMES, POINT, MET, TEXTS) if one == annotation)
    return next(known, annotation)


def are_names(value: object, most: int) -> TypeGuard[list[str]]:
    if not isinstance(value, list) or len(value) > most:
        return False
    return all(isinstance(name, str) and len(name) <= NAME_CHARS_MAX for name in value)


def is_short_map(value: object) -> bool:
    if not isinstance(value, dict) or len(value) > 1024:
        return False
    return all(isinstance(text, str) and len(text) <= 256 for text in (*value, *value.values()))


def are_sums(value: object, most: int) -> TypeGuard[list[int]]:
    if not isinstance(value, list) or len(value) > most:
        return False
    return all(type(one) is int and 0 <= one < 2**32 for one in value)


def unpack_point(value: object) -> Point:
    match value:
        case [bytes(start), int(number)] if (
            len(start) == START_BYTES and type(number) is int and 0 <= number < 2**63
        ):
            return Point(start, number)
    raise PeerError(f"a point is {shown(value)}")


def unpack_met(value: object) -> tuple[tuple[bytes, Point], ...]:
    if not isinstance(value, list) or len(value) > TOLD_MAX:
        raise PeerError(f"points that were met are {shown(value)}")
    found = []
    for one in value:
        match one:
            case [bytes(channel), point] if len(channel) == 16:
                found.append((channel, unpack_point(point)))
            case _:
                raise PeerError(f"points that were met are {shown(value)}")
    return tuple(found)


def pack_ids(ids: Sequence[BatchId]) -> list[tuple[bytes, list[int]]]:
    by_origin: dict[bytes, list[int]] = {}
    for origin, seq in ids:
        by_origin.setdefault(origin, []).append(seq)
    return list(by_origin.items())


def unpack_ids(value: object, most: int) -> tuple[BatchId, ...]:
    ids: list[BatchId] = []
    if not isinstance(value, list):
        raise PeerError(f"batch ids are {shown(value)}")
    for run in value:
        match run:
            case [bytes(origin), list(seqs)] if len(origin) == 16:
                if len(ids) + len(seqs) > most:  # before they are made: each takes its room
                    raise PeerError(f"more than {most} batch ids in one message")
                if not all(type(seq) is int and 0 <= seq < 2**63 for seq in seqs):
                    raise PeerError(f"batch ids of {origin.hex()} are not numbers")
                ids.extend(BatchId(origin, seq) for seq in seqs)
            case _:
                raise PeerError(f"batch ids are {shown(run)}")
    return tuple(ids)


def shown(value: object) -> str:
    """The beginning of a value for a person. `repr` itself could run out of stack here."""
    return f"{reprlib.repr(value):.60}"


def unpack(data: Buffer, entries_max: int) -> object:
    """Room for an array is made when its length is read, so `entries_max` bounds it."""
    try:
        value: object = msgpack.unpackb(
            data, strict_map_key=True, max_array_len=entries_max, max_map_len=entries_max
        )
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise PeerError(f"not msgpack: {error}") from error
    return value
