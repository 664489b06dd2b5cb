"""Performs what the commit protocol says, one store call at a time, and tells it the answer."""

from typing import Final, Protocol

from tiers.contracts import Store, Workers
from tiers.core.commit.answers import Moved
from tiers.core.commit.calls import (
    CallAnswer,
    Exists,
    List,
    Listing,
    MakeParents,
    Move,
    Read,
    ReadClock,
    Replace,
    StoreCall,
    WriteSmall,
)
from tiers.core.commit.manifest import MANIFEST_BYTES_MAX
from tiers.core.commit.manifest_index import opened

_SHORT_BYTES: Final = 64 << 10  # read on the loop within some milliseconds
_ANSWERS: Final = {
    Moved.DONE: CallAnswer.DONE,
    Moved.SOURCE_GONE: CallAnswer.SOURCE_GONE,
    Moved.TARGET_THERE: CallAnswer.TARGET_THERE,
    Moved.NO_PARENT: CallAnswer.NO_PARENT,
}


class ProtocolPart(Protocol):
    """A part of the protocol: `Publication` and `Settlement`."""

    def answer(self, answer: CallAnswer) -> None: ...

    def listed(self, entries: Listing) -> None: ...

    def content(self, data: bytes | None) -> None: ...


class TimedMachine(ProtocolPart, Protocol):
    """One that also asks for the store's time."""

    def clock(self, now_ms: int) -> None: ...


async def perform(machine: ProtocolPart, call: StoreCall, store: Store, workers: Workers) -> None:
    """One call, and its answer. Raises StoreUnavailable and StoreRefused as the store does;
    LOST and REFUSED are for the caller to say."""
    run = workers.run
    match call:
        case WriteSmall(path, content):
            await run(lambda: store.write(path, [content]))
            machine.answer(CallAnswer.DONE)
        case Move(source, target):
            machine.answer(_ANSWERS[await run(lambda: store.move(source, target))])
        case Replace(source, target):
            machine.answer(_ANSWERS[await run(lambda: store.replace(source, target))])
        case MakeParents(path):
            await run(lambda: store.make_parents(path))
            machine.answer(CallAnswer.DONE)
        case Exists(path):
            there = await run(lambda: store.length(path)) is not None
            machine.answer(CallAnswer.THERE if there else CallAnswer.ABSENT)
        case Read(path):
            data = await run(lambda: store.read(path, MANIFEST_BYTES_MAX))
            if data is not None and len(data) > _SHORT_BYTES:
                await run(lambda: opened(data))
            machine.content(data)
        case List(path):
            found = await run(lambda: store.list(path)) or []
            machine.listed([(one.name, one.modified_ms) for one in found if not one.is_directory])
        case ReadClock():
            raise AssertionError("only a TimedMachine asks for the time")


async def perform_timed(
    machine: TimedMachine, call: StoreCall, store: Store, workers: Workers
) -> None:
    """As `perform`, for a machine that may ask for the time."""
    if isinstance(call, ReadClock):
        machine.clock(await workers.run(store.now_ms))
    else:
        await perform(machine, call, store, workers)
