"""Parts become what is wanted, one that fails is made anew, and what cannot be is taken back."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from random import Random
from typing import Any, NamedTuple

import pytest

from tests.waiting import eventually
from tiers.agent.parts.parts import Parts
from tiers.core.meters import Meter, MeterKind, Sample
from tiers.core.steps import Key, StepKind
from tiers.observe.meters import Meters

WORK = Meter("test_work", "", MeterKind.COUNTER, "What was done", ("part",))
SINK, SOURCE, STATUS = Key(StepKind.SINK, "out"), Key(StepKind.SOURCE, "in"), Key(StepKind.STATUS)
WITHIN_S = 5.0


class Spec(NamedTuple):
    number: int
    in_place: int = 0


class Dummy:
    """A part that notes what is done with it."""

    def __init__(self, rig: "Rig", key: Key, spec: Spec) -> None:
        self.spec = spec
        self.key = key
        self.rig = rig
        self.done = 0
        self.error: Exception | None = None
        self.wake = asyncio.Event()

    async def run(self) -> None:
        self.rig.note(self.key, "runs", self.spec.number)
        self.done += 1
        try:
            await self.wake.wait()
            if self.error is not None:
                raise self.error
        finally:
            self.rig.note(self.key, "ended", self.spec.number)

    async def change(self, spec: Spec) -> bool:
        if self.spec.number != spec.number:
            return False
        self.rig.note(self.key, "changed", spec.in_place)
        self.spec = spec
        return True

    async def retire(self) -> None:
        self.rig.note(self.key, "retires", self.spec.number)
        if self.rig.stuck:
            await asyncio.Event().wait()

    def go_on(self, before: "Dummy") -> None:
        self.done += before.done

    def meters(self) -> Iterable[Sample]:
        yield WORK.of(self.done, self.key.name)


class Rig:
    def __init__(self) -> None:
        self.told: list[str] = []
        self.refused: set[int] = set()  # numbers of specs that cannot be made
        self.stuck = False
        self.meters = Meters()
        self.parts = Parts(self.make, self.settled, self.meters, Random(1))

    def note(self, key: Key, what: str, number: int) -> None:
        self.told.append(f"{key} {what} {number}")

    async def make(self, key: Key, spec: Any) -> Dummy:
        if spec.number in self.refused:
            raise OSError(f"port {spec.number} is in use")
        return Dummy(self, key, spec)

    async def settled(self) -> None:
        self.told.append("settled")

    def dummy(self, key: Key) -> Dummy:
        part = self.parts._slots[key].part
        assert isinstance(part, Dummy)
        return part

    async def apply(self, **numbers: int | Spec) -> list[str]:
        """What was done for these to be at work: `out`, `in` or `status`."""
        keys = {"sink": SINK, "source": SOURCE, "status": STATUS}
        wanted = {
            keys[name]: number if isinstance(number, Spec) else Spec(number)
            for name, number in numbers.items()
        }
        before = len(self.told)
        await self.parts.apply(lambda: wanted, WITHIN_S)
        assert self.parts.specs() == wanted
        return self.told[before:]


@asynccontextmanager
async def rigged() -> AsyncIterator[Rig]:
    rig = Rig()
    try:
        yield rig
    finally:
        await rig.parts.end()


async def test_the_way_out_begins_first_and_ends_last() -> None:
    async with rigged() as rig:
        assert await rig.apply(source=1, sink=1) == ["sink out runs 1", "source in runs 1"]
        assert await rig.apply() == [
            *("source in retires 1", "source in ended 1"),
            *("sink out retires 1", "sink out ended 1"),
        ]


async def test_what_did_not_change_is_not_touched() -> None:
    async with rigged() as rig:
        await rig.apply(source=1, sink=1)
        sink = rig.dummy(SINK)
        assert await rig.apply(source=2, sink=1) == [
            *("source in retires 1", "source in ended 1"),
            # The next one goes by what is on disk.
            *("settled", "source in runs 2"),
        ]
        assert await rig.apply(source=2, sink=1) == []
        assert rig.dummy(SINK) is sink


async def test_what_can_changes_in_place() -> None:
    async with rigged() as rig:
        await rig.apply(source=1)
        assert await rig.apply(source=Spec(1, 7)) == ["source in changed 7"]


async def test_it_counts_on() -> None:
    async with rigged() as rig:
        await rig.apply(source=1, sink=1)
        await rig.apply(source=2, sink=1)
        numbers = rig.meters.read()
        assert numbers.value(WORK, "in") == 2
        assert numbers.value(WORK, "out") == 1
        await rig.apply(sink=1)
        assert rig.meters.read().total(WORK) == 1, "nothing is told of what has ended"


@pytest.mark.parametrize("refused", [2, 3])
async def test_steps_are_taken_back_when_one_fails(refused: int) -> None:
    async with rigged() as rig:
        await rig.apply(sink=Spec(1), source=1)
        rig.refused = {refused}
        wanted = {SINK: Spec(2), SOURCE: Spec(3)}
        with pytest.raises(OSError, match=f"port {refused} is in use"):
            await rig.parts.apply(lambda: wanted, WITHIN_S)
        assert rig.parts.specs() == {SINK: Spec(1), SOURCE: Spec(1)}
        assert rig.told[-2:] == ["sink out runs 1", "source in runs 1"]
        assert rig.meters.read().value(WORK, "in") == 2, "it counts on"


async def test_a_change_in_place_is_taken_back_too() -> None:
    async with rigged() as rig:
        await rig.apply(sink=Spec(1, 5))
        rig.refused = {3}
        with pytest.raises(OSError, match="in use"):
            await rig.parts.apply(lambda: {SINK: Spec(1, 6), SOURCE: Spec(3)}, WITHIN_S)
        assert rig.parts.specs() == {SINK: Spec(1, 5)}


async def test_what_cannot_be_begun_again_leaves_the_others_at_work() -> None:
    async with rigged() as rig:
        await rig.apply(sink=1, source=1)
        rig.refused = {1, 3}
        with pytest.raises(OSError, match="port 3"):
            await rig.parts.apply(lambda: {SINK: Spec(1), SOURCE: Spec(3)}, WITHIN_S)
        assert rig.parts.specs() == {SINK: Spec(1)}
        rig.refused = set()
        assert await rig.apply(sink=1, source=1) == ["source in runs 1"]


async def test_one_that_does_not_settle_is_ended_in_time() -> None:
    async with rigged() as rig:
        await rig.apply(source=1)
        rig.stuck = True
        await rig.parts.apply(dict, 0.01)
        assert rig.told[-2:] == ["source in retires 1", "source in ended 1"]


async def test_one_that_fails_is_made_anew_and_no_other_notices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tiers.core.backoff.Backoff.wait_s", lambda *_: 0.0)
    async with rigged() as rig:
        await rig.apply(sink=1, source=1)
        sink, before = rig.dummy(SINK), rig.dummy(SOURCE)
        rig.refused = {1}
        before.error = ValueError("no")
        before.wake.set()
        await eventually(lambda: told(rig) == ("OSError: port 1 is in use",), "it was tried")
        assert before is rig.dummy(SOURCE)
        rig.refused = set()
        await eventually(lambda: rig.dummy(SOURCE) is not before and not told(rig))
        assert rig.dummy(SOURCE).spec == Spec(1)
        assert rig.dummy(SOURCE).done >= 2, "it counts on"
        assert rig.parts._slots[SOURCE].failures >= 2
        assert rig.told[-2:] == ["settled", "source in runs 1"]
        assert rig.dummy(SINK) is sink


def told(rig: Rig) -> tuple[str, ...]:
    return tuple(why for _, why in rig.parts.failing())


async def test_a_cancellation_that_nobody_asked_for_is_a_failure() -> None:
    async with rigged() as rig:
        await rig.apply(source=1)
        part: Any = rig.dummy(SOURCE)
        part.error = asyncio.CancelledError()
        part.wake.set()
        await eventually(lambda: told(rig), "it is told")
        (why,) = told(rig)
        assert "cancelled" in why


async def test_one_that_has_failed_takes_no_change_in_place() -> None:
    async with rigged() as rig:
        await rig.apply(source=1)
        rig.dummy(SOURCE).error = ValueError("no")
        rig.dummy(SOURCE).wake.set()
        await eventually(lambda: told(rig), "it has failed")
        done = await rig.apply(source=Spec(1, 7))
        assert done == ["settled", "source in runs 1"]
        assert not told(rig)


async def test_all_end_at_once() -> None:
    async with rigged() as rig:
        await rig.apply(sink=1, source=1)
        await rig.parts.end()
        assert not rig.parts.specs()
        assert "source in retires 1" not in rig.told
        assert not list(rig.meters.read().families())
