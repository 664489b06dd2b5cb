"""A damaged batch that comes once more, with `guarantee = "end"`: for the outputs that need it."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.channel.making import LIMITS, arrived, opened
from tiers.channel.channel import Channel
from tiers.channel.checking import value_problems
from tiers.core.batch import BatchId
from tiers.core.change import Change

ORIGIN = b"o" * 16
KEY = BatchId(ORIGIN, 1)
OUTPUTS = ("one", "two")
AGAIN = replace(LIMITS, ask_again=True)


async def put(channel: Channel, outputs: tuple[str, ...] = OUTPUTS) -> int:
    (position,) = await channel.submit(Change(puts=[arrived(ORIGIN, 1, outputs=outputs)]))
    return position


async def damaged(channel: Channel, output: str, position: int) -> None:
    await channel.submit(Change(damaged=[(output, position, "it cannot be read")]))


async def release(channel: Channel, output: str, position: int) -> None:
    await channel.submit(Change(releases=[(output, position)]))


def waiting(channel: Channel, outputs: tuple[str, ...] = OUTPUTS) -> list[list[int]]:
    """Positions in each queue."""
    return [[entry.position for entry in channel.entries(output)] for output in outputs]


def told(channel: Channel) -> list[BatchId]:
    """Filled with what is passed on from now on."""
    found: list[BatchId] = []
    channel.tell_passed_on(found.extend)
    return found


def is_sound(channel: Channel) -> bool:
    assert list(value_problems(channel._environment, bodies=True)) == []
    return True


def known(channel: Channel) -> dict[BatchId, bool]:
    """What was seen, and whether it was passed on."""
    return {key: one.passed_on for key, one in channel.seen([KEY]).items()}


async def test_who_had_let_go_of_it_does_not_get_it_again(tmp_path: Path) -> None:
    async with opened(tmp_path, AGAIN, OUTPUTS) as channel:
        passed_on = told(channel)
        assert await put(channel) == 1
        await release(channel, "one", 1)
        await damaged(channel, "two", 1)
        assert (known(channel), passed_on) == ({}, [])
        assert await put(channel) == 2
        assert waiting(channel) == [[], [2]]
        assert known(channel) == {KEY: False}
        await release(channel, "two", 2)
        assert (known(channel), passed_on) == ({KEY: True}, [KEY])
        assert await put(channel) == 0
        assert channel.records(b"") == {}
        assert is_sound(channel)


async def test_who_has_still_to_let_go_of_the_first_copy_keeps_to_it(tmp_path: Path) -> None:
    async with opened(tmp_path, AGAIN, OUTPUTS) as channel:
        passed_on = told(channel)
        await put(channel)
        await damaged(channel, "one", 1)
        await put(channel)
        assert waiting(channel) == [[2], [1]]
        await release(channel, "one", 2)
        assert (known(channel), passed_on) == ({KEY: False}, []), "one output has it still"
        await release(channel, "two", 1)
        assert (known(channel), passed_on) == ({KEY: True}, [KEY])
        assert is_sound(channel)


@pytest.mark.parametrize("gone", [True, False])
async def test_the_other_output_may_meet_the_damage_later(tmp_path: Path, gone: bool) -> None:
    """The copy that had come for the first may be gone again, or not."""
    async with opened(tmp_path, AGAIN, OUTPUTS) as channel:
        passed_on = told(channel)
        await put(channel)
        await damaged(channel, "one", 1)
        await put(channel)
        if gone:
            await release(channel, "one", 2)
        await damaged(channel, "two", 1)
        assert (known(channel), passed_on) == ({}, [])
        assert await put(channel) == 3
        assert waiting(channel) == [[] if gone else [2], [3]]
        await release(channel, "two", 3)
        await release(channel, "one", 2)
        assert (known(channel), passed_on) == ({KEY: True}, [KEY])
        assert is_sound(channel)


async def test_both_may_meet_the_damage_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path, AGAIN, OUTPUTS) as channel:
        await put(channel)
        await damaged(channel, "one", 1)
        await damaged(channel, "two", 1)
        await put(channel)
        assert waiting(channel) == [[2], [2]]
        assert is_sound(channel)


async def test_a_dead_letter_of_another_output_counts_no_longer(tmp_path: Path) -> None:
    async with opened(tmp_path, AGAIN, OUTPUTS) as channel:
        passed_on = told(channel)
        await put(channel)
        await channel.submit(Change(dead=[("one", 1, "too large")]))
        await damaged(channel, "two", 1)
        await put(channel)
        assert waiting(channel) == [[], [2]]
        await damaged(channel, "two", 2)
        await put(channel)
        await release(channel, "two", 3)
        assert passed_on == [KEY]
        assert [letter.position for letter in channel.dead_letters()] == [1, 1, 2]
        assert is_sound(channel)


async def test_the_output_that_wants_it_may_be_gone(tmp_path: Path) -> None:
    async with opened(tmp_path, AGAIN, OUTPUTS) as channel:
        await put(channel)
        await release(channel, "one", 1)
        await damaged(channel, "two", 1)
    async with opened(tmp_path, AGAIN, ("one",)) as channel:
        passed_on = told(channel)
        assert await put(channel, ("one",)) == 0
        assert waiting(channel, ("one",)) == [[]]
        assert (known(channel), passed_on) == ({KEY: True}, [KEY])
        assert is_sound(channel)
