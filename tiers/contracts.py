"""What the rooms ask of each other, on one page: a channel, the world, a source, a sink, a store.

A contract says what returning means. Whoever adds one of a kind reads its contract here; the
suites in tests/contracts and tests/channel hold every one of that kind to it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Protocol, TypeVar

from tiers.core.answers import Listed, Moved
from tiers.core.batch import BatchId, Buffer, Envelope
from tiers.core.block import Block
from tiers.core.change import Change, ChannelLimits, ChannelStats, Entry, LetterHead
from tiers.core.dedupe import Known
from tiers.core.life import Life
from tiers.core.meters import Metered
from tiers.core.progress import Work

T = TypeVar("T")

# -- the channel -------------------------------------------------------------------------------


class Reading(Protocol):
    """Of what a channel has committed, from any thread. Raises ChannelDamaged, and
    ChannelUnavailable where the disk does not answer."""

    def entries(self, output: str, after: int = 0, limit: int = 1000) -> list[Entry]:
        """The queue of an output by position, from the first greater than `after`."""

    def entry(self, output: str, position: int) -> Entry | None:
        """One of them; None when that output has let go of it, or never had it."""

    def record(self, position: int) -> bytes:
        """Its checksum verified. BatchError when it is damaged, or gone."""

    def stored(self, position: int) -> bytes:
        """The record, whatever its checksum says; empty when it is gone."""

    def envelope(self, position: int) -> Envelope:
        """Types checked, checksum not. BatchError when it is malformed, or gone."""

    def note(self, position: int) -> bytes:
        """What the source kept beside the batch; empty when nothing, or when it is gone."""

    def records(self, prefix: bytes) -> dict[bytes, bytes]:
        """The small values whose keys begin so, by key."""

    def seen(self, ids: Iterable[BatchId]) -> dict[BatchId, Known]:
        """Which of these arrived here once, and what is known of them."""

    def letters(self, after: tuple[int, int] = (0, 0), limit: int = 1000) -> list[LetterHead]:
        """Dead letters without bodies, by position and output: those behind `after`."""


class Channel(Reading, Metered, Protocol):
    """An agent's batches on disk, a queue per output, and what must be true together. But for
    reading it lives on the agent's loop."""

    channel_id: bytes  # 16 random bytes, made with the channel; others after a renewal
    origin: bytes  # 16 random bytes, drawn at this start: batches that begin here have it
    was_cut_off: bool  # the run before this one had no end of its own

    @property
    def life(self) -> Life: ...

    def next_seq(self) -> int:
        """For the next batch that begins here, in the same step of the loop as its `submit`."""

    def last_position(self) -> int:
        """The highest that was given out; 0 in a fresh channel."""

    def submit(self, change: Change) -> "asyncio.Future[tuple[int, ...]]":
        """The future is done when the change is on disk, all of it: the positions of its puts, 0
        for one that had arrived before. Changes are committed in this order. While commits fail it
        waits; it raises ChannelDamaged or ChannelUnavailable when the channel ended before."""

    async def wait_room(self) -> None:
        """Until there is room for puts. Raises as `submit` does."""

    async def wait_end(self) -> None:
        """Never returns; raises once the channel has ended by itself."""

    def free_bytes(self) -> int:
        """What puts may still take; 0 from the high mark until below the low one."""

    def room_of(self, agent: str) -> int:
        """What a first agent's batches may still take of it."""

    def over(self) -> list[str]:
        """First agents without room while others have some, those that hold most first."""

    def overfull(self) -> bool:
        """Whether not even what was promised can be taken now."""

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Called after every commit."""

    def tell_passed_on(self, callback: Callable[[Sequence[BatchId]], None]) -> None:
        """Called with what had arrived and no output waits for any more, once that is on disk."""

    def stats(self) -> ChannelStats: ...

    @property
    def directory(self) -> Path:
        """Of its file. What else is put there goes with it, should it be set aside."""

    def origins(self) -> Mapping[bytes, Any]:
        """All of this channel: the last number, and when it was begun and left (ms)."""

    def renew(self, why: str) -> None:
        """The next start gives this channel a new id, and flags all that waits."""

    async def close(self, within_s: float | None = None) -> None:
        """Commits all that was submitted; ChannelUnavailable when that did not succeed in time."""


# -- stores ------------------------------------------------------------------------------------


class Store(Protocol):
    """Where a sink publishes files: what is asked of HDFS and of a directory (commit.md). Returning
    means done and durable. A call may be repeated. One that raises StoreUnavailable may have been
    carried out, or may yet be. Paths are `/`-separated and relative to the store's root; calls
    block and are made from worker threads, several at a time. Every method raises StoreUnavailable
    (unclear, ask again) or StoreRefused (a clear no: permissions, quota)."""

    def write(self, path: str, chunks: Iterable[Buffer]) -> int:
        """Create `path` (and its parents) with all of `chunks`, durable, its length checked.
        Returns the length. When it fails it may leave any prefix: so only below a tmp directory.
        An existing `path` is replaced."""

    def move(self, source: str, target: str) -> Moved:
        """Atomic; never replaces. Where both source is gone and target is there: TARGET_THERE
        is answered only if the source is there too, else SOURCE_GONE."""

    def replace(self, source: str, target: str) -> Moved:
        """Atomic; replaces a target that is there. Never TARGET_THERE."""

    def make_parents(self, path: str) -> None:
        """All directories above `path`, durable. Fine when they are there."""

    def read(self, path: str, bytes_max: int | None = None) -> bytes | None:
        """The content; None only where there is definitely no such file. Of more than `bytes_max`
        bytes one more than that, so that the caller sees it."""

    def length(self, path: str) -> int | None:
        """Bytes; None only where there is definitely no such file."""

    def list(self, path: str) -> list[Listed] | None:
        """Entries of a directory, by name; None only where there is definitely none."""

    def delete(self, path: str) -> bool:
        """Remove a file or a tree, for trash only. False where nothing was there."""

    def now_ms(self) -> int:
        """The store's clock, ms since the epoch, as good as it can be told."""

    def where(self) -> str:
        """For a person: "hdfs http://nn:9870 /logs", "directory /data/logs"."""

    def close(self) -> None: ...


