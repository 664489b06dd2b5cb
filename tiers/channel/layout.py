"""Keys and values of the channel's databases, with their bytes drawn.

    database   key                                   value
    batches    position u64                          record as given (its own checksum inside)
    notes      position u64                          C | what the source keeps beside the batch
    queue      output id u16 | position u64          C | item, see below
    dead       position u64 | output id u16          C | msgpack [output, reason, at_ms, item]
    records    key as given                          C | value as given
    seen       origin 16 | block u64                 C | window, see core/dedupe.py
    sums       origin 16 | piece u64                 C | piece, see core/dedupe.py
    meta       "identity", "state"                   C | msgpack, see Identity and State
               "starts", "home"                      C | msgpack, see living.py

All integers are big-endian. C is a u32: the CRC-32 of key and value. A record carries its own
checksum, so every byte in the file that we wrote is covered by one.

    item: | bits u8 | stored_ms u64 | count u32 | size u32 | origin 16 | seq u64 | crc u32 |
          | channel id 16 | length u8 | agent |  only with bit 3
          | hops, msgpack |
           bit 0: flagged, bit 1: arrived from a peer (its window counts it), bit 2: has a note,
           bit 3: handed to that agent, bit 4: there is or was a damaged copy, see again.py
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import msgpack
from isal.isal_zlib import crc32

from tiers.core.batch import BatchId, Buffer, Hop
from tiers.core.change import NO_OUTPUT, Entry
from tiers.core.hop.peers import HandedTo
from tiers.errors import ChannelDamaged

FORMAT: Final = 4
DATABASES: Final = ("batches", "notes", "queue", "records", "seen", "sums", "dead", "meta")
RECORD_KEY_BYTES_MAX: Final = 511  # LMDB's own limit of a key
IDENTITY: Final = b"identity"
STATE: Final = b"state"
SET_ASIDE: Final = b"channel/set-aside"  # a record: what happened to the channel before this one

POSITION: Final = struct.Struct(">Q")
QUEUE_KEY: Final = struct.Struct(">HQ")
NO_OUTPUT_ID: Final = 0  # of the dead letters that no output wanted
DEAD_KEY: Final = struct.Struct(">QH")
SEEN_KEY: Final = struct.Struct(">16sQ")
_CRC: Final = struct.Struct(">I")
_ITEM: Final = struct.Struct(">BQII16sQI")
_TO: Final = struct.Struct(">16sB")
_FLAGGED, _ARRIVED, _NOTED, _HANDED, _AGAIN = 1, 2, 4, 8, 16


def guard(key: bytes, value: bytes) -> bytes:
    """The value as it is stored: behind its checksum."""
    return _CRC.pack(crc32(value, crc32(key))) + value


def unguard(database: str, key: Buffer, stored: Buffer) -> bytes:
    """The value behind a checksum that is right. Raises ChannelDamaged."""
    value = bytes(stored[_CRC.size :])
    if len(stored) < _CRC.size or crc32(value, crc32(key)) != _CRC.unpack_from(stored)[0]:
        raise ChannelDamaged(f"value of {bytes(key)!r} in {database} fails its checksum")
    return value


@dataclass(frozen=True, slots=True)
class QueueItem:
    """A batch in the queue of one output, as stored."""

    flagged: bool
    arrived: bool
    noted: bool
    stored_ms: int
    count: int
    size: int
    id: BatchId
    crc: int  # of the record
    hops: bytes  # msgpack, see `pack_hops`
    handed_to: HandedTo | None = None
    again: bool = False

    def pack(self) -> bytes:
        bits = self.flagged * _FLAGGED | self.arrived * _ARRIVED | self.noted * _NOTED
        bits |= self.again * _AGAIN
        numbers = (self.stored_ms, self.count, self.size, *self.id, self.crc)
        if self.handed_to is None:
            return _ITEM.pack(bits, *numbers) + self.hops
        agent = self.handed_to.agent.encode()
        to = _TO.pack(self.handed_to.channel, len(agent)) + agent
        return _ITEM.pack(bits | _HANDED, *numbers) + to + self.hops

    def entry(self, position: int) -> Entry:
        return Entry(
            position,
            self.id,
            self.flagged,
            unpack_hops(self.hops),
            self.stored_ms,
            self.count,
            self.size,
            self.handed_to,
            self.crc,
        )


def unpack_item(value: bytes) -> QueueItem:
    """The item of these bytes, whose checksum was right. Raises ChannelDamaged."""
    if len(value) <= _ITEM.size:
        raise ChannelDamaged(f"queue item of {len(value)} bytes is too short")
    bits, stored_ms, count, size, origin, seq, crc = _ITEM.unpack_from(value)
    flags = (bool(bits & _FLAGGED), bool(bits & _ARRIVED), bool(bits & _NOTED))
    rest, handed_to = value[_ITEM.size :], None
    if bits & _HANDED:
        handed_to, rest = _unpack_to(rest)
    again = bool(bits & _AGAIN)
    return QueueItem(
        *flags, stored_ms, count, size, BatchId(origin, seq), crc, rest, handed_to, again
    )


def _unpack_to(data: bytes) -> tuple[HandedTo, bytes]:
    """To whom an item was handed, and what comes behind it."""
    try:
        channel, length = _TO.unpack_from(data)
        agent, rest = data[_TO.size :][:length].decode(), data[_TO.size + length :]
    except (struct.error, UnicodeDecodeError) as error:
        raise ChannelDamaged(f"queue item is handed to nobody that can be read: {error}") from error
    return HandedTo(agent, channel), rest


def pack_hops(hops: Sequence[Hop]) -> bytes:
    return bytes(msgpack.packb([list(hop) for hop in hops]))


def unpack_hops(data: bytes) -> tuple[Hop, ...]:
    with decoding("hops"):
        return tuple(Hop(str(agent), int(at_ms)) for agent, at_ms in msgpack.unpackb(data))


def first_agent(hops: bytes) -> str:
    """The agent that stored a batch first; empty where nobody said so."""
    with decoding("hops"):
        told = msgpack.unpackb(hops)
        return str(told[0][0]) if told else ""


@dataclass(frozen=True, slots=True)
class ChannelIdentity:
    """What a channel is, written once."""

    channel_id: bytes
    begun_ms: int
    format: int = FORMAT

    def pack(self) -> bytes:
        return bytes(msgpack.packb([self.format, self.channel_id, self.begun_ms]))


def format_of(value: bytes) -> int:
    """The format that an identity tells, which all of them do first. Raises ChannelDamaged."""
    with decoding("identity"):
        return int(msgpack.unpackb(value)[0])


def unpack_identity(value: bytes) -> ChannelIdentity:
    with decoding("identity"):
        version, channel_id, begun_ms = msgpack.unpackb(value)
        if version != FORMAT:
            raise ChannelDamaged(f"channel has format {version}; this version reads {FORMAT}")
        if not isinstance(channel_id, bytes) or len(channel_id) != 16:
            raise ChannelDamaged("channel id is not 16 bytes")
        return ChannelIdentity(channel_id, int(begun_ms))


@dataclass(slots=True)
class Totals:
    """What one output's queue holds."""

    id: int
    batches: int = 0
    events: int = 0
    size_bytes: int = 0


