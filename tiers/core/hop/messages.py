"""What agents say to each other, with its bytes drawn. Decoding distrusts everything.

Control plane (DEALER <-> ROUTER), one frame each, a msgpack array:

    [ type: str, fields: map ]

Data plane (PUSH -> PULL), one frame each, so that the receiver's message limit bounds all of it:

    +--------+---------------------------------------------------+----------+----------+--
    | u32 BE | head: msgpack [session, from, to, number, [[length,| record 1 | record 2 | ...
    | length |   flagged, [[agent, stored_ms], ...]], ...], point]|          |          |
    +--------+---------------------------------------------------+----------+----------+--

`session` is 8 bytes, `from` and `to` are channel ids of 16 bytes, a record is as in batch.py.
Batch ids travel as [[origin, [seq, ...]], ...], points (life.py) as [start, number]. Points and
checksums may be missing: of who says none, none is judged.

Credit is told as a limit: how many bytes of records a sender may have sent in all in this
session. A limit only grows, so lost, doubled and reordered messages do no harm (as MAX_DATA in
QUIC, RFC 9000 section 19.9).
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Final, Literal, NamedTuple, TypeVar

import msgpack

from tiers.core.batch import BatchId, Buffer, Hop
from tiers.core.hop.values import (
    BYTES_LENGTHS,
    IDS,
    MET,
    NAMES,
    POINT,
    SUMS,
    TEXTS,
    are_names,
    are_sums,
    is_short_map,
    pack_ids,
    shown,
    type_of,
    unpack,
    unpack_ids,
    unpack_met,
    unpack_point,
)
from tiers.core.life import Life, Point
from tiers.core.names import NAME_CHARS_MAX
from tiers.core.printable import printable
from tiers.errors import PeerError

PROTOCOL: Final = 1  # the newest that this version speaks
PROTOCOL_MIN: Final = 1  # and the oldest
T = TypeVar("T")
Guarantee = Literal["hop", "end"]  # how far a batch has to be before it is released
CONTROL_BYTES_MAX: Final = 128 << 10  # a list of IDS_MAX ids, each of another origin, takes half
GREETING_BYTES_MAX: Final = 1024  # of a control message from who has no session
HEAD_BYTES_MAX: Final = 64 * 1024  # of a bundle: what is not records
IDS_MAX: Final = 2000  # in each list of a message
BUNDLE_BATCHES_MAX: Final = 4096
OVER_MAX: Final = 64  # names of first agents in one message
HOPS_MAX: Final = 64  # told of a batch: the latest
REASON_CHARS_MAX: Final = 1000  # of a REFUSE or a REJECT: what is longer is cut
_LENGTH: Final = struct.Struct(">I")
# Bytes that begin an array or a map. Of our own messages less than a tenth of 128 KiB are like
# those, also by chance; of one made to be dear to read, all.
_CONTAINERS: Final = bytes((*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF))
_CONTAINERS_MAX: Final = 16_384


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an agent is, as HELLO and WELCOME say it."""

    topology: str
    agent: str
    life: Life

    @property
    def channel(self) -> bytes:
        return self.life.channel


@dataclass(frozen=True, slots=True)
class Hello:
    """A sender asks for a session. Everything of its earlier sessions is void from now on.
    `session` is drawn anew, and only names this HELLO: see Welcome."""

    protocol: int
    topology: str
    agent: str
    channel: bytes
    session: bytes
    point: Point | None = None  # where its channel is
    met: tuple[tuple[bytes, Point], ...] = ()  # where it met channels that the receiver may have
    protocol_min: int = 0  # the oldest that it speaks, `protocol` being the newest; 0: no other


@dataclass(frozen=True, slots=True)
class Welcome:
    """The receiver answers the HELLO whose `session` it names. From now on all messages of this
    session name it by `token`, which the receiver has drawn: should the HELLO come once more, much
    later, it begins a session of which no message is under way."""

    session: bytes
    token: bytes
    protocol: int  # the newest that both speak
    topology: str
    agent: str
    channel: bytes
    stores: Mapping[str, str]  # "tier/output" -> store id, of all sinks below
    message_size_max: int
    limit: int
    guarantee: str  # of the receiver's tier: Guarantee
    batch_size_max: int = 0  # raw bytes at which its tier seals; 0: not told
    point: Point | None = None  # where its channel is
    met: Point | None = None  # where it met the sender's channel


@dataclass(frozen=True, slots=True)
class Refuse:
    """The receiver does not take the session, and says why to a person."""

    session: bytes
    reason: str
    twin: bool = False  # another life of the sender's channel is here, and answers