# -- the world ---------------------------------------------------------------------------------


class Clock(Protocol):
    """Time and chance."""

    @property
    def random(self) -> Random:
        """For what need not be secret: jitter."""

    def now_s(self) -> float:
        """Seconds by a clock that only goes forward, from any beginning."""

    def now_ms(self) -> int:
        """The wall clock, ms since the epoch."""

    def token(self, size_bytes: int) -> bytes:
        """Random bytes that nobody else has, or can guess."""

    def number(self) -> int:
        """64 such bits."""


class Link(Enum):
    """What a connecting socket tells of its connection."""

    UP = "up"
    LOST = "lost"


class Socket(Protocol):
    """Messages, each a few parts of bytes, in order as long as a connection lasts."""

    connection: int  # its descriptor, where it has one to one address; else -1

    def bind(self, address: str, port: str = "", gate: Any = None) -> None:
        """Connections are kept within bounds by the gate, as those of `port`."""

    def connect(self, address: str) -> None:
        """Goes on trying, and connects anew whenever the connection is lost."""

    def reconnect(self, address: str) -> None:
        """Drops the connection with what is under way on it, and connects anew."""

    def send(self, *parts: bytes) -> bool:
        """False where there is no connection, no route, or no room: nothing was queued."""

    def pause(self, paused: bool) -> None:
        """While paused nothing is received."""

    def close(self) -> None:
        """Fine to be called again."""


class Workers(Protocol):
    """Threads for calls that block."""

    async def run(self, call: Callable[[], T]) -> T:
        """What `call()` returns or raises. When cancelled, a call that has begun runs on."""

    def close(self, timeout_s: float) -> bool:
        """No further calls. Blocks until those under way have ended; False where some have not."""


