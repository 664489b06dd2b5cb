"""What is the matter with an agent, seen from outside of its parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.metering import number
from tiers.agent.agent import Agent
from tiers.core.change import ChannelStats, QueueStats
from tiers.core.hop.peers import Peer, PeerLimits, PeerState
from tiers.core.progress import Work
from tiers.core.steps import Key, StepKind
from tiers.observe.conditions import KINDS
from tiers.observe.health import HELD_AFTER_S, Health
from tiers.observe.process import CONDITIONS, HEALTHY

STALLED_AFTER_S = 30.0
STATS = ChannelStats(
    channel_id=b"c" * 16,
    size_bytes=1 << 30,
    used_bytes=1 << 20,
    free_bytes=1 << 29,
    disk_free_bytes=1 << 40,
    free_floor_bytes=1 << 29,
    batches=3,
    dead=0,
    dead_bytes=0,
    dead_bytes_max=1 << 28,
    undeliverable={},
    over=(),
    queues={"sink": QueueStats(3, 300, 30_000, 1)},
    puts=3,
    put_bytes=30_000,
    at_floor=False,
    trouble="",
    set_aside="",
)


@dataclass
class Part:
    """A source, sink or sender group that says what the test says."""

    due: dict[str, Work] = field(default_factory=dict)
    told: dict[str, object] = field(default_factory=dict)

    def work(self) -> Mapping[str, Work]:
        return self.due

    def status(self) -> dict[str, object]:
        return self.told


class Group(Part):
    def __init__(self, *peers: Peer) -> None:
        super().__init__()
        self.apart: list[tuple[int, str]] = []
        self.sender = SimpleNamespace(
            peers={peer.name: peer for peer in peers}, apart=lambda _now: self.apart
        )


def peer(name: str, state: PeerState, error: str = "", *, refused: bool = False) -> Peer:
    made = Peer(name, PeerLimits(), state=state, error=error)
    made.refused = refused
    return made


class Rig:
    """An agent of stand-ins, a clock, and its health."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.source = Part()
        intake = SimpleNamespace(error="", remarked=None, failing=dict)
        self.running = SimpleNamespace(
            name="tail", state="running", source=self.source, intake=intake
        )
        self.sink = Part()
        self.errors: dict[str, str] = {}
        self.failing: dict[Key, str] = {}
        self.stats = STATS
        self.agent = SimpleNamespace(
            parts=SimpleNamespace(
                sources=[self.running],
                groups={},
                sinks={"sink": self.sink},
                receiver=None,
                failing=lambda: [*self.failing.items()],
            ),
            reloading=SimpleNamespace(error="", restart_needed=[]),
            former=SimpleNamespace(leaving=set),
            salvage=SimpleNamespace(whole=lambda: False, text=lambda: "5 batches lost"),
            world=SimpleNamespace(now_s=lambda: self.now_s, now_ms=lambda: int(self.now_s * 1000)),
            errors=SimpleNamespace(of=lambda part: self.errors.get(part, "")),
        )
        self.health = Health(cast(Agent, self.agent), STALLED_AFTER_S)

    def look(self, after_s: float = 0.0) -> dict[tuple[str, str], Any]:
        self.now_s += after_s
        return {one.key: one for one in self.health.conditions(self.stats)}


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_an_agent_with_nothing_due_is_well(rig: Rig) -> None:
    assert rig.look() == {}
    assert rig.look(1e6) == {}


def test_a_file_that_is_not_read_is_told_whatever_the_source_believes(rig: Rig) -> None:
    rig.source.due = {"a.log": Work("1 MiB unread", 5), "b.log": Work("1 MiB unread", 5)}
    assert rig.look() == {}
    rig.source.due["b.log"] = Work("2 MiB unread", 6)
    found = rig.look(STALLED_AFTER_S + 1)
    (condition,) = found.values()
    assert condition.key == ("source_stalled", "tail")
    assert condition.text == "a.log: 1 MiB unread, and nothing moves for 31s"
    assert condition.unhealthy
    assert condition.at_risk


def test_a_source_that_the_channel_holds_back_is_not_to_blame(rig: Rig) -> None:
    rig.source.due = {"a.log": Work("1 MiB unread", 5)}
    rig.stats = replace(STATS, free_bytes=0)
    rig.look()
    assert set(rig.look(100)) == {("channel_full", "channel")}
    assert rig.look()["channel_full", "channel"].text.endswith("waits for sink (29.3 KiB)")
    rig.stats = STATS
    assert rig.look(STALLED_AFTER_S - 1) == {}
    assert set(rig.look(2)) == {("source_stalled", "tail")}