@dataclass(frozen=True, slots=True)
class Ack:
    """`stored` are durable in the receiver's channel, these or earlier; `published` are in files,
    or dead: with `guarantee = "end"`, no output below waits for them any more. `sums` are the
    checksums of those stored, one by one (0: not known any more); ids of one origin stand
    together. `over` are first agents whose batches have no room now: send those of others."""

    session: bytes
    stored: tuple[BatchId, ...]
    published: tuple[BatchId, ...]
    limit: int
    sums: tuple[int, ...] = ()
    point: Point | None = None  # where the receiver's channel is
    over: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """What do you have of these? Names both channels, so that no stranger answers."""

    session: bytes
    sender: bytes
    receiver: bytes
    ids: tuple[BatchId, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """`held` is stored, or was and has gone on; `published` and `sums` as in an ACK. After a new
    HELLO, `unknown` is final: the receiver will not get it from an old pipe."""

    session: bytes
    sender: bytes
    receiver: bytes
    held: tuple[BatchId, ...]
    published: tuple[BatchId, ...]
    unknown: tuple[BatchId, ...]
    sums: tuple[int, ...] = ()  # of those held
    point: Point | None = None  # where the receiver's channel is


@dataclass(frozen=True, slots=True)
class Reject:
    """A batch that the receiver can never take, by its place: what cannot be read has no id."""

    session: bytes
    bundle: int  # its number in the session
    place: int  # of the batch in the bundle, from 0
    reason: str


@dataclass(frozen=True, slots=True)
class Later:
    """A batch that the receiver cannot take yet, by its place: it is not there, and may come again
    in so many milliseconds."""

    session: bytes
    bundle: int
    place: int
    reason: str
    wait_ms: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? `sent_ms` is the sender's clock, `wanted` the bytes that wait for credit. From
    a receiver: a number to be said again, when another life of the sender's channel says HELLO."""

    session: bytes
    sent_ms: int
    wanted: int = 1  # of who does not say


@dataclass(frozen=True, slots=True)
class Pong:
    """`session` is the newest the receiver knows of that sender (empty: none); `over` as in ACK."""

    session: bytes
    sent_ms: int
    now_ms: int
    limit: int
    over: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Goodbye:
    """From a receiver: draining, send me no more. From a sender: I am leaving."""

    session: bytes


Message = Hello | Welcome | Refuse | Ack | Ask | Answer | Reject | Later | Ping | Pong | Goodbye
_TYPES: Final[dict[str, type[Any]]] = {
    kind.__name__.lower(): kind
    for kind in (Hello, Welcome, Refuse, Ack, Ask, Answer, Reject, Later, Ping, Pong, Goodbye)
}
# Name, type, whether it has to be there. To look these up anew took half of the reading.
_FIELDS: Final[dict[str, tuple[tuple[str, Any, bool], ...]]] = {
    name: tuple((one.name, type_of(one.type), one.default is MISSING) for one in fields(kind))
    for name, kind in _TYPES.items()
}


def encode(message: Message) -> bytes:
    """The bytes of a control message."""
    kind = type(message).__name__.lower()
    values = {}
    for name, wanted, _ in _FIELDS[kind]:
        value = getattr(message, name)
        values[name] = pack_ids(value) if wanted is IDS else value
    packed: bytes = msgpack.packb([kind, values])
    return packed


def decode(data: Buffer) -> Message:
    """The control message in `data`. Unknown fields are ignored, so that versions can mix.
    Raises PeerError."""
    if len(data) > CONTROL_BYTES_MAX:
        raise PeerError(f"control message of {len(data)} bytes; at most {CONTROL_BYTES_MAX}")
    if len(data) - len(bytes(data).translate(None, _CONTAINERS)) > _CONTAINERS_MAX:
        raise PeerError(f"control message of {len(data)} bytes is made of little but lists")
    match unpack(data, IDS_MAX):
        case [str(name), dict(values)] if name in _TYPES:
            kind = _TYPES[name]
        case other:
            raise PeerError(f"not a message: {shown(other)}")
    arguments = {}
    for item, wanted, needed in _FIELDS[name]:
        if item in values:
            arguments[item] = _checked(name, item, wanted, values[item])
        elif needed:
            raise PeerError(f"{name}: {item} is missing")
    if "reason" in arguments:  # it is stored, logged and shown
        arguments["reason"] = printable(str(arguments["reason"]), REASON_CHARS_MAX)
    message: Message = kind(**arguments)
    if isinstance(message, Ack | Answer):
        summed = message.stored if isinstance(message, Ack) else message.held
        if message.sums and len(message.sums) != len(summed):
            raise PeerError(f"{name}: {len(message.sums)} checksums of {len(summed)} batches")
    return message


def _checked(message: str, name: str, wanted: Any, value: object) -> object:
    if wanted is int and type(value) is int and 0 <= value < 2**63:
        return value
    if wanted is str and isinstance(value, str) and len(value) <= 4096:
        return value
    if wanted is bytes and isinstance(value, bytes) and len(value) in BYTES_LENGTHS[name]:
        return value
    if wanted is IDS:
        return unpack_ids(value, IDS_MAX)
    if wanted is TEXTS and is_short_map(value):
        return value
    if wanted is bool and isinstance(value, bool):
        return value
    if wanted is SUMS and are_sums(value, IDS_MAX):
        return tuple(value)
    if wanted is POINT:
        return None if value is None else unpack_point(value)
    if wanted is MET:
        return unpack_met(value)
    if wanted is NAMES and are_names(value, OVER_MAX):
        return tuple(value)
    raise PeerError(f"{message}: {name} is {shown(value)}")


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
    point: Point | None = None  # where the sender's channel is


def encode_bundle(bundle: Bundle) -> bytes:
    """The frame of a bundle: one copy of the records. Of hops, the latest are told."""
    index = [
        [len(c.record), c.flagged, [tuple(hop) for hop in c.hops[-HOPS_MAX:]]]
        for c in bundle.carried
    ]
    words = (bundle.session, bundle.sender, bundle.receiver, bundle.number)
    head = msgpack.packb([*words, index, bundle.point])
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
    match unpack(view[_LENGTH.size : start], BUNDLE_BATCHES_MAX):
        case [bytes(session), bytes(sender), bytes(receiver), int(number), list(index), *more] if (
            len(session) == 8 and len(sender) == len(receiver) == 16 and 0 <= number < 2**63
        ):
            point = unpack_point(more[0]) if more and more[0] is not None else None
        case other:
            raise PeerError(f"bundle's head is {shown(other)}")
    carried = []
    for item in index:
        size, flagged, hops = _index_item(item)
        if start + size > len(view):
            raise PeerError("bundle is shorter than its head says")
        carried.append(Carried(view[start : start + size], flagged, hops))
        start += size
    if start != len(view):
        raise PeerError("bundle is longer than its head says")
    return Bundle(session, sender, receiver, number, carried, point)


def _index_item(item: object) -> tuple[int, bool, tuple[Hop, ...]]:
    if type(item) is list and len(item) == 3:
        size, flagged, hops = item
        known = type(size) is int and type(flagged) is bool and type(hops) is list
        if known and size >= 0 and len(hops) <= HOPS_MAX:
            return size, flagged, tuple([_hop(hop) for hop in hops])
    raise PeerError(f"bundle's index has {shown(item)}")


def _hop(item: object) -> Hop:
    if type(item) is list and len(item) == 2:
        agent, stored_ms = item
        known = type(agent) is str and type(stored_ms) is int
        if known and len(agent) <= NAME_CHARS_MAX and 0 <= stored_ms < 2**53:
            return Hop(agent, stored_ms)
    raise PeerError(f"bundle's hop is {shown(item)}")


def index_bytes(hops: Sequence[Hop]) -> int:
    """What a batch takes of its bundle's head, at most."""
    return 10 + sum(13 + len(agent.encode()) for agent, _ in hops[-HOPS_MAX:])


def common_protocol(hello: Hello) -> int:
    """The newest protocol that its sender and we speak; 0 where there is none."""
    newest = min(hello.protocol, PROTOCOL)
    return newest if newest >= max(hello.protocol_min or hello.protocol, PROTOCOL_MIN) else 0


def protocols() -> str:
    """Those that we speak, for a person."""
    return f"{PROTOCOL_MIN} to {PROTOCOL}" if PROTOCOL_MIN < PROTOCOL else f"{PROTOCOL}"


def in_pieces(ids: Iterable[T], most: int = IDS_MAX) -> Iterable[tuple[T, ...]]:
    """Ids, or what goes with them, in tuples that fit one message each."""
    piece: list[T] = []
    for item in ids:
        piece.append(item)
        if len(piece) == most:
            yield tuple(piece)
            piece = []
    if piece:
        yield tuple(piece)
