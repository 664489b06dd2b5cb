"""What agents say to each other, with its bytes drawn. Decoding distrusts everything.

Control plane (DEALER <-> ROUTER), one frame each, a msgpack array:

    [ type: str, fields: map ]

Data plane (PUSH -> PULL), one frame each, so that the receiver's message limit bounds all of it:

    +--------+---------------------------------------------------+----------+----------+--
    | u32 BE | head: msgpack [session, from, to, number, [[length,| record 1 | record 2 | ...
    | length |   flagged, [[agent, stored_ms], ...]], ...]]      |          |          |
    +--------+---------------------------------------------------+----------+----------+--

`session` is 8 bytes, `from` and `to` are channel ids of 16 bytes, a record is as in batch.py.
Batch ids travel as [[origin, [seq, ...]], ...].

Credit is told as a limit: how many bytes of records a sender may have sent in all in this
session. A limit only grows, so lost, doubled and reordered messages do no harm (as MAX_DATA in
QUIC, RFC 9000 section 19.9).
"""

import reprlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, NamedTuple

import msgpack

from tiers.core.batch import BatchId, Buffer, Hop
from tiers.errors import PeerError

PROTOCOL: Final = 1
Guarantee = Literal["hop", "end"]  # how far a batch has to be before it is released
CONTROL_BYTES_MAX: Final = 1 << 20
HEAD_BYTES_MAX: Final = 64 * 1024  # of a bundle: what is not records
IDS_MAX: Final = 2000  # in each list of a message
BUNDLE_BATCHES_MAX: Final = 4096
HOPS_MAX: Final = 64  # told of a batch: the latest
NAME_CHARS_MAX: Final = 64  # of an agent
_LENGTH: Final = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an agent is, as HELLO and WELCOME say it."""

    topology: str
    agent: str
    channel: bytes


@dataclass(frozen=True, slots=True)
class Hello:
    """A sender asks for a session. Everything of its earlier sessions is void from now on.
    `session` is drawn anew, and only names this HELLO: see Welcome."""

    protocol: int
    topology: str
    agent: str
    channel: bytes
    session: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    """The receiver answers the HELLO whose `session` it names. From now on all messages of this
    session name it by `token`, which the receiver has drawn: should the HELLO come once more, much
    later, it begins a session of which no message is under way."""

    session: bytes
    token: bytes
    protocol: int
    topology: str
    agent: str
    channel: bytes
    stores: Mapping[str, str]  # "tier/output" -> store id, of all sinks below
    message_size_max: int
    limit: int
    guarantee: str  # of the receiver's tier: Guarantee


@dataclass(frozen=True, slots=True)
class Refuse:
    """The receiver does not take the session, and says why to a person."""

    session: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Ack:
    """`stored` are durable in the receiver's channel, these or earlier; `published` are in files,
    or dead: with `guarantee = "end"`, no output below waits for them any more."""

    session: bytes
    stored: tuple[BatchId, ...]
    published: tuple[BatchId, ...]
    limit: int


@dataclass(frozen=True, slots=True)
class Ask:
    """What do you have of these? Names both channels, so that no stranger answers."""

    session: bytes
    sender: bytes
    receiver: bytes
    ids: tuple[BatchId, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """`held` is stored, or was and has gone on; `published` as in an ACK. After a new HELLO,
    `unknown` is final: the receiver will not get it from an old pipe."""

    session: bytes
    sender: bytes
    receiver: bytes
    held: tuple[BatchId, ...]
    published: tuple[BatchId, ...]
    unknown: tuple[BatchId, ...]


@dataclass(frozen=True, slots=True)
class Reject:
    """A batch that the receiver can never take, by its place: what cannot be read has no id."""

    session: bytes
    bundle: int  # its number in the session
    place: int  # of the batch in the bundle, from 0
    reason: str


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? `sent_ms` is the sender's clock."""

    session: bytes
    sent_ms: int


