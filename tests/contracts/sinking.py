"""Each kind of sink, for its contract: how it is made, and what a user finds of what it delivered.
A new one gets the suite by a line in `RIGS`."""

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

import pytest

from tests.sinks.parts import Said, published, put, read_tree, record
from tiers.channel.channel import Channel
from tiers.contracts import Sink
from tiers.core.batch import Buffer
from tiers.core.change import Change
from tiers.registry import load
from tiers.sinks import BUILTIN, GROUP, stdout
from tiers.sinks.files.stores.local import LocalStore
from tiers.sinks.outlet import ChannelOutlet

LINES = 20  # in a batch


class Place(Protocol):
    """Where one kind of sink delivers. Most is asked in the process of the sink; `lines` also of
    what another process has delivered, whose standard output is `directory`/stdout."""

    options: dict[str, Any]

    def lines(self) -> list[bytes]: ...

    def refuse(self) -> None:
        """From now on it takes nothing, until a person has acted: `mend`."""

    def mend(self) -> None: ...

    def hold(self) -> None:
        """From now on it takes nothing, and says nothing, until `let_go`."""

    def let_go(self) -> None: ...


@dataclass(frozen=True)
class Rig:
    """A sink under test."""

    type: str
    place: Callable[[Path, pytest.MonkeyPatch], Place]
    opens: bool = True  # it looks into what it delivers, and delivers it somewhere
    once: bool = False  # each batch once, whatever dies


class DirectoryPlace:
    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self._root = directory / "out"
        self._free = threading.Event()
        self._free.set()
        self.options = {"root": str(self._root), "roll_after": "20ms"}
        write = LocalStore.write

        def held(store: LocalStore, path: str, chunks: Iterable[Buffer]) -> int:
            assert self._free.wait(90)
            return write(store, path, chunks)

        patch.setattr(LocalStore, "write", held)

    def lines(self) -> list[bytes]:
        files = published(read_tree(self._root)) if self._root.is_dir() else {}
        return [line for content in files.values() for line in content.splitlines()]

    def refuse(self) -> None:
        self._root.mkdir()
        (self._root / "2026").write_bytes(b"a file where a directory is needed")

    def mend(self) -> None:
        (self._root / "2026").unlink()

    def hold(self) -> None:
        self._free.clear()

    def let_go(self) -> None:
        self._free.set()


class StdoutPlace:
    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.options: dict[str, Any] = {}
        self._file = directory / "stdout"
        self._descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._pipe: tuple[int, int] | None = None
        patch.setattr(stdout, "DESCRIPTOR", self._descriptor)

    def lines(self) -> list[bytes]:
        return self._file.read_bytes().splitlines()

    def refuse(self) -> None:
        self.hold()
        assert self._pipe is not None
        os.close(self._pipe[0])

    def mend(self) -> None:
        to_file = os.open(self._file, os.O_WRONLY | os.O_APPEND)
        os.dup2(to_file, self._descriptor)
        os.close(to_file)

    def hold(self) -> None:
        """A pipe that nobody reads from: full."""
        self._pipe = os.pipe()
        os.dup2(self._pipe[1], self._descriptor)
        os.close(self._pipe[1])

    def let_go(self) -> None:
        """Who is at its end wakes up, and reads to the end of all that is written."""
        assert self._pipe is not None
        reader = self._pipe[0]

        def read() -> None:
            with self._file.open("ab", buffering=0) as file:
                while data := os.read(reader, 1 << 16):
                    file.write(data)
            os.close(reader)

        threading.Thread(target=read, daemon=True).start()


class NullPlace:
    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.options: dict[str, Any] = {}

    def lines(self) -> list[bytes]:
        return []

    def refuse(self) -> None:
        raise AssertionError("it takes everything")

    mend = hold = let_go = refuse


RIGS = (
    Rig("directory", DirectoryPlace, once=True),
    Rig("null", NullPlace, opens=False),
    Rig("stdout", StdoutPlace),
)
OPENING = tuple(rig for rig in RIGS if rig.opens)


def make(type_: str, said: Said, **options: Any) -> Sink:
    made = load(BUILTIN, GROUP, type_)
    sink: Sink = made(made.Options.model_validate({"type": type_, **options}), said.context())
    return sink


def lines_of(seqs: Iterable[int], count: int = LINES) -> list[bytes]:
    return [b"batch %d line %d" % (seq, i) for seq in seqs for i in range(count)]


async def store(channel: Channel, seqs: Iterable[int], count: int = LINES) -> None:
    """Batches with those numbers; what was stored before is known as seen."""
    puts = []
    for seq in seqs:
        body = b"".join(line + b"\n" for line in lines_of([seq], count))
        puts.append(put(record(body, seq), seq, count))
    await channel.submit(Change(puts=puts))


def plant() -> None:
    """A bug, for the rest of this process: the outlet lets go of each batch that is taken."""
    take = ChannelOutlet.take

    async def hasty(self: ChannelOutlet, *args: Any) -> Any:
        taken = await take(self, *args)
        await self.release([entry.position for entry in taken])
        return taken

    mock.patch.object(ChannelOutlet, "take", hasty).start()
