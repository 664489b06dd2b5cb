"""A receiver with a disk to write to, for tests."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.core.batches import ORIGIN
from tiers.core.batch import BatchId, Hop
from tiers.core.dedupe import Known
from tiers.core.hop.arriving import Arrived
from tiers.core.hop.handshake import ReceiverEffects
from tiers.core.hop.hosting import ReceiverLimits
from tiers.core.hop.messages import (
    PROTOCOL,
    Ack,
    Answer,
    Ask,
    Bundle,
    Carried,
    Guarantee,
    Hello,
    Identity,
    Message,
)
from tiers.core.hop.receiver import Receiver
from tiers.core.life import Life, Point

ME = Identity("web-logs", "agg-1", Life(b"r" * 16))
EDGE = b"e" * 16
LIMITS = ReceiverLimits(window_bytes_max=10_000, message_size_max=5000)


def ids(*seqs: int) -> tuple[BatchId, ...]:
    return tuple(BatchId(ORIGIN, seq) for seq in seqs)


def session(number: int) -> bytes:
    return number.to_bytes(8, "big")


@dataclass
class End:
    """A receiver with a disk to write to, and all that it said."""

    free: int = 1_000_000
    now: float = 0.0
    now_ms: int = 1_795_424_645_678
    guarantee: Guarantee = "hop"
    disk: dict[BatchId, int] = field(default_factory=dict)  # checksums
    published: set[BatchId] = field(default_factory=set)
    writing: list[Arrived] = field(default_factory=list)
    said: list[tuple[bytes, Message]] = field(default_factory=list)
    renewed: str = ""  # why

    def __post_init__(self) -> None:
        self.names: list[bytes] = []  # of sessions, for those to come; else that of their HELLO
        self.receiver = Receiver(ME, LIMITS, new_session=self.names.pop, guarantee=self.guarantee)
        self.receiver.handshake.stores = {"sink/out": "id"}
        self.tick()

    def seen(self, keys: Iterable[BatchId]) -> dict[BatchId, Known]:
        return {
            key: Known(key in self.published, (self.disk[key],)) for key in keys if key in self.disk
        }

    def do(self, effects: ReceiverEffects) -> list[Message]:
        self.renewed = self.renewed or effects.renew
        self.writing += effects.append
        self.said += effects.say
        return [message for _, message in effects.say]

    def tick(self, seconds: float = 0.0) -> list[Message]:
        self.now += seconds
        rests = self.receiver.rests()
        effects = self.receiver.tick(self.free, self.seen, self.now)
        assert not rests or effects == ReceiverEffects(), "where it rests, a tick would do nothing"
        return self.do(effects)

    def hear(self, message: Message, route: bytes = b"route") -> list[Message]:
        return self.do(self.receiver.heard(route, message, self.seen, self.now, 1_000_000))

    def hello(self, number: int = 1, agent: str = "edge-1", channel: bytes = EDGE) -> list[Message]:
        hello = Hello(PROTOCOL, ME.topology, agent, channel, session(number))
        if not self.names:
            self.names.append(session(number))
        return self.hear(hello, agent.encode())

    def bundle(
        self,
        records: Sequence[bytes],
        number: int = 1,
        sender: bytes = EDGE,
        receiver: bytes = ME.channel,
        *,
        flagged: bool = False,
        point: Point | None = None,
    ) -> list[Message]:
        carried = [Carried(record, flagged, (Hop("edge-1", 5),)) for record in records]
        bundle = Bundle(session(number), sender, receiver, 1, carried, point)
        return self.do(self.receiver.received(bundle, self.seen, self.now, self.now_ms))

    def commit(self) -> list[Message]:
        """All that is being written is on disk."""
        contents = [batch.content for batch in self.writing]
        self.writing.clear()
        self.disk.update(contents)
        return self.do(self.receiver.stored(contents, self.seen))

    def credit(self, agent: str = "edge-1") -> int:
        return self.receiver.senders[agent].balance.credit

    def publish(self, *seqs: int) -> list[Message]:
        """No output waits for these any more."""
        self.published.update(ids(*seqs))
        return self.do(self.receiver.passed_on(ids(*seqs)))

    def ask(self, *seqs: int, number: int = 1, sender: bytes = EDGE) -> list[Message]:
        return self.hear(Ask(session(number), sender, ME.channel, ids(*seqs)))


def acked(messages: Iterable[Message]) -> list[int]:
    return [key.seq for message in messages if isinstance(message, Ack) for key in message.stored]


def answers(messages: Iterable[Message]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(held, unknown) of each answer."""
    return [
        (tuple(key.seq for key in message.held), tuple(key.seq for key in message.unknown))
        for message in messages
        if isinstance(message, Answer)
    ]