@dataclass(frozen=True, slots=True)
class Pong:
    """`session` is the newest the receiver knows of that sender (empty: none)."""

    session: bytes
    sent_ms: int
    now_ms: int
    limit: int


@dataclass(frozen=True, slots=True)
class Goodbye:
    """From a receiver: draining, send me no more. From a sender: I am leaving."""

    session: bytes


Message = Hello | Welcome | Refuse | Ack | Ask | Answer | Reject | Ping | Pong | Goodbye
_TYPES: Final[dict[str, type[Any]]] = {
    kind.__name__.lower(): kind
    for kind in (Hello, Welcome, Refuse, Ack, Ask, Answer, Reject, Ping, Pong, Goodbye)
}


def encode(message: Message) -> bytes:
    """The bytes of a control message."""
    values = {}
    for item in fields(message):
        value = getattr(message, item.name)
        values[item.name] = _pack_ids(value) if isinstance(value, tuple) else value
    packed: bytes = msgpack.packb([type(message).__name__.lower(), values])
    return packed


def decode(data: Buffer) -> Message:
    """The control message in `data`. Unknown fields are ignored, so that versions can mix.
    Raises PeerError."""
    if len(data) > CONTROL_BYTES_MAX:
        raise PeerError(f"control message of {len(data)} bytes; at most {CONTROL_BYTES_MAX}")
    match _unpack(data, IDS_MAX):
        case [str(name), dict(values)] if name in _TYPES:
            kind = _TYPES[name]
        case other:
            raise PeerError(f"not a message: {_shown(other)}")
    arguments = {}
    for item in fields(kind):
        if item.name not in values:
            raise PeerError(f"{name}: {item.name} is missing")
        arguments[item.name] = _checked(name, item.name, item.type, values[item.name])
    message: Message = kind(**arguments)
    return message


def _checked(message: str, name: str, wanted: Any, value: object) -> object:
    if wanted is int and type(value) is int and 0 <= value < 2**63:
        return value
    if wanted is str and isinstance(value, str) and len(value) <= 4096:
        return value
    if wanted is bytes and isinstance(value, bytes) and len(value) in _BYTES_LENGTHS[name]:
        return value
    if wanted == tuple[BatchId, ...]:
        return _unpack_ids(value)
    if wanted == Mapping[str, str] and _is_short_map(value):
        return value
    raise PeerError(f"{message}: {name} is {_shown(value)}")


def _is_short_map(value: object) -> bool:
    if not isinstance(value, dict) or len(value) > 1024:
        return False
    return all(isinstance(text, str) and len(text) <= 256 for text in (*value, *value.values()))


_BYTES_LENGTHS: Final = {
    "session": (0, 8),
    "token": (8,),
    "channel": (16,),
    "sender": (16,),
    "receiver": (16,),
}


def _pack_ids(ids: Sequence[BatchId]) -> list[tuple[bytes, list[int]]]:
    by_origin: dict[bytes, list[int]] = {}
    for origin, seq in ids:
        by_origin.setdefault(origin, []).append(seq)
    return list(by_origin.items())


def _unpack_ids(value: object) -> tuple[BatchId, ...]:
    ids: list[BatchId] = []
    if not isinstance(value, list):
        raise PeerError(f"batch ids are {_shown(value)}")
    for run in value:
        match run:
            case [bytes(origin), list(seqs)] if len(origin) == 16:
                if len(ids) + len(seqs) > IDS_MAX:  # before they are made: each takes its room
                    raise PeerError(f"more than {IDS_MAX} batch ids in one message")
                if not all(type(seq) is int and 0 <= seq < 2**63 for seq in seqs):
                    raise PeerError(f"batch ids of {origin.hex()} are not numbers")
                ids.extend(BatchId(origin, seq) for seq in seqs)
            case _:
                raise PeerError(f"batch ids are {_shown(run)}")
    return tuple(ids)


class Carried(NamedTuple):
    """A record on its way, with its hop fields."""

    record: Buffer
    flagged: bool
    hops: tuple[Hop, ...]


