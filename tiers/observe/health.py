"""What is the matter with an agent, derived from what is seen of its parts at each look.

Healthy is who makes progress: beside what parts say of themselves, all that is due is watched,
and what does not move for `stalled_after` is a condition of its own (core/progress.py).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tiers.channel.meters import FULL
from tiers.core.change import ChannelStats
from tiers.core.filling import Filling
from tiers.core.hop.peers import Peer, PeerState
from tiers.core.meters import Sample
from tiers.core.progress import Place, Progress, Work
from tiers.core.steps import StepKind
from tiers.host.own_directory import Footing
from tiers.observe.conditions import KINDS, Condition
from tiers.observe.journal import Journal
from tiers.observe.process import CONDITIONS, HEALTHY
from tiers.units import show_duration, show_size

if TYPE_CHECKING:
    from tiers.agent.agent import Agent
    from tiers.contracts import Sink
    from tiers.transport.sending import SenderGroup

LOOK_TICKS: Final = 20  # a second
HELD_AFTER_S: Final = 2.0  # without any credit for so long: it is no mere pause between two acks
_LOW: Final = 2  # times the floor: less free space than that is told
_NAMES_SHOWN: Final = 5
_STALLED_SHOWN: Final = 3  # of one part: a file each
_PEERS_SHOWN: Final = 8  # that are down, of one output; of more, so many names


class Health:
    """`conditions` at any time; `run` keeps the log."""

    def __init__(self, agent: Agent, stalled_after_s: float) -> None:
        self._agent = agent
        self._progress = Progress(stalled_after_s)
        self._holding = Progress(HELD_AFTER_S)
        self._since: dict[tuple[str, str], int] = {}
        self._journal = Journal()
        self._filling = Filling()
        self._found_last: list[Condition] = []
        self._lost = ""  # what became of the agent's directory

    def work_by(self, stalled_after_s: float) -> None:
        self._progress.stalled_after_s = stalled_after_s

    async def run(self) -> None:
        """Until cancelled."""
        footing = await asyncio.to_thread(Footing, self._agent.directory)
        while True:
            self._lost = await asyncio.to_thread(footing.lost)
            stats, now_s = self._agent.channel.stats(), self._agent.world.now_s()
            self._journal.look(self.conditions(stats), now_s)
            self._filling.look(stats.used_bytes, now_s)
            for running in self._agent.parts.sources:
                running.look()
            await asyncio.sleep(LOOK_TICKS * self._agent.world.tick_s)

    def tell(self, part: str, text: str) -> None:
        """An output is in trouble from now on. It may be over before the next look."""
        named = part in self._agent.topology.outputs(self._agent.name)
        code = "output_error" if named else "output_orphan"
        self._journal.begin(Condition(code, part, text), self._agent.world.now_s())

    def meters(self) -> Iterator[Sample]:
        """As of the last look, a second ago at most: a look costs more than all else here."""
        yield HEALTHY.of(int(not unready(self._agent.state, self._found_last)))
        found = Counter(condition.code for condition in self._found_last)
        for code in KINDS:
            yield CONDITIONS.of(found[code], code)
        yield FULL.of(self._filling.full_s(self._agent.channel.free_bytes()))

    def unready(self) -> list[str]:
        """Why the agent is not healthy; empty when it is."""
        return unready(self._agent.state, self.conditions(self._agent.channel.stats()))

    def conditions(self, stats: ChannelStats) -> list[Condition]:
        """What is the matter now, each with the time since which it was seen."""
        now_ms = self._agent.world.now_ms()
        found = list(self._found(stats))
        self._since = {one.key: self._since.get(one.key, now_ms) for one in found}
        self._found_last = [replace(one, since_ms=self._since[one.key]) for one in found]
        return self._found_last

    def _found(self, stats: ChannelStats) -> Iterator[Condition]:
        yield from self._topology()
        yield from self._channel(stats)
        yield from self._outputs(stats)
        yield from self._failing()
        yield from self._sources()
        works = self._works(stats)
        yield from self._stalled(works, stats)
        yield from self._held(works, stats)
        receiver = self._agent.parts.receiver
        for sender in receiver.receiver.senders.values() if receiver else ():
            if sender.error:
                yield Condition("sender_error", sender.agent, sender.error)

    def _topology(self) -> Iterator[Condition]:
        reloading = self._agent.reloading
        if reloading.error:
            yield Condition("topology_refused", "topology", reloading.error)
        if reloading.restart_needed:
            changed = ", ".join(reloading.restart_needed)
            yield Condition(
                "restart_needed", "topology", f"changed, in force after a restart: {changed}"
            )

    def _channel(self, stats: ChannelStats) -> Iterator[Condition]:
        # What waits outside is not safe yet: files are rotated away, datagrams are dropped.
        exposed = bool(self._agent.parts.sources)
        if self._lost:
            yield Condition("directory_gone", "channel", self._lost, at_risk=True)
        if stats.at_floor:
            yield Condition("disk_floor", "channel", stats.trouble, exposed)
        elif stats.trouble:
            yield Condition("channel_trouble", "channel", stats.trouble, exposed)
        elif stats.free_bytes <= 0:
            yield Condition("channel_full", "channel", _full(stats), exposed)
        if not stats.at_floor and stats.disk_free_bytes < _LOW * stats.free_floor_bytes:
            free, floor = show_size(stats.disk_free_bytes), show_size(stats.free_floor_bytes)
            text = f"the disk has {free} left: at {floor} nothing more is taken in"
            yield Condition("disk_low", "channel", text)
        if stats.set_aside:
            salvage = self._agent.salvage
            if salvage.whole():
                text = f"a damaged channel was set aside, and all of it is back: {salvage.text()}"
                yield Condition("channel_salvaged", "channel", text)
            else:
                text = "; ".join(filter(None, (stats.set_aside, salvage.text())))
                yield Condition("channel_set_aside", "channel", text, at_risk=True)
        if stats.news:
            yield Condition("disk_went_back", "channel", stats.news)
        if stats.dead:
            batches = "batch" if stats.dead == 1 else "batches"
            yield Condition(
                "dead_letters", "channel", f"{stats.dead:,} {batches} in the dead letters"
            )

        if stats.undeliverable:
            most = show_size(stats.dead_bytes_max)
            yield Condition(
                "undeliverable",
                "channel",
                f"undeliverable batches of {_names(stats.undeliverable)} have no room among the "
                f"dead letters: {show_size(stats.dead_bytes)} of at most {most}",
            )
        elif stats.over:
            text = f"batches of {_names(stats.over)} fill their share of the channel"
            yield Condition("over_share", "channel", text)

    def _outputs(self, stats: ChannelStats) -> Iterator[Condition]:
        agent = self._agent
        for name, queue in stats.queues.items():
            error = agent.errors.of(name)
            if name not in agent.parts.groups and name not in agent.parts.sinks:
                yield Condition("output_orphan", name, error)
            elif error:
                yield Condition("output_error", name, error)
            if name in agent.former.leaving():
                text = f"the topology no longer has it; {queue.batches:,} batches wait for it"
                yield Condition("output_leaving", name, text)
        for name, group in agent.parts.groups.items():
            yield from _peers(name, group, self._agent.world.now_s())
        for name, sink in agent.parts.sinks.items():
            stopped = sink.status().get("stopped")
            for one in stopped if isinstance(stopped, list) else ():
                yield Condition("batches_stopped", name, f"{one['what']} wait: {one['why']}")

    def _failing(self) -> Iterator[Condition]:
        for key, why in self._agent.parts.failing():
            if key.kind is StepKind.SOURCE:
                yield Condition("source_failed", key.name, why, at_risk=True)
            else:
                yield Condition("part_failed", str(key), why)

    def _sources(self) -> Iterator[Condition]:
        for running in self._agent.parts.sources:
            if running.intake.error:
                yield Condition("source_error", running.name, running.intake.error, at_risk=True)
            for name, said in running.intake.failing().items():
                part = f"{running.name}.{name}"
                yield Condition("interceptor_failed", part, said, at_risk=True)
            if running.intake.remarked:
                text, at_risk = running.intake.remarked
                yield Condition("source_remark", running.name, text, at_risk)

    def _stalled(self, works: Mapping[Place, Work], stats: ChannelStats) -> Iterator[Condition]:
        now_s = self._agent.world.now_s()
        by_part: dict[str, list[str]] = {}
        for place, work, since_s in self._progress.look(works, now_s):
            part, what = place
            text = f"{work.what}, and nothing moves for {show_duration(now_s - since_s)}"
            by_part.setdefault(part, []).append(f"{what}: {text}" if what else text)
        for part, texts in by_part.items():
            code = "output_stalled" if part in stats.queues else "source_stalled"
            more = len(texts) - _STALLED_SHOWN
            shown = "; ".join(texts[:_STALLED_SHOWN]) + (f"; and {more} more" if more > 0 else "")
            yield Condition(code, part, shown, at_risk=code == "source_stalled")

    def _held(self, works: Mapping[Place, Work], stats: ChannelStats) -> Iterator[Condition]:
        """Outputs alone: what holds back the sources is the channel, which says so itself."""
        held = {
            place: work._replace(held="", what=f"{work.what} ({work.held})")
            for place, work in works.items()
            if work.held and place[0] in stats.queues
        }
        for (part, _), work, _ in self._holding.look(held, self._agent.world.now_s()):
            yield Condition("held_back", part, work.what)

    def _works(self, stats: ChannelStats) -> dict[Place, Work]:
        works: dict[Place, Work] = {}
        held = "the channel takes no more" if stats.free_bytes <= 0 else ""
        for running in self._agent.parts.sources:
            if running.state == "running":
                for what, work in running.source.work().items():
                    works[running.name, what] = work._replace(held=work.held or held)
        parts: dict[str, SenderGroup | Sink] = {
            **self._agent.parts.groups,
            **self._agent.parts.sinks,
        }
        for name, part in parts.items():
            works |= {(name, what): work for what, work in part.work().items()}
        return works


def unready(state: str, conditions: Iterable[Condition]) -> list[str]:
    """Why an agent in that state is not healthy: not working, or with something that a person
    should act on. Empty when it is."""
    working = state in ("running", "draining", "drained")
    told = [f"{one.code} {one.part}: {one.text}" for one in conditions if one.unhealthy]
    return told if working else [f"it is {state}", *told]


def _names(agents: Collection[str]) -> str:
    shown = ", ".join(list(agents)[:_NAMES_SHOWN])
    more = len(agents) - _NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _full(stats: ChannelStats) -> str:
    most = max(stats.queues, key=lambda name: stats.queues[name].size_bytes, default="")
    queue = stats.queues.get(most)
    waits = f"; most of it waits for {most} ({show_size(queue.size_bytes)})" if queue else ""
    used, size = show_size(stats.used_bytes), show_size(stats.size_bytes)
    return f"above its high mark: {used} of {size} are used{waits}"


def _peers(output: str, group: SenderGroup, now_s: float) -> Iterator[Condition]:
    peers = [peer for peer in group.sender.peers.values() if not peer.leaving]
    if not any(peer.in_session for peer in peers):
        whys = ", ".join(f"{peer.name} {_state(peer)}" for peer in peers[:_PEERS_SHOWN])
        if len(peers) > _PEERS_SHOWN:
            whys += f", and {len(peers) - _PEERS_SHOWN} more"
        begins = peers and all(peer.state is PeerState.CONNECTING for peer in peers)
        yield Condition(
            "connecting" if begins else "no_peer",
            output,
            f"no peer takes batches: {whys or 'there is none'}",
        )
        return
    down = [peer for peer in peers if peer.state is PeerState.DOWN and not peer.refused]
    each = down if len(down) <= _PEERS_SHOWN else []
    if len(down) > _PEERS_SHOWN:  # a thousand of them are one thing to see
        names = ", ".join(peer.name for peer in down[:_PEERS_SHOWN])
        more = len(down) - _PEERS_SHOWN
        yield Condition(
            "peer_down", output, f"{len(down)} of {len(peers)} peers: {names}, and {more} more"
        )
    for peer in peers:
        if peer.refused:
            yield Condition("peer_refused", f"{output}/{peer.name}", _state(peer))
        elif peer in each:
            yield Condition("peer_down", f"{output}/{peer.name}", _state(peer))
        elif others := peer.other_limits():
            yield Condition("other_limits", f"{output}/{peer.name}", others)
    for count, why in group.sender.apart(now_s):
        yield Condition("batches_refused", output, f"{count:,} batches wait: {why}")


def _state(peer: Peer) -> str:
    return f"{peer.state}: {peer.error}" if peer.error else str(peer.state)
