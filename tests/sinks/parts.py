"""What tests of sinks are made of: sealed batches, and a store in memory that fails when told."""

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

from tests.metering import number
from tests.waiting import eventually
from tiers.agent.world import Machine
from tiers.channel.channel import Channel
from tiers.contracts import Sink, SinkContext, Store
from tiers.core.batch import BatchId, Buffer, Envelope, Hop, seal
from tiers.core.change import Change, ChannelLimits, Put
from tiers.core.codecs import compressor
from tiers.core.commit.answers import Listed, Moved
from tiers.core.meters import Meter
from tiers.errors import StoreUnavailable
from tiers.sinks.files.options import FileOptions
from tiers.sinks.files.sink import FileSink
from tiers.sinks.outlet import ChannelOutlet

AT = 1_795_424_645_678  # 2026-11-23T09:04:05.678Z
OUTPUT = "out"
LIMITS = ChannelLimits(size_bytes_max=256 << 20, free_floor_bytes=1 << 20)


def record(
    lines: bytes,
    seq: int,
    *,
    origin: bytes = b"o" * 16,
    headers: Mapping[str, str] | None = None,
    at: int = AT,
    codec: str = "zstd",
    framing: str = "lines",
) -> bytes:
    """A sealed batch of newline-terminated lines."""
    envelope = Envelope(
        origin, seq, lines.count(b"\n"), len(lines), headers or {}, at, at, framing, codec
    )
    return seal(envelope, compressor(codec, 1)(lines))


def put(
    sealed: bytes, seq: int, events: int, *, origin: bytes = b"o" * 16, flagged: bool = False
) -> Put:
    hops = [Hop("edge-1", AT)]
    return Put(
        BatchId(origin, seq), sealed, events, [OUTPUT], flagged=flagged, hops=hops, arrived=True
    )