@dataclass(frozen=True, slots=True)
class Bundle:
    """The batches that travel in one message."""

    session: bytes
    sender: bytes  # channel id
    receiver: bytes  # channel id
    number: int  # of this bundle in its session, from 1
    carried: Sequence[Carried] = field(default_factory=tuple)


def encode_bundle(bundle: Bundle) -> bytes:
    """The frame of a bundle: one copy of the records. Of hops, the latest are told."""
    index = [
        [len(c.record), c.flagged, [tuple(hop) for hop in c.hops[-HOPS_MAX:]]]
        for c in bundle.carried
    ]
    head = msgpack.packb([bundle.session, bundle.sender, bundle.receiver, bundle.number, index])
    return b"".join((_LENGTH.pack(len(head)), head, *(c.record for c in bundle.carried)))


def decode_bundle(frame: Buffer) -> Bundle:
    """The bundle in `frame`, records not copied and not yet verified. Raises PeerError."""
    view = memoryview(frame)
    if len(view) < _LENGTH.size:
        raise PeerError(f"bundle of {len(view)} bytes is too short to be one")
    (length,) = _LENGTH.unpack_from(view)
    start = _LENGTH.size + length
    if length > HEAD_BYTES_MAX or start > len(view):
        raise PeerError(f"bundle's head of {length} bytes does not fit {len(view)}")
    match _unpack(view[_LENGTH.size : start], BUNDLE_BATCHES_MAX):
        case [bytes(session), bytes(sender), bytes(receiver), int(number), list(index)] if (
            len(session) == 8 and len(sender) == len(receiver) == 16 and 0 <= number < 2**63
        ):
            pass
        case other:
            raise PeerError(f"bundle's head is {_shown(other)}")
    carried = []
    for item in index:
        size, flagged, hops = _index_item(item)
        if start + size > len(view):
            raise PeerError("bundle is shorter than its head says")
        carried.append(Carried(view[start : start + size], flagged, hops))
        start += size
    if start != len(view):
        raise PeerError("bundle is longer than its head says")
    return Bundle(session, sender, receiver, number, carried)


def _index_item(item: object) -> tuple[int, bool, tuple[Hop, ...]]:
    match item:
        case [int(size), bool(flagged), list(hops)] if type(size) is int and size >= 0:
            if len(hops) <= HOPS_MAX:
                return size, flagged, tuple(_hop(hop) for hop in hops)
    raise PeerError(f"bundle's index has {_shown(item)}")


def _hop(item: object) -> Hop:
    match item:
        case [str(agent), int(stored_ms)] if len(agent) <= NAME_CHARS_MAX:
            if type(stored_ms) is int and 0 <= stored_ms < 2**53:
                return Hop(agent, stored_ms)
    raise PeerError(f"bundle's hop is {_shown(item)}")


def index_bytes(hops: Sequence[Hop]) -> int:
    """What a batch takes of its bundle's head, at most."""
    return 10 + sum(13 + len(agent.encode()) for agent, _ in hops[-HOPS_MAX:])


def _shown(value: object) -> str:
    """The beginning of a value for a person. `repr` itself could run out of stack here."""
    return f"{reprlib.repr(value):.60}"


def _unpack(data: Buffer, entries_max: int) -> object:
    """Room for an array is made when its length is read, so `entries_max` bounds it."""
    try:
        value: object = msgpack.unpackb(
            data, strict_map_key=True, max_array_len=entries_max, max_map_len=entries_max
        )
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise PeerError(f"not msgpack: {error}") from error
    return value


def in_pieces(ids: Iterable[BatchId], most: int = IDS_MAX) -> Iterable[tuple[BatchId, ...]]:
    """Ids in tuples that fit one message each."""
    piece: list[BatchId] = []
    for item in ids:
        piece.append(item)
        if len(piece) == most:
            yield tuple(piece)
            piece = []
    if piece:
        yield tuple(piece)