@dataclass(slots=True)
class ChannelState:
    """What changes with every group, written in its transaction."""

    origin: bytes = bytes(16)  # drawn by the last start; whose numbers are counted here
    origin_ms: int = 0  # when that was
    next_seq: int = 1
    next_position: int = 1
    groups: int = 0  # how many were committed: tells whether a doubtful commit took place
    batches: int = 0
    dead: int = 0
    outputs: dict[str, Totals] = field(default_factory=dict)

    def copy(self) -> "ChannelState":
        outputs = {
            name: Totals(one.id, one.batches, one.events, one.size_bytes)
            for name, one in self.outputs.items()
        }
        return replace(self, outputs=outputs)

    def id_of(self, output: str) -> int:
        return NO_OUTPUT_ID if output == NO_OUTPUT else self.outputs[output].id

    def add_outputs(self, names: Sequence[str]) -> None:
        """Gives a new id to each output that is not known yet."""
        for name in names:
            if name not in self.outputs:
                highest = max((one.id for one in self.outputs.values()), default=0)
                self.outputs[name] = Totals(highest + 1)

    def pack(self) -> bytes:
        outputs = [
            [name, one.id, one.batches, one.events, one.size_bytes]
            for name, one in self.outputs.items()
        ]
        numbers = [self.next_seq, self.next_position, self.groups, self.batches, self.dead]
        return bytes(msgpack.packb([self.origin, self.origin_ms, *numbers, outputs]))


def unpack_state(value: bytes) -> ChannelState:
    with decoding("state"):
        origin, *numbers, outputs = msgpack.unpackb(value)
        if not isinstance(origin, bytes) or len(origin) != 16 or len(numbers) != 6:
            raise ChannelDamaged("state without an origin, or of too few numbers")
        origin_ms, next_seq, next_position, groups, batches, dead = map(int, numbers)
        state = ChannelState(origin, origin_ms, next_seq, next_position, groups, batches, dead)
        state.outputs = {name: Totals(*each) for name, *each in outputs}
        return state


class Letter(NamedTuple):
    """A dead letter as stored; its record stays in `batches`."""

    output: str
    reason: str
    at_ms: int
    item: QueueItem

    def pack(self) -> bytes:
        return bytes(msgpack.packb([self.output, self.reason, self.at_ms, self.item.pack()]))


def unpack_letter(value: bytes) -> Letter:
    with decoding("dead letter"):
        output, reason, at_ms, item = msgpack.unpackb(value)
        return Letter(output, reason, at_ms, unpack_item(item))


class decoding:
    """The door of msgpack: what it cannot decode although the checksum was right."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ValueError | TypeError | msgpack.UnpackException):
            raise ChannelDamaged(f"{self.what} cannot be decoded: {error}") from error


def after(prefix: bytes) -> bytes | None:
    """The least key greater than every key with this prefix; None when there is none."""
    for place in range(len(prefix) - 1, -1, -1):
        if prefix[place] != 0xFF:
            return prefix[:place] + bytes([prefix[place] + 1])
    return None


def pages(size_bytes: int, page_bytes: int = 4096) -> int:
    """Bytes that a value takes in the file: whole pages once it is too large for a leaf."""
    if size_bytes <= page_bytes // 2:
        return size_bytes + 64
    return -(-(size_bytes + 16) // page_bytes) * page_bytes
