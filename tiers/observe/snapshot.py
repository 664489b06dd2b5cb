"""An agent at one moment, as the JSON that status, the page and the supervisor read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from tiers import __version__
from tiers.channel import meters as of_channel
from tiers.channel import withheld
from tiers.channel.letters import every_letter
from tiers.channel.living import Origin
from tiers.contracts import Channel, Reading
from tiers.core.change import ChannelStats
from tiers.core.runs import Runs, runs_of
from tiers.observe.health import unready
from tiers.observe.meters import Numbers
from tiers.observe.metrics import json_of
from tiers.sinks import meters as of_sinks
from tiers.sources import meters as of_sources
from tiers.transport import meters as of_hops

if TYPE_CHECKING:
    from tiers.agent.agent import Agent

SCHEMA: Final = 1  # of what `snapshot` gives; another where a program that reads it must change
_PAGE: Final = 1000
_Ids = dict[bytes, set[int]]  # sequence numbers by origin


def snapshot(agent: Agent) -> dict[str, Any]:
    """The whole status. Times are ms since the epoch, ages seconds, sizes bytes. Under `meters`
    is all that `/metrics` tells, by the same names."""
    now_ms = agent.world.now_ms()
    stats = agent.channel.stats()  # once: what is shown is of one moment
    conditions = agent.health.conditions(stats)  # before its numbers are read: of this moment
    numbers = agent.meters.read()
    outputs = _outputs(agent, stats, numbers)
    sources = _sources(agent, numbers)
    channel = _channel(stats, numbers)
    channel["salvage"] = agent.salvage.status()
    if salvaged := agent.salvage.text():
        channel["set_aside"] = f"{channel['set_aside']}; {salvaged}".removeprefix("; ")
    at_ms, text = agent.errors.last
    return {
        "schema": SCHEMA,
        "agent": agent.name,
        "tier": agent.topology.tier_of(agent.name).name,
        "topology": agent.topology.name,
        "pid": os.getpid(),
        "version": __version__,
        "state": agent.state,
        "healthy": not unready(agent.state, conditions),
        "conditions": [condition.told() for condition in conditions],
        "started_ms": agent.started_ms,
        "now_ms": now_ms,
        "generation": agent.reloading.generation,
        "topology_hash": agent.reloading.hash,
        "topology_error": agent.reloading.error,
        "topology_refused_hash": agent.reloading.refused_hash,
        "restart_needed": agent.reloading.restart_needed,
        "events_in": numbers.total(of_sources.EVENTS) + numbers.value(of_hops.EVENTS_IN),
        "bytes_in": numbers.total(of_sources.BYTES) + numbers.value(of_hops.BYTES_IN),
        "events_out": numbers.total(of_channel.EVENTS_OUT),
        "bytes_out": numbers.total(of_channel.BYTES_OUT),
        "channel": channel,
        "sources": sources,
        "outputs": outputs,
        "receiver": _receiver(agent, numbers),
        "loop": agent.watch.status() if agent.watch else None,
        "descriptors": {"limit": agent.shares.limit, "short": agent.shares.short},
        "last_error": {"at_ms": at_ms, "text": text} if text else None,
        "meters": json_of(numbers),
    }


def audit(channel: Channel) -> dict[str, Any]:
    """Which batch ids each output holds, has buried, and was not to have, as runs by origin: also
    of outputs that the topology no longer has. Walks all queues: not for every look."""
    # First: a batch stored after this is none that anybody expects to find here.
    origins = channel.origins()
    queues = channel.stats().queues
    return audit_of(channel, origins, channel.origin, queues, channel.begun_ms)


def audit_of(
    reader: Reading,
    origins: Mapping[bytes, Origin],
    present: bytes,
    outputs: Iterable[str],
    begun_ms: int,
) -> dict[str, Any]:
    """The same of any channel that can be read, its agent running or not. `present` is the origin
    that gives numbers now; empty where none does."""
    # Dead letters before queues, since a person may have them queued again, and after them, since
    # more may come of what was queued. What was withheld last: so nothing is seen nowhere.
    dead: dict[str, _Ids] = {}
    _add_dead(reader, dead)
    held = {output: _held(reader, output) for output in outputs}
    _add_dead(reader, dead)
    told = withheld.told_of(reader.records(withheld.PREFIX))
    nothing = withheld.WithheldTold({}, {})
    return {
        "origins": {
            origin.hex(): {"last": one.last, "begun_ms": one.begun_ms}
            for origin, one in origins.items()
        },
        "present": present.hex(),
        "outputs": {
            output: {
                "held": _runs(held.get(output, {})),
                "dead": _runs(dead.get(output, {})),
                "dropped": _by_hex(told.get(output, nothing).dropped),
                "skipped": _by_hex(told.get(output, nothing).skipped),
            }
            for output in {**held, **dead, **told}
        },
        "withheld_since_ms": withheld.since_ms(reader.records(withheld.SINCE), begun_ms),
    }


def _add_dead(reader: Reading, dead: dict[str, _Ids]) -> None:
    for one in every_letter(reader):
        dead.setdefault(one.output, {}).setdefault(one.id.origin, set()).add(one.id.seq)


def _held(reader: Reading, output: str) -> _Ids:
    held: _Ids = {}
    position = 0
    while entries := reader.entries(output, position, _PAGE):
        for entry in entries:
            held.setdefault(entry.id.origin, set()).add(entry.id.seq)
        position = entries[-1].position
    return held


def _runs(ids: _Ids) -> dict[str, Runs]:
    return {origin.hex(): runs_of(seqs) for origin, seqs in ids.items()}


def _by_hex(runs: Mapping[bytes, Runs]) -> dict[str, Runs]:
    return {origin.hex(): seqs for origin, seqs in runs.items()}


def _channel(stats: ChannelStats, numbers: Numbers) -> dict[str, Any]:
    oldest_s = (numbers.value(of_channel.OLDEST, name) for name in stats.queues)
    return {
        "id": stats.channel_id.hex(),
        **numbers.by_word(of_channel.WORDS),
        "oldest_s": max(oldest_s, default=0.0),
        "trouble": stats.trouble,
        "set_aside": stats.set_aside,
        "news": stats.news,
    }


def _sources(agent: Agent, numbers: Numbers) -> list[dict[str, Any]]:
    return [
        {
            "name": running.name,
            "type": running.kind,
            "state": running.state,
            "events": numbers.value(of_sources.EVENTS, running.name),
            "bytes": numbers.value(of_sources.BYTES, running.name),
            "counters": dict(running.intake.counters),
            "error": running.intake.error,
            "detail": running.source.status() | numbers.by_word(of_sources.WORDS, running.name),
        }
        for running in agent.parts.sources
    ]


def _outputs(agent: Agent, stats: ChannelStats, numbers: Numbers) -> list[dict[str, Any]]:
    """Those of the topology, then those that it no longer has and that still hold batches."""
    names = agent.topology.outputs(agent.name)
    orphans = [name for name in stats.queues if name not in names]
    return [_output(agent, name, numbers) for name in (*names, *orphans)]


def _output(agent: Agent, name: str, numbers: Numbers) -> dict[str, Any]:
    group, sink = agent.parts.groups.get(name), agent.parts.sinks.get(name)
    detail: dict[str, Any] = group.status() if group else sink.status() if sink else {}
    detail |= numbers.by_word(of_hops.WORDS_OF_SENDER if group else of_sinks.WORDS, name)
    for peer in detail.get("peers", ()) if group else ():
        peer |= numbers.by_word(of_hops.WORDS_OF_PEER, name, peer["agent"])
    return {
        "name": name,
        "kind": "sender" if group else "sink" if sink else "orphan",
        **dict.fromkeys(("events_out", "bytes_out"), 0),
        **numbers.by_word(of_channel.WORDS_OF_OUTPUT, name),
        "error": agent.errors.of(name),
        "detail": detail,
    }


def _receiver(agent: Agent, numbers: Numbers) -> dict[str, Any] | None:
    if agent.parts.receiver is None:
        return None
    told = agent.parts.receiver.status() | numbers.by_word(of_hops.WORDS_OF_RECEIVER)
    told["gate"] |= numbers.by_word(of_hops.WORDS_OF_GATE)
    return told