class Server(Protocol):
    """Answers whoever asks, from `start` to `stop`."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class World(Clock, Protocol):
    """All of the outside that one agent meets. A simulation gives its own."""

    tick_s: float  # how often parts that wait look at their clocks

    def socket(
        self,
        kind: int,
        options: dict[int, int | bytes],
        receive: Callable[[list[Any]], None] | None = None,
        link: Callable[[Link], None] | None = None,
        *,
        parts_max: int = 1,
    ) -> Socket:
        """Of ZeroMQ's kinds and options. `receive` gets the frames of each message, of one with
        more than `parts_max` one more than that; `link` what becomes of its connection."""

    async def channel(
        self, directory: Path, limits: ChannelLimits, outputs: Sequence[str]
    ) -> Channel:
        """The channel in a directory, a fresh one where there is none. UsageError when another
        process has it; ChannelUnavailable when the disk does not do its part."""

    def store(self, open_store: Callable[[Any], Store], options: Any) -> Store:
        """Where the sink of these options publishes: as a rule `open_store(options)`."""

    def workers(self, name: str, count: int) -> Workers:
        """So many threads of that name."""

    def status_server(self, *what: Any) -> Server:
        """See observe/status.py."""

    def close(self) -> None:
        """The agent has ended."""


# -- sources -----------------------------------------------------------------------------------


class Intake(Protocol):
    """Where a source puts its events. Made by the agent, one for each source."""

    block_size_max: int  # raw bytes a block should have at most
    event_size_max: int  # an event longer than this is split by the source, and counted
    positions: Mapping[bytes, bytes]  # what this source had on disk when the agent started
    retention_s: float  # how long what was delivered is remembered (`dedupe_retention`)
    written: Sequence[str]  # directories below which sinks of this agent write: not to be read

    async def put(
        self, block: Block, positions: Mapping[bytes, bytes | None] | None = None
    ) -> Awaitable[None]:
        """Waits while the channel is full or too much is under way: this is the back-pressure.
        Returning means accepted in memory, in order. What it returns may be awaited: that returns
        once the block *and* `positions` (None deletes one) are on disk, in one transaction.
        An empty block with positions is fine. Raises BatchError for what no receiver would take."""

    def has_room(self) -> bool:
        """False where `put` would wait: for protocols that can only drop (UDP)."""

    def count(self, counter: str, by: int = 1) -> None:
        """Add to a counter: `lines_split`, `dropped_REASON`, `dropped_REASON_bytes`, ..."""

    def trouble(self, text: str) -> None:
        """Say what is wrong ("" when it is over); shown in status as this source's last error."""

    def remark(self, text: str, at_risk: bool = False) -> None:
        """Say what a person should know ("" when it is over); whether it may lose events."""


class Source(Protocol):
    """What feeds events into an agent. It hands over *blocks*: whole newline-terminated lines as
    bytes, as many as it has, up to `intake.block_size_max`. It never decodes them and never goes
    line by line. `run` runs until cancelled. After `drain` it ends by itself: a source that has an
    end reads what is there to its end, a listening one closes at once; it has put all it had."""

    Options: ClassVar[type[Any]]  # of SourceOptions

    def __init__(self, options: Any) -> None: ...

    async def run(self, intake: Intake) -> None: ...

    def drain(self) -> None: ...

    def work(self) -> Mapping[str, Work]:
        """What it could take in now, by what it concerns (a file; "" for the source): by what it
        sees outside, not what it means to do. What does not move for long makes it unhealthy."""

    def unread_bytes(self) -> int | None:
        """What it could take in now and has not put yet; None where it cannot see that."""

    def status(self) -> dict[str, object]:
        """What a person would like to see: listening address, files followed, what is behind."""


# -- interceptors ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InterceptorContext:
    """Where the events come in."""

    agent: str
    host: str  # name of the machine


class Interceptor(Protocol):
    """What changes or drops events before they are in any batch. It holds nothing back: what joins
    lines to one event is framing, and the source's. One is made for each source, at each start of
    that; it may keep counters."""

    Options: ClassVar[type[Any]]  # of InterceptorOptions

    def __init__(self, options: Any, context: InterceptorContext) -> None: ...

    def apply(self, block: Block) -> Sequence[Block]:
        """What becomes of it, in order; nothing where it is dropped. Blocks of one source come in
        turn, in a thread; their headers are not to be changed. Of what it raises see `on_error`."""


# -- sinks -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What an agent gives to its sinks."""

    topology: str
    agent: str
    output: str
    channel: Channel
    world: World
    level: int  # compression level of `[batch]`
    trouble: Callable[[str], None]  # says what is wrong ("" when it is over)
    # This channel's disk went back in time, or is there twice: why that is known. The agent ends.
    renew: Callable[[str], None]
    retention_s: float = 7 * 86400.0  # `[delivery] dedupe_retention`


class Sink(Metered, Protocol):
    """An output that takes an agent's batches out of the topology. It releases a batch from its
    channel only when the batch is safe where it brought it. `run` runs until cancelled; cancelling
    it is safe at any await. After `drain` it publishes what is there without waiting for more;
    `run` goes on. Among its numbers are those of any output (channel/meters.py)."""

    Options: ClassVar[type[Any]]  # of SinkOptions

    def __init__(self, options: Any, context: SinkContext) -> None: ...

    async def run(self) -> None: ...

    def drain(self) -> None: ...

    def store_id(self) -> str:
        """Identifies the store for agents that compare; empty while it is not known."""

    def work(self) -> Mapping[str, Work]:
        """What should be under way by now, by what it concerns ("" for the sink): as a source's."""

    def status(self) -> dict[str, object]: ...
