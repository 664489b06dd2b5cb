"""What comes back of a channel with routes: what outputs were not to have, letters of none, and
batches of which nothing tells who waited for them."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.channel.making import arrived, opened, put, record
from tests.channel.test_salvage import OUTPUTS
from tests.channel.test_salvaging import begun, condemn
from tiers.agent.salvaging import Salvage, _Old
from tiers.channel import withheld
from tiers.channel.channel import Channel
from tiers.channel.layout import pack_hops
from tiers.channel.letters import every_letter
from tiers.channel.salvage.salvage import Batch, salvage
from tiers.channel.withheld import WithheldTold
from tiers.core.batch import BatchId
from tiers.core.change import NO_OUTPUT, Change, Put
from tiers.core.dedupe import BLOCK_SEQS
from tiers.core.entry.routes import Branch, OneOf, Route, Unrouted

PEER = b"P" * 16
WEB, DB = ({"service": OneOf(frozenset([name]))} for name in ("web", "db"))


def to(batch: Put, *outputs: str, dead: str = "") -> Put:
    others = [output for output in OUTPUTS if output not in outputs]
    return replace(batch, outputs=outputs, skipped=others, dead=dead)


async def make(directory: Path) -> tuple[int, dict[str, WithheldTold]]:
    """A channel that has routed: when it began, and what its outputs were not to have."""
    async with opened(directory, outputs=OUTPUTS) as channel:
        first, second = OUTPUTS
        for seq in range(1, 400, 2):
            await channel.submit(Change(puts=[to(arrived(PEER, seq), first)]))
        far = [to(arrived(PEER, 5 * BLOCK_SEQS + 1), second), to(put(channel), first)]
        await channel.submit(Change(puts=[*far, to(arrived(PEER, 9000), dead="unrouted: why")]))
        gone = [entry.position for entry in channel.entries(first)][:150]
        await channel.submit(Change(releases=[(first, position) for position in gone]))
        return channel.begun_ms, told(channel)


def told(channel: Channel) -> dict[str, WithheldTold]:
    return withheld.told_of(channel.records(withheld.PREFIX))


def since_ms(channel: Channel) -> int:
    return withheld.since_ms(channel.records(withheld.SINCE), channel.begun_ms)


async def test_what_outputs_were_not_to_have_comes_back_and_reaches_as_far_back(
    tmp_path: Path,
) -> None:
    begun_ms, before = await make(tmp_path)
    condemn(tmp_path)
    async with begun(tmp_path) as (channel, salvaging):
        assert told(channel) == before, "before the first batch"
        assert since_ms(channel) == begun_ms < channel.begun_ms
        await salvaging.run()
        assert told(channel) == before
        letters = [(one.output, one.reason, one.id) for one in every_letter(channel)]
        assert letters == [(NO_OUTPUT, "unrouted: why", BatchId(PEER, 9000))]
        assert salvaging.whole()
    condemn(tmp_path)
    async with begun(tmp_path) as (channel, salvaging):
        assert (told(channel), since_ms(channel)) == (before, begun_ms)
        await salvaging.run()
        assert len(list(every_letter(channel))) == 1


async def test_where_trees_cannot_be_walked_it_is_found_in_their_pages(tmp_path: Path) -> None:
    _, before = await make(tmp_path)
    head, *_ = salvage(tmp_path / "channel", 0, trees=False)
    found = withheld.told_of(head.withheld)  # type: ignore[union-attr]
    assert found == before
    assert head.withheld_since_ms == 0, "some may be missing"  # type: ignore[union-attr]


async def test_of_outputs_that_there_are_no_more_it_is_let_go_of(tmp_path: Path) -> None:
    _, before = await make(tmp_path)
    condemn(tmp_path)
    async with begun(tmp_path, outputs=OUTPUTS[:1]) as (channel, _):
        assert told(channel) == {OUTPUTS[0]: before[OUTPUTS[0]]}


def of_whom_nothing_is_known(seq: int, *, sound: bool = True) -> Batch:
    whole = record(PEER, seq) if sound else b""
    return Batch(PEER, seq, 1, whole, None, [], pack_hops(()), b"", "" if sound else "damaged")


@pytest.mark.parametrize(
    ("branches", "unrouted", "outputs", "skipped"),
    [
        ([Branch(OUTPUTS[0], WEB), Branch(OUTPUTS[1], {})], "dead", OUTPUTS, ()),
        ([Branch(OUTPUTS[0], WEB), Branch(OUTPUTS[1], DB)], "dead", OUTPUTS[:1], OUTPUTS[1:]),
        ([Branch(OUTPUTS[0], DB), Branch(OUTPUTS[1], DB)], "dead", (), OUTPUTS),
        ([Branch(OUTPUTS[0], DB), Branch(OUTPUTS[1], DB)], "drop", (), OUTPUTS),
    ],
)
async def test_where_nothing_tells_who_waited_for_it_a_batch_is_routed_anew(
    tmp_path: Path,
    branches: list[Branch],
    unrouted: Unrouted,
    outputs: tuple[str, ...],
    skipped: tuple[str, ...],
) -> None:
    async with opened(tmp_path, outputs=OUTPUTS) as channel:
        one = Salvage(tmp_path, channel, Route(branches, unrouted=unrouted), (), 60.0)
        found, letters = one._put_of(_Old(tmp_path), of_whom_nothing_is_known(1))
        assert found is not None
        assert (tuple(found.outputs), tuple(found.skipped), letters) == (outputs, skipped, [])
        assert bool(found.dead) == (not outputs and unrouted == "dead")
        lost, letters = one._put_of(_Old(tmp_path), of_whom_nothing_is_known(2, sound=False))
        assert lost is not None
        assert [output for output, _ in letters] == list(OUTPUTS), "its headers are gone, too"
        await channel.submit(Change(puts=[found, lost]))