async def fill(
    channel: Channel,
    blocks: Iterable[bytes],
    first: int = 1,
    *,
    flagged: bool = False,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Stores line blocks as batches `first`, `first` + 1, ... of one origin."""
    puts = [
        put(record(lines, seq, headers=headers), seq, lines.count(b"\n"), flagged=flagged)
        for seq, lines in enumerate(blocks, first)
    ]
    await channel.submit(Change(puts=puts))


async def open_channel(directory: Path) -> Channel:
    return await Channel.open(directory, LIMITS, [OUTPUT])


@dataclass
class Said:
    """A sink's context, and what the sink said."""

    channel: Channel
    agent: str = "sink-1"
    troubles: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    renewals: list[str] = field(default_factory=list)

    def context(self) -> SinkContext:
        world = Machine()
        return SinkContext(
            topology="test",
            agent=self.agent,
            outlet=ChannelOutlet(
                OUTPUT,
                self.channel,
                world,
                trouble=self.troubles.append,
                event=self.events.append,
            ),
            channel=self.channel,
            world=world,
            level=1,
            renew=self.renewals.append,
        )


class MemorySink(FileSink):
    """A file sink over any store."""

    def __init__(self, said: Said, store: Store, **options: object) -> None:
        options = {"type": "memory", "roll_after": 0, **options}
        super().__init__(FileOptions.model_validate(options), said.context(), store)

        self.outlet = self._outlet

    def number(self, meter: Meter) -> int:
        """What it tells of its output."""
        return int(number(self, meter, OUTPUT))


class MemoryStore:
    """A `Store` in memory. `before` and `after` are asked with each call's number and name, and may
    raise: the deed is then not done, or done and its answer lost."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.directories: set[str] = {""}
        self.calls = 0
        self.before: Callable[[int, str], None] = lambda _number, _name: None
        self.after: Callable[[int, str], None] = lambda _number, _name: None
        self.seen: list[str] = []
        self.closed = False
        self._lock = threading.Lock()

    # A call is a small deed under a lock between two chances to fail.

    def _begin(self, name: str) -> int:
        with self._lock:
            self.calls += 1
            self.seen.append(name)
            number = self.calls
        self.before(number, name)
        return number

    def write(self, path: str, chunks: Iterable[Buffer]) -> int:
        number = self._begin(f"write {path}")
        assert "/tmp/" in path, "files are written below tmp only"
        content = b""
        try:
            for chunk in chunks:
                content += chunk
        finally:  # what a broken upload leaves behind looks like a file
            self._put(path, content)
        self.after(number, f"write {path}")
        return len(content)

    def _put(self, path: str, content: bytes) -> None:
        with self._lock:
            self._make_parents(path)
            self.files[path] = content

    def _make_parents(self, path: str) -> None:
        parts = path.split("/")[:-1]
        self.directories |= {"/".join(parts[:end]) for end in range(len(parts) + 1)}

    def move(self, source: str, target: str) -> Moved:
        return self._rename("move", source, target)

    def replace(self, source: str, target: str) -> Moved:
        return self._rename("replace", source, target)

    def _rename(self, name: str, source: str, target: str) -> Moved:
        number = self._begin(f"{name} {source} {target}")
        with self._lock:
            if source not in self.files:
                moved = Moved.SOURCE_GONE
            elif target.rpartition("/")[0] not in self.directories:
                moved = Moved.NO_PARENT
            elif target in self.files and name == "move":
                moved = Moved.TARGET_THERE
            else:
                self.files[target] = self.files.pop(source)
                moved = Moved.DONE
        self.after(number, f"{name} {source} {target}")
        return moved

    def make_parents(self, path: str) -> None:
        number = self._begin(f"make_parents {path}")
        with self._lock:
            self._make_parents(path)
        self.after(number, f"make_parents {path}")

    def read(self, path: str, bytes_max: int | None = None) -> bytes | None:
        number = self._begin(f"read {path}")
        found = self.files.get(path)
        self.after(number, f"read {path}")
        return found if found is None or bytes_max is None else found[: bytes_max + 1]

    def length(self, path: str) -> int | None:
        number = self._begin(f"length {path}")
        found = self.files.get(path)
        self.after(number, f"length {path}")
        return None if found is None else len(found)

    def list(self, path: str) -> "list[Listed] | None":
        number = self._begin(f"list {path}")
        if path not in self.directories:
            self.after(number, f"list {path}")
            return None
        prefix = f"{path}/" if path else ""
        found = {}
        for name in [*self.files, *(f"{one}/" for one in self.directories if one)]:
            if name.startswith(prefix) and (rest := name[len(prefix) :]):
                first, slash, _ = rest.partition("/")
                size = len(self.files.get(prefix + first, b""))
                found[first] = Listed(first, size, AT, bool(slash))
        self.after(number, f"list {path}")
        return [found[name] for name in sorted(found)]

    def delete(self, path: str) -> bool:
        number = self._begin(f"delete {path}")
        assert not path.endswith(tuple("0123456789")), "a file's tmp is never removed"
        gone = self.files.pop(path, None) is not None
        self.after(number, f"delete {path}")
        return gone

    def now_ms(self) -> int:
        return AT

    def where(self) -> str:
        return "memory"

    def close(self) -> None:
        self.closed = True


def unavailable(*_: object) -> None:
    raise StoreUnavailable("out of order")


def published(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """What a user sees: all that is not in `.tiers`, opened."""
    return {
        path: open_file(path, content)
        for path, content in files.items()
        if not path.startswith(".tiers/")
    }


def read_tree(root: Path) -> dict[str, bytes]:
    """Every file below a directory, by its path relative to it."""
    found = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def open_file(path: str, content: bytes) -> bytes:
    """A file's lines, opened with the tools that a user has."""
    if path.endswith(".gz"):
        return gzip.decompress(content)
    if path.endswith(".zst"):
        with zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True) as reader:
            return bytes(reader.readall())
    return content


@asynccontextmanager
async def running(sink: Sink) -> AsyncIterator[None]:
    task = asyncio.create_task(sink.run())
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def emptied(channel: Channel) -> None:
    await eventually(lambda: not channel.entries(OUTPUT) and not channel.records(b"plan/"))
