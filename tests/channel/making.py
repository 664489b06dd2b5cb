"""Batches and channels for the tests of this room."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from tiers.channel.channel import Channel
from tiers.core.batch import BatchId, Buffer, Envelope, Hop, seal, split, verify
from tiers.core.change import ChannelLimits, Put
from tiers.core.codecs import decompress
from tiers.host.clock import CLOCK, Clock

LIMITS = ChannelLimits(size_bytes_max=64 << 20, free_floor_bytes=0)
OUT = ("out",)


def record(origin: bytes, seq: int, body: bytes = b"a line\n", count: int = 1) -> bytes:
    """A sealed record with this body."""
    headers = {"service": "web"}
    return seal(Envelope(origin, seq, count, len(body), headers, 1, 1, "lines", "none"), body)


def stored(channel: Channel) -> Iterator[tuple[Envelope, bytes]]:
    """What waits for its output: each batch's envelope, and its raw bytes."""
    for entry in channel.entries(*OUT, 0, 10_000):
        yield unsealed(channel.record(entry.position))


def unsealed(record: Buffer) -> tuple[Envelope, bytes]:
    """A record's envelope, and its raw bytes."""
    envelope = verify(record)
    return envelope, decompress(envelope.codec, split(record)[1], envelope.size)


def put(
    channel: Channel,
    body: bytes = b"a line\n",
    *,
    outputs: Sequence[str] = OUT,
    note: bytes = b"",
    count: int = 1,
) -> Put:
    """A batch that begins in this channel; submit it at once."""
    seq = channel.next_seq()
    sealed = record(channel.origin, seq, body, count)
    hops = (Hop("edge-1", 1),)
    return Put(BatchId(channel.origin, seq), sealed, count, outputs, hops=hops, note=note)


def arrived(origin: bytes, seq: int, *, outputs: Sequence[str] = OUT) -> Put:
    """A batch from a peer."""
    return Put(BatchId(origin, seq), record(origin, seq), 1, outputs, arrived=True)


class StoppedClock(Clock):
    """A wall clock that stands still but for the test."""

    def __init__(self) -> None:
        super().__init__()
        self.ms = super().now_ms()

    def now_ms(self) -> int:
        return self.ms


@asynccontextmanager
async def opened(
    directory: Path,
    limits: ChannelLimits = LIMITS,
    outputs: Sequence[str] = OUT,
    clock: Clock = CLOCK,
) -> AsyncIterator[Channel]:
    errors: list[dict[str, object]] = []  # of callbacks, which asyncio would only log
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    channel = await Channel.open(directory, limits, outputs, clock)
    try:
        yield channel
    finally:
        await channel.close()
    assert errors == []


@contextmanager
def tmpfs(path: Path, size_bytes: int) -> Iterator[Path]:
    """A small disk of its own. Skips without root, but never in CI, which is root."""
    if os.geteuid() != 0 and os.environ.get("CI") != "true":
        pytest.skip("mounting a tmpfs needs root")
    path.mkdir()
    options = f"size={size_bytes}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tiers-test", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(file: Path) -> None:
    """Takes every byte the disk still has."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    try:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    os.write(descriptor, bytes(size))
            except OSError:
                continue
    finally:
        os.close(descriptor)


def python(code: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Runs this code in a process of its own, to its end."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def python_beside(code: str, *arguments: object) -> "subprocess.Popen[bytes]":
    """Starts this code in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
