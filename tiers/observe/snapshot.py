"""An agent at one moment, as the JSON that status, the page and the supervisor read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from tiers import __version__
from tiers.channel.living import Origin
from tiers.contracts import Channel, Reading
from tiers.core.change import ChannelStats, QueueStats
from tiers.core.runs import Runs, runs_of
from tiers.observe.conditions import Condition

if TYPE_CHECKING:
    from tiers.agent import Agent

_PAGE: Final = 1000
_Ids = dict[bytes, set[int]]  # sequence numbers by origin


def snapshot(agent: Agent) -> dict[str, Any]:
    """The whole status. Times are ms since the epoch, ages seconds, sizes bytes."""
    now_ms = agent.world.now_ms()
    stats = agent.channel.stats()  # once: what is shown is of one moment
    conditions = agent.health.conditions(stats)
    outputs = _outputs(agent, stats, now_ms)
    sources = _sources(agent)
    channel = _channel(stats, now_ms)
    channel["salvage"] = agent.salvage.status()
    if salvaged := agent.salvage.text():
        channel["set_aside"] = f"{channel['set_aside']}; {salvaged}".removeprefix("; ")
    receiver = agent.receiver
    at_ms, text = agent.last_error
    return {
        "agent": agent.name,
        "tier": agent.tier.name,
        "topology": agent.topology.name,
        "pid": os.getpid(),
        "version": __version__,
        "state": agent.state,
        "healthy": _is_healthy(agent, conditions),
        "conditions": [condition.told() for condition in conditions],
        "started_ms": agent.started_ms,
        "now_ms": now_ms,
        "generation": agent.reloading.generation,
        "topology_error": agent.reloading.error,
        "restart_needed": agent.reloading.restart_needed,
        "events_in": sum(s["events"] for s in sources) + (receiver.events_in if receiver else 0),
        "bytes_in": sum(s["bytes"] for s in sources) + (receiver.bytes_in if receiver else 0),
        "events_out": sum(output["events_out"] for output in outputs),
        "bytes_out": sum(output["bytes_out"] for output in outputs),
        "channel": channel,
        "sources": sources,
        "outputs": outputs,
        "receiver": receiver.status() if receiver else None,
        "loop": agent.watch.status() if agent.watch else None,
        "descriptors": {"limit": agent.shares.limit, "short": agent.shares.short},
        "last_error": {"at_ms": at_ms, "text": text} if text else None,
    }


def audit(channel: Channel) -> dict[str, Any]:
    """Which batch ids each output holds and has buried, as runs by origin: also of outputs that
    the topology no longer has. Walks all queues: not for every look."""
    # First: a batch stored after this is none that anybody expects to find here.
    origins = channel.origins()
    queues = channel.stats().queues
    return audit_of(channel, origins, channel.origin, queues)


def audit_of(
    reader: Reading, origins: Mapping[bytes, Origin], present: bytes, outputs: Iterable[str]
) -> dict[str, Any]:
    """The same of any channel that can be read, its agent running or not. `present` is the origin
    that gives numbers now; empty where none does."""
    held = {output: _held(reader, output) for output in outputs}
    dead: dict[str, _Ids] = {}
    for output, one in reader.dead_ids():
        dead.setdefault(output, {}).setdefault(one.origin, set()).add(one.seq)
    return {
        "origins": {
            origin.hex(): {"last": one.last, "begun_ms": one.begun_ms}
            for origin, one in origins.items()
        },
        "present": present.hex(),
        "outputs": {
            output: {"held": _runs(held.get(output, {})), "dead": _runs(dead.get(output, {}))}
            for output in {**held, **dead}
        },
    }


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


def _is_healthy(agent: Agent, conditions: Iterable[Condition]) -> bool:
    """Working, with nothing that a person should act on."""
    working = agent.state in ("running", "draining", "drained")
    return working and not any(condition.unhealthy for condition in conditions)


def _channel(stats: ChannelStats, now_ms: int) -> dict[str, Any]:
    oldest = [q.oldest_ms for q in stats.queues.values() if q.oldest_ms is not None]
    return {
        "id": stats.channel_id.hex(),
        "size_bytes": stats.size_bytes,
        "used_bytes": stats.used_bytes,
        "free_bytes": stats.free_bytes,
        "disk_free_bytes": stats.disk_free_bytes,
        "batches": stats.batches,
        "dead": stats.dead,
        "oldest_s": _age_s(min(oldest, default=None), now_ms),
        "commits": stats.commits,
        "commit_s": stats.commit_seconds,
        "puts": stats.puts,
        "put_bytes": stats.put_bytes,
        "trouble": stats.trouble,
        "set_aside": stats.set_aside,
        "news": stats.news,
    }


def _age_s(since_ms: int | None, now_ms: int) -> float:
    return 0.0 if since_ms is None else max(0.0, (now_ms - since_ms) / 1000)


def _sources(agent: Agent) -> list[dict[str, Any]]:
    return [
        {
            "name": running.name,
            "type": running.kind,
            "state": running.state,
            "events": running.intake.events,
            "bytes": running.intake.bytes,
            "counters": dict(running.intake.counters),
            "error": running.intake.error,
            "detail": running.source.status(),
        }
        for running in agent.sources
    ]


def _outputs(agent: Agent, stats: ChannelStats, now_ms: int) -> list[dict[str, Any]]:
    """Those of the topology, then those that it no longer has and that still hold batches."""
    queues = stats.queues
    names = agent.topology.outputs(agent.name)
    orphans = [name for name in queues if name not in names]
    return [_output(agent, name, queues[name], now_ms) for name in (*names, *orphans)]


def _output(agent: Agent, name: str, queue: QueueStats, now_ms: int) -> dict[str, Any]:
    group, sink = agent.groups.get(name), agent.sinks.get(name)
    detail = group.status() if group else sink.status() if sink else {}
    return {
        "name": name,
        "kind": "sender" if group else "sink" if sink else "orphan",
        "batches": queue.batches,
        "events": queue.events,
        "bytes": queue.size_bytes,
        "oldest_s": _age_s(queue.oldest_ms, now_ms),
        "events_out": group.events_out if group else detail.get("events_out", 0),
        "bytes_out": group.bytes_out if group else detail.get("bytes_out", 0),
        "error": agent.error_of(name),
        "detail": detail,
    }