def test_a_source_that_is_done_has_nothing_due(rig: Rig) -> None:
    rig.source.due = {"": Work("a look is due", 5)}
    rig.running.state = "done"
    rig.look()
    assert rig.look(100) == {}


def test_an_output_that_is_stuck_is_told(rig: Rig) -> None:
    rig.sink.due = {"": Work("the oldest batch came 3min ago", (7, 0))}
    rig.look()
    condition = rig.look(STALLED_AFTER_S + 1)["output_stalled", "sink"]
    assert condition.unhealthy
    assert not condition.at_risk, "it is on disk"


def test_conditions_say_since_when(rig: Rig) -> None:
    rig.errors["sink"] = "connection refused"
    begun_ms = int(rig.now_s * 1000)
    rig.look()
    assert rig.look(50)["output_error", "sink"].since_ms == begun_ms
    rig.errors["sink"] = ""
    assert rig.look(1) == {}
    rig.errors["sink"] = "connection refused"
    assert rig.look(1)["output_error", "sink"].since_ms == begun_ms + 52_000


def test_peers(rig: Rig) -> None:
    up, gone = peer("agg-1", PeerState.UP), peer("agg-2", PeerState.DOWN, "connection lost")
    rig.agent.parts.groups = {"sink": Group(up, gone)}
    rig.agent.parts.sinks = {}
    found = rig.look()
    assert set(found) == {("peer_down", "sink/agg-2")}
    assert not found["peer_down", "sink/agg-2"].unhealthy
    gone.refused = True
    assert rig.look()["peer_refused", "sink/agg-2"].unhealthy
    up.state = gone.state = PeerState.CONNECTING
    assert set(rig.look()) == {("connecting", "sink")}
    up.state, gone.state = PeerState.SUSPECT, PeerState.DOWN
    found = rig.look()
    assert set(found) == {("no_peer", "sink")}
    assert found["no_peer", "sink"].unhealthy
    assert "agg-1 suspect, agg-2 down: connection lost" in found["no_peer", "sink"].text


def test_what_some_peers_refuse_and_what_limits_they_have(rig: Rig) -> None:
    one = peer("agg-1", PeerState.UP)
    group = Group(one, peer("agg-2", PeerState.UP))
    rig.agent.parts.groups, rig.agent.parts.sinks = {"sink": group}, {}
    one.message_size_max, one.batch_size_max = 8 << 20, one.limits.batch_size_max
    group.apart.append((3, "rejected by agg-1: checksum"))
    found = rig.look()
    assert set(found) == {("other_limits", "sink/agg-1"), ("batches_refused", "sink")}
    assert found["other_limits", "sink/agg-1"].text == (
        "its message_size is 8388608 bytes, here 33554432"
    )
    assert not found["other_limits", "sink/agg-1"].unhealthy
    assert found["batches_refused", "sink"].text == "3 batches wait: rejected by agg-1: checksum"
    assert found["batches_refused", "sink"].unhealthy


def test_many_peers_that_are_down_are_one_condition(rig: Rig) -> None:
    down = [peer(f"agg-{n}", PeerState.DOWN) for n in range(2, 1000)]
    rig.agent.parts.groups, rig.agent.parts.sinks = (
        {"sink": Group(peer("agg-1", PeerState.UP), *down)},
        {},
    )
    (condition,) = rig.look().values()
    assert condition.key == ("peer_down", "sink")
    assert condition.text.startswith("998 of 999 peers: agg-2, agg-3,")
    rig.agent.parts.groups = {"sink": Group(*down)}
    (condition,) = rig.look().values()
    assert condition.text.endswith("agg-9 down, and 990 more")


def test_no_credit_for_long_is_told_and_is_no_stall(rig: Rig) -> None:
    group = Group(peer("agg-1", PeerState.UP))
    rig.agent.parts.groups, rig.agent.parts.sinks = {"sink": group}, {}
    group.due = {"": Work("9 batches wait for a peer's ack", 5, held="agg-1: no credit")}
    assert rig.look() == {}
    found = rig.look(HELD_AFTER_S + 1)
    assert found["held_back", "sink"].text == "9 batches wait for a peer's ack (agg-1: no credit)"
    assert not found["held_back", "sink"].unhealthy
    assert set(rig.look(100)) == {("held_back", "sink")}


