"""What every channel does with a batch that not all outputs, or none, are to have."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.channel.making import LIMITS, StoppedClock, arrived, opened, put
from tests.channel.places import BOTH, Place
from tests.waiting import eventually
from tiers.channel import withheld, writer
from tiers.channel.channel import Channel
from tiers.channel.checking import value_problems
from tiers.channel.meters import SKIPPED, SKIPPED_EVENTS, UNROUTED, UNROUTED_EVENTS
from tiers.channel.withheld import WithheldTold
from tiers.core.batch import BatchId
from tiers.core.change import NO_OUTPUT, Change, ChannelLimits, Put
from tiers.core.dedupe import BLOCK_SEQS
from tiers.core.withheld import Withheld

PEER = b"P" * 16
KEY = BatchId(PEER, 7)
AGAIN = replace(LIMITS, ask_again=True)


def to(batch: Put, *outputs: str, dead: str = "") -> Put:
    """Routed to these of BOTH."""
    others = [output for output in BOTH if output not in outputs]
    return replace(batch, outputs=outputs, skipped=others, dead=dead)


def seqs(channel: Channel) -> list[list[int]]:
    """Of what waits for each of BOTH."""
    return [[entry.id.seq for entry in channel.entries(output)] for output in BOTH]


def told(channel: Channel) -> dict[str, WithheldTold]:
    assert list(value_problems(channel._environment, bodies=True)) == []
    return withheld.told_of(channel.records(withheld.PREFIX))


def letters(channel: Channel) -> list[tuple[int, str, str]]:
    return [(one.position, one.output, one.reason) for one in channel.letters()]


def passed_on(channel: Channel) -> list[BatchId]:
    """Filled from now on."""
    found: list[BatchId] = []
    channel.tell_passed_on(found.extend)
    return found


def counted(channel: Channel) -> dict[object, float]:
    wanted = (SKIPPED, SKIPPED_EVENTS, UNROUTED, UNROUTED_EVENTS)
    return {
        (one.meter, *one.labels): one.value  # type: ignore[misc]
        for one in channel.meters()
        if one.meter in wanted and one.value
    }


async def test_an_output_that_a_batch_is_not_for_never_has_it_and_that_is_known(
    place: Place,
) -> None:
    async with place.opened() as channel:
        own = channel.origin
        puts = [to(put(channel, count=3), "one"), put(channel, outputs=BOTH)]
        await channel.submit(Change(puts=puts))
        await channel.submit(Change(puts=[to(arrived(PEER, 7), "two")]))
        assert seqs(channel) == [[1, 2], [2, 7]]
        assert told(channel) == {"two": ({own: [[1, 1]]}, {}), "one": ({PEER: [[7, 7]]}, {})}
        assert counted(channel) == {
            (SKIPPED, "one"): 1,
            (SKIPPED_EVENTS, "one"): 1,
            (SKIPPED, "two"): 1,
            (SKIPPED_EVENTS, "two"): 3,
        }
    async with place.opened() as channel:
        assert seqs(channel) == [[1, 2], [2, 7]]
        assert told(channel) == {"two": ({own: [[1, 1]]}, {}), "one": ({PEER: [[7, 7]]}, {})}


async def test_one_that_is_let_go_of_by_those_that_have_it_is_passed_on(place: Place) -> None:
    async with place.opened() as channel:
        found = passed_on(channel)
        await channel.submit(Change(puts=[to(arrived(PEER, 7), "two")]))
        await channel.submit(Change(releases=[("two", 1)]))
        assert found == [KEY]
        assert channel.stats().batches == 0
        assert told(channel) == {"one": ({PEER: [[7, 7]]}, {})}


@pytest.mark.parametrize("dead", ["", "unrouted: why"])
async def test_what_no_output_wants_is_seen_and_passed_on_in_the_same_change(
    place: Place, dead: str
) -> None:
    async with place.opened() as channel:
        own, found = channel.origin, passed_on(channel)
        puts = [to(put(channel, count=4), dead=dead), to(arrived(PEER, 7), dead=dead)]
        assert await channel.submit(Change(puts=puts, records={b"position/a": b"1"})) == (1, 2)
        assert channel.records(b"position/") == {b"position/a": b"1"}
        assert found == [KEY]
        assert channel.seen([KEY])[KEY].passed_on
        assert seqs(channel) == [[], []]
        assert channel.next_seq() == 2, "its number was given"
        assert await channel.submit(Change(puts=[to(arrived(PEER, 7), dead=dead)])) == (0,)
        assert counted(channel)[(UNROUTED,)] == 2
        assert counted(channel)[(UNROUTED_EVENTS,)] == 5
        assert counted(channel)[(SKIPPED, "one")] == 2
        if dead:
            assert letters(channel) == [(1, NO_OUTPUT, dead), (2, NO_OUTPUT, dead)]
            assert channel.stats().batches == channel.stats().dead == 2
            assert told(channel) == {}, "it may still be routed"
        else:
            assert channel.stats().batches == 0
            every = WithheldTold({own: [[1, 1]], PEER: [[7, 7]]}, {})
            assert told(channel) == {"one": every, "two": every}
    async with place.opened() as channel:
        assert len(letters(channel)) == 2 * bool(dead)
        assert channel.seen([KEY])[KEY].passed_on
        assert channel.stats().dead == len(letters(channel))


async def test_a_letter_of_no_output_goes_to_those_that_want_it_by_now(place: Place) -> None:
    async with place.opened() as channel:
        await channel.submit(Change(puts=[to(arrived(PEER, 7), dead="why")]))
        assert await channel.submit(Change(puts=[again(1, "two")])) == (2,)
        assert seqs(channel) == [[], [7]]
        assert told(channel) == {"one": ({PEER: [[7, 7]]}, {})}
        assert letters(channel) == []
        assert channel.stats().batches == 1
        assert await channel.submit(Change(puts=[again(1, "two")])) == (0,), "it is none any more"
        await channel.submit(Change(releases=[("two", 2)]))
        assert channel.stats().batches == 0
        assert channel.seen([KEY])[KEY].passed_on
        assert told(channel) == {"one": ({PEER: [[7, 7]]}, {})}


def again(letter: int, *outputs: str) -> Put:
    return replace(to(arrived(PEER, 7), *outputs), letter=letter, arrived=False, flagged=True)


async def test_a_letter_of_no_output_that_is_dropped_is_dropped_for_all(place: Place) -> None:
    async with place.opened() as channel:
        await channel.submit(Change(puts=[to(arrived(PEER, 7), dead="why")]))
        await channel.submit(Change(drops=[(NO_OUTPUT, 1), (NO_OUTPUT, 1)]))
        dropped: tuple[object, object] = ({}, {PEER: [[7, 7]]})
        assert told(channel) == {"one": dropped, "two": dropped}
        assert (channel.stats().dead, channel.stats().batches) == (0, 0)
        assert channel.accounts.dead_bytes == 0


async def test_what_fails_before_it_is_routed_is_a_letter_of_those_it_is_routed_to(
    place: Place,
) -> None:
    async with place.opened() as channel:
        await channel.submit(Change(puts=[to(put(channel), "one", dead="it failed")]))
        await channel.submit(Change(puts=[to(put(channel), dead="it failed")]))
        assert letters(channel) == [(1, "one", "it failed"), (2, NO_OUTPUT, "it failed")]


async def test_another_content_under_a_known_id_is_kept_whatever_its_route(place: Place) -> None:
    async with place.opened() as channel:
        await channel.submit(Change(puts=[to(arrived(PEER, 7), dead="why")]))
        body = put(channel, b"another\n")
        other = replace(body, id=KEY, arrived=True)
        await channel.submit(Change(puts=[to(other)]))
        assert [output for _, output, _ in letters(channel)] == [NO_OUTPUT, NO_OUTPUT]
        assert channel.letters()[1].twice_given


@pytest.mark.parametrize("now", [(), ("two",), BOTH])
async def test_one_that_comes_again_goes_to_those_that_asked_whatever_routes_say(
    place: Place, now: Sequence[str]
) -> None:
    async with place.opened(limits=AGAIN) as channel:
        found = passed_on(channel)
        await channel.submit(Change(puts=[to(arrived(PEER, 7), "one")]))
        await channel.submit(Change(damaged=[("one", 1, "it cannot be read")]))
        assert channel.seen([KEY]) == {}
        before = told(channel)
        await channel.submit(Change(puts=[to(arrived(PEER, 7), *now)]))
        assert seqs(channel) == [[7], []]
        assert told(channel) == before == {"two": ({PEER: [[7, 7]]}, {})}
        assert found == []
        await channel.submit(Change(releases=[("one", 2)]))
        assert found == [KEY]


async def test_what_is_put_together_of_two_channels_is_what_either_knew(place: Place) -> None:
    async with place.opened() as channel:
        await channel.submit(Change(puts=[to(arrived(PEER, 7), "one")]))
        more = Withheld().skipping(9, 5).dropping(8, 5)
        far = Withheld().skipping(1, 5)
        block = BatchId(PEER, 3 * BLOCK_SEQS)
        await channel.submit(Change(withheld=[("two", KEY, more), ("two", block, far)]))
        skipped = [[7, 7], [9, 9], [3 * BLOCK_SEQS + 1, 3 * BLOCK_SEQS + 1]]
        assert told(channel) == {"two": ({PEER: skipped}, {PEER: [[8, 8]]})}


async def test_what_was_withheld_is_forgotten_after_three_retentions(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "TEND_EVERY_S", 0.0)
    monkeypatch.setattr(writer, "IDLE_S", 0.01)
    monkeypatch.setattr(writer, "TEND_BLOCKS_MAX", 2)
    clock = StoppedClock()
    limits: ChannelLimits = replace(LIMITS, dedupe_retention_s=10.0)
    async with opened(place.directory, limits, BOTH, clock) as channel:
        puts = [to(arrived(bytes([n]) * 16, 7), "one") for n in range(5)]
        await channel.submit(Change(puts=puts, records={b"position/a": b"1", b"zzz": b"2"}))
        clock.ms += 30_000
        young = to(arrived(PEER, 7), "one")
        await channel.submit(Change(puts=[young]))
        for _ in range(10):
            await channel.submit(Change(records={b"agent/x": b""}))
        assert len(told(channel)["two"].skipped) == 6, "for so long they are known"
        clock.ms += 1
        await eventually(lambda: list(told(channel)["two"].skipped) == [PEER], "forgotten")
        assert channel.records(b"position/") and channel.records(b"zzz")


async def test_what_was_here_before_an_output_was_new_is_not_for_it(place: Place) -> None:
    far = BLOCK_SEQS + 5
    async with place.opened(["one"]) as channel:
        own = channel.origin
        puts = [put(channel, outputs=["one"]) for _ in range(3)]
        came = [arrived(PEER, seq, outputs=["one"]) for seq in (2, 7, far)]
        await channel.submit(Change(puts=[*puts, *came]))
        assert told(channel) == {}
    before = WithheldTold({own: [[1, 3]], PEER: [[1, far]]}, {})
    async with place.opened() as channel:
        assert told(channel) == {"two": before}
        await channel.submit(Change(puts=[put(channel, outputs=BOTH)]))
        assert seqs(channel)[1] == [1]
    async with place.opened() as channel:
        assert told(channel) == {"two": before}, "it is new once"


async def test_in_a_new_channel_no_output_has_missed_anything(place: Place) -> None:
    async with place.opened() as channel:
        assert told(channel) == {}


async def test_what_was_here_before_an_output_began_is_not_for_it_while_it_is_open(
    place: Place,
) -> None:
    async with place.opened(["one"]) as channel:
        own = channel.origin
        await channel.submit(Change(puts=[put(channel, outputs=["one"])]))
        assert await channel.work_by(LIMITS, BOTH) == Change(begins=("two",))
        # Still by the old route, and perhaps in one commit with what begins it.
        channel.submit(Change(puts=[put(channel, outputs=["one"])]))
        channel.submit(Change(puts=[arrived(PEER, 3, outputs=["one"])]))
        channel.submit(Change(begins=["two"]))
        await channel.submit(Change(puts=[put(channel, outputs=BOTH)]))
        before = WithheldTold({own: [[1, 2]], PEER: [[1, 3]]}, {})
        assert told(channel) == {"two": before}
        assert seqs(channel)[1] == [3]
        assert await channel.work_by(LIMITS, BOTH) == Change()
    async with place.opened() as channel:
        assert told(channel) == {"two": before}, "it is new once"


async def test_what_came_while_an_output_was_away_is_not_for_it(place: Place) -> None:
    async with place.opened() as channel:
        own = channel.origin
        await channel.submit(Change(puts=[put(channel, outputs=BOTH)]))
        await channel.submit(Change(puts=[arrived(PEER, 5, outputs=BOTH)]))
        assert await channel.work_by(LIMITS, ["one"]) == Change(ends=("two",))
        channel.submit(Change(puts=[put(channel, outputs=BOTH)]))  # still by the old route
        channel.submit(Change(ends=["two"]))
        channel.submit(Change(puts=[put(channel, outputs=["one"])]))
        channel.submit(Change(ends=["two"]))  # it has ended
        channel.submit(Change(puts=[arrived(PEER, 6, outputs=["one"])]))
        assert await channel.work_by(LIMITS, BOTH) == Change(begins=("two",))
        await channel.submit(Change(begins=["two"]))
        await channel.submit(Change(puts=[put(channel, outputs=BOTH)]))
        away = {own: [[3, 3]], PEER: [[6, 6]]}
        assert told(channel) == {"two": WithheldTold(away, {})}
        await channel.submit(Change(begins=["two"]))
        assert told(channel) == {"two": WithheldTold(away, {})}, "it had begun"


async def test_an_output_may_be_away_over_starts(place: Place) -> None:
    async with place.opened() as channel:
        first = channel.origin
        await channel.submit(Change(puts=[put(channel, outputs=BOTH)]))
    async with place.opened(["one"]) as channel:
        second = channel.origin
        await channel.submit(Change(puts=[put(channel, outputs=["one"])]))
    async with place.opened(["one"]) as channel:
        third = channel.origin
        await channel.submit(Change(puts=[put(channel, outputs=["one"])]))
    async with place.opened() as channel:
        await channel.submit(Change(puts=[put(channel, outputs=BOTH)]))
        away = {second: [[1, 1]], third: [[1, 1]]}
        assert told(channel) == {"two": WithheldTold(away, {})}, first.hex()
        assert await channel.work_by(LIMITS, ["one"]) == Change(ends=("two",))
        # It was cut off before that was submitted: nothing was put by that file.
    async with place.opened() as channel:
        assert told(channel) == {"two": WithheldTold(away, {})}


async def test_an_output_that_was_known_and_never_began_was_given_nothing(place: Place) -> None:
    """Its agent was killed between the two, or the file that has it was refused after all."""
    async with place.opened(["one"]) as channel:
        own = channel.origin
        await channel.submit(Change(puts=[put(channel, outputs=["one"])]))
        await channel.work_by(LIMITS, BOTH)
        assert await channel.work_by(LIMITS, ["one"]) == Change(ends=("two",))
        await channel.submit(Change(ends=["two"]))
        await channel.submit(Change(puts=[put(channel, outputs=["one"])]))
    async with place.opened() as channel:
        assert told(channel) == {"two": WithheldTold({own: [[1, 2]]}, {})}


async def test_one_that_was_to_end_and_did_not_goes_on_as_if_nothing_had_been(
    place: Place,
) -> None:
    async with place.opened() as channel:
        await channel.submit(Change(puts=[put(channel, outputs=BOTH)]))
        await channel.work_by(LIMITS, ["one"])
        await channel.submit(await channel.work_by(LIMITS, BOTH))
        assert told(channel) == {}


async def test_a_long_absence_is_told_block_by_block(place: Place) -> None:
    async with place.opened(["one"]) as channel:
        await channel.submit(Change(puts=[arrived(PEER, 4000, outputs=["one"])]))
        await channel.work_by(LIMITS, BOTH)
        await channel.submit(Change(begins=["two"]))
        await channel.submit(Change(ends=["two"]))
        await channel.submit(Change(puts=[arrived(PEER, 9000, outputs=["one"])]))
        await channel.submit(Change(begins=["two"]))
        assert told(channel) == {"two": WithheldTold({PEER: [[1, 9000]]}, {})}
        await channel.submit(Change(ends=["two"]))
        await channel.submit(Change(puts=[arrived(PEER, 9001, outputs=["one"])]))
        await channel.submit(Change(begins=["two"]))
        assert told(channel) == {"two": WithheldTold({PEER: [[1, 9001]]}, {})}
