"""Performs what the commit protocol says, one store call at a time, and tells it the answer."""

from typing import Final, Protocol

from tiers.contracts import Store, Workers
from tiers.core.answers import Moved
from tiers.core.calls import (
    Answer,
    Ask,
    Clock,
    List,
    Listing,
    MakeParents,
    Move,
    Read,
    Replace,
    StoreCall,
    WriteSmall,
)
from tiers.core.looks import opened
from tiers.core.manifest import MANIFEST_BYTES_MAX

_SHORT_BYTES: Final = 64 << 10  # read on the loop within some milliseconds
_ANSWERS: Final = {
    Moved.DONE: Answer.DONE,
    Moved.SOURCE_GONE: Answer.SOURCE_GONE,
    Moved.TARGET_THERE: Answer.TARGET_THERE,
    Moved.NO_PARENT: Answer.NO_PARENT,
}


class Machine(Protocol):
    """A part of the protocol: `Publication` and `Settlement`."""

    def answer(self, answer: Answer) -> None: ...

    def listed(self, entries: Listing) -> None: ...

    def content(self, data: bytes | None) -> None: ...


class TimedMachine(Machine, Protocol):
    """One that also asks for the store's time."""

    def clock(self, now_ms: int) -> None: ...


async def perform(machine: Machine, call: StoreCall, store: Store, workers: Workers) -> None:
    """One call, and its answer. Raises StoreUnavailable and StoreRefused as the store does;
    LOST and REFUSED are for the caller to say."""
    run = workers.run
    match call:
        case WriteSmall(path, content):
            await run(lambda: store.write(path, [content]))
            machine.answer(Answer.DONE)
        case Move(source, target):
            machine.answer(_ANSWERS[await run(lambda: store.move(source, target))])
        case Replace(source, target):
            machine.answer(_ANSWERS[await run(lambda: store.replace(source, target))])
        case MakeParents(path):
            await run(lambda: store.make_parents(path))
            machine.answer(Answer.DONE)
        case Ask(path):
            there = await run(lambda: store.length(path)) is not None
            machine.answer(Answer.THERE if there else Answer.ABSENT)
        case Read(path):
            data = await run(lambda: store.read(path, MANIFEST_BYTES_MAX))
            if data is not None and len(data) > _SHORT_BYTES:
                await run(lambda: opened(data))
            machine.content(data)
        case List(path):
            found = await run(lambda: store.list(path)) or []
            machine.listed([(one.name, one.modified_ms) for one in found if not one.is_directory])
        case Clock():
            raise AssertionError("only a TimedMachine asks for the time")


async def perform_timed(
    machine: TimedMachine, call: StoreCall, store: Store, workers: Workers
) -> None:
    """As `perform`, for a machine that may ask for the time."""
    if isinstance(call, Clock):
        machine.clock(await workers.run(store.now_ms))
    else:
        await perform(machine, call, store, workers)
