"""All of the outside that an agent meets: time, chance, sockets, threads, disks, stores."""

from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any, Protocol, TypeVar

from tiers.contracts.channel import Channel
from tiers.contracts.store import Store
from tiers.core.change import ChannelLimits

T = TypeVar("T")


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

    async def move(self, address: str | None) -> None:
        """Where it answers over TCP (HOST:PORT), if anywhere. Raises what keeps it from there; it
        answers where it did then."""

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
