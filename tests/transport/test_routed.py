"""A receiver that routes what comes: whoever sent it is told when no output waits for it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.metering import number
from tests.transport.hop import Hop, a_hop
from tiers.channel.meters import SKIPPED, UNROUTED_EVENTS
from tiers.core.change import NO_OUTPUT
from tiers.core.entry.routes import Absent, Branch, Not, Route, Unrouted
from tiers.core.hop.messages import Guarantee

NOBODY = {"of-no-batch": Not(Absent())}


@pytest.fixture
async def hop(tmp_path: Path) -> AsyncIterator[Hop]:
    async with a_hop(tmp_path) as made:
        yield made


@pytest.mark.parametrize("guarantee", ["hop", "end"])
@pytest.mark.parametrize("unrouted", ["dead", "drop"])
async def test_who_sent_what_no_output_wants_lets_go_of_it(
    hop: Hop, guarantee: Guarantee, unrouted: Unrouted
) -> None:
    receiver = await hop.receiver(guarantee=guarantee)
    receiver.end.route = Route([Branch("out", NOBODY)], unrouted=unrouted)
    sender = await hop.sender(guarantee=guarantee)
    await sender.put(range(1, 101), size=500)
    await sender.empty()
    assert receiver.seqs() == []
    letters = [(one.output, one.id.seq) for one in receiver.channel.letters()]
    assert sorted(letters) == [(NO_OUTPUT, n) for n in range(1, 101)] * (unrouted == "dead")
    assert receiver.end.receiver.owed() == 0
    assert number(receiver.channel, UNROUTED_EVENTS) == receiver.end.events_in == 300
    assert number(receiver.channel, SKIPPED, "out") == 100


async def test_a_new_route_is_of_what_comes_from_then_on(hop: Hop) -> None:
    receiver = await hop.receiver()
    receiver.end.route = Route([Branch("out", NOBODY)], unrouted="drop")
    sender = await hop.sender()
    await sender.put(range(1, 11))
    await sender.empty()
    receiver.end.route = Route([Branch("out", {})])
    await sender.put(range(11, 21))
    await sender.empty()
    assert receiver.seqs() == [*range(11, 21)]