def test_its_numbers_are_of_the_last_look(rig: Rig) -> None:
    rig.agent.state = "running"
    rig.agent.channel = SimpleNamespace(
        free_bytes=lambda: rig.stats.free_bytes, stats=lambda: rig.stats
    )
    rig.look()
    assert number(rig.health, HEALTHY) == 1
    assert rig.health.unready() == []
    rig.errors["sink"] = "permission denied"
    rig.running.intake.remarked = ("10.0.0.9 sends TLS: refused", False)
    rig.look()
    assert number(rig.health, HEALTHY) == 0
    counts = {code: number(rig.health, CONDITIONS, code) for code in KINDS}
    assert {code for code, count in counts.items() if count} == {"output_error", "source_remark"}
    assert rig.health.unready() == ["output_error sink: permission denied"]
    rig.errors.clear()
    rig.agent.state = "stopping"
    assert rig.health.unready() == ["it is stopping"]


def test_an_output_that_nobody_drains_any_more(rig: Rig) -> None:
    rig.agent.parts.sinks = {}
    rig.errors["sink"] = "3 batches wait for this output"
    assert rig.look()["output_orphan", "sink"].unhealthy


@pytest.mark.parametrize(
    ("change", "code", "at_risk"),
    [
        ({"at_floor": True, "trouble": "at its floor"}, "disk_floor", True),
        ({"trouble": "I/O error"}, "channel_trouble", True),
        ({"free_bytes": 0}, "channel_full", True),
        ({"dead": 2}, "dead_letters", False),
        ({"disk_free_bytes": (1 << 30) - 1}, "disk_low", False),
        ({"undeliverable": {"edge-1": 3}}, "undeliverable", False),
        ({"over": ("edge-1",)}, "over_share", False),
        ({"set_aside": "the channel was damaged"}, "channel_set_aside", True),
    ],
)
def test_the_channel(rig: Rig, change: dict[str, Any], code: str, at_risk: bool) -> None:
    rig.stats = replace(STATS, **change)
    (condition,) = rig.look().values()
    assert (condition.key, condition.at_risk) == ((code, "channel"), at_risk)
    rig.agent.parts.sources = []
    (condition,) = rig.look().values()
    assert condition.at_risk == (code == "channel_set_aside"), "nothing waits outside"


def test_a_channel_that_is_back_is_told_and_no_trouble(rig: Rig) -> None:
    rig.stats = replace(STATS, set_aside="the channel was damaged; it was set aside as x")
    rig.agent.salvage.whole = lambda: True
    (condition,) = rig.look().values()
    assert condition.key == ("channel_salvaged", "channel")
    assert not condition.unhealthy
    assert "set aside" in condition.text


def test_what_sources_say(rig: Rig) -> None:
    rig.running.intake.error = "cannot read /var/log/a: permission denied"
    assert rig.look()["source_error", "tail"].unhealthy
    rig.running.intake.error = ""
    rig.running.intake.remarked = ("10.0.0.9 sends TLS: refused", True)
    told = rig.look()["source_remark", "tail"]
    assert told.at_risk
    assert not told.unhealthy
    rig.running.intake.failing = lambda: {"mask": "KeyError: 'x'"}
    told = rig.look()["interceptor_failed", "tail.mask"]
    assert (told.text, told.at_risk, told.unhealthy) == ("KeyError: 'x'", True, True)


def test_what_has_failed_is_started_again_and_told(rig: Rig) -> None:
    rig.failing = {
        Key(StepKind.SOURCE, "tail"): "KeyError: 'x'",
        Key(StepKind.SINK, "out"): "OSError: y",
    }
    found = rig.look()
    assert set(found) == {("source_failed", "tail"), ("part_failed", "sink out")}
    assert found["source_failed", "tail"].at_risk
    assert found["part_failed", "sink out"].text == "OSError: y"


def test_what_the_topology_and_stopped_batches_say(rig: Rig) -> None:
    rig.agent.reloading.error = "web.toml: name: wanted ..."
    rig.agent.reloading.restart_needed = ["batch.size"]
    rig.sink.told = {"stopped": [{"what": "3 flagged batches", "why": "claim not readable"}]}
    found = rig.look()
    assert found["topology_refused", "topology"].unhealthy
    assert not found["restart_needed", "topology"].unhealthy
    assert found["batches_stopped", "sink"].text == "3 flagged batches wait: claim not readable"


def test_every_condition_says_what_is_done_and_what_to_do() -> None:
    for code, kind in KINDS.items():
        assert kind.doing, code
        assert kind.todo or not kind.unhealthy or code == "connecting"
