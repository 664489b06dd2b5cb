"""Outputs that a topology no longer has, and whose batches are still to be delivered.

    records  "output/" name      msgpack [version, JSON of a sink's options; empty for a tier]

A tier gets its batches while the file has it; a sink writes on by its last options. What can be
delivered in neither way stays in the channel, and the status names it.
"""

import json
import logging
from collections.abc import Callable, Collection
from typing import Any, Final

import msgpack

from tiers import sinks
from tiers.agent.composing import sender_spec, sink_spec
from tiers.contracts import Channel
from tiers.core.change import Change
from tiers.core.steps import Key, StepKind
from tiers.errors import TiersError, UsageError
from tiers.registry import load as load_class
from tiers.topology import Topology

log = logging.getLogger("tiers")
_RECORDS: Final = b"output/"
_VERSION: Final = 1


class Former:
    """Of one agent. `lasting` is told what lasts with an output, "" once it is over."""

    def __init__(
        self, channel: Channel, agent: str, lasting: Callable[[str], Callable[[str], None]]
    ) -> None:
        self._channel = channel
        self._agent = agent
        self._lasting = lasting
        self._known: set[str] = set()  # those that the last specs were made for
        self._orphans: set[str] = set()  # those of them that nobody delivers

    async def remember(self, topology: Topology) -> None:
        """What has to be known once the topology has its outputs no longer is on disk."""
        options = dict.fromkeys(topology.tier_of(self._agent).next, "")
        for sink in topology.sinks(self._agent):
            options[sink.name] = sink.model_dump_json(by_alias=True, exclude={"when"})
        there = self._channel.records(_RECORDS)
        wanted = {_RECORDS + name.encode(): _pack(text) for name, text in options.items()}
        records = {key: value for key, value in wanted.items() if there.get(key) != value}
        if records:
            await self._channel.submit(Change(records=records))

    def refuse_others(self, topology: Topology) -> None:
        """UsageError where a sink is to write to another store than its batches wait for."""
        queues = self._channel.stats().queues
        for sink in topology.sinks(self._agent):
            waits = sink.name in queues and queues[sink.name].batches
            before = self._options(sink.name) if waits else None
            if before is not None and before.place() != sink.place():
                raise UsageError(
                    f"batches wait for the sink {sink.name} of {before.place()}; give the one of "
                    f"{sink.place()} another name"
                )

    def specs(self, topology: Topology) -> dict[Key, Any]:
        """Of the parts that deliver what waits for such outputs."""
        self._known = self._waiting(topology)
        found: dict[Key, Any] = {}
        for name in sorted(self._known):
            options = self._options(name)
            if options is not None:
                found[Key(StepKind.SINK, name)] = sink_spec(topology, options, draining=True)
            elif name in topology.tiers and topology.peers(name):
                found[Key(StepKind.SENDER, name)] = sender_spec(topology, name)
        return found

    def is_changed(self, topology: Topology) -> bool:
        """One of them has run empty since the last specs, or is there anew."""
        return self._known != self._waiting(topology)

    def leaving(self) -> set[str]:
        """Those that are delivered."""
        return self._known - self._orphans

    def note_orphans(self, at_work: Collection[str]) -> None:
        """What nobody delivers stays where it is. `at_work` are the outputs of all parts."""
        queues = self._channel.stats().queues
        orphans = self._known.difference(at_work) & queues.keys()
        for name in orphans:
            self._lasting(name)(
                f"{queues[name].batches} batches ({queues[name].events} events) wait for this "
                "output, which the topology no longer has: put it back until they are delivered"
            )
        for name in self._orphans - orphans:
            self._lasting(name)("")
        self._orphans = orphans

    def _waiting(self, topology: Topology) -> set[str]:
        outputs, queues = topology.outputs(self._agent), self._channel.stats().queues
        return {name for name, queue in queues.items() if queue.batches and name not in outputs}

    def _options(self, output: str) -> Any:
        """The last options of a sink; None where it was none, or cannot be made any more."""
        key = _RECORDS + output.encode()
        stored = self._channel.records(key).get(key)
        version, text = (0, "") if stored is None else msgpack.unpackb(stored)
        if version != _VERSION or not text:
            return None
        try:
            table = json.loads(text)
            kind = load_class(sinks.BUILTIN, sinks.GROUP, table["type"])
            return kind.Options.model_validate(table)
        except (KeyError, ValueError, TiersError) as error:
            log.warning("what %s was cannot be told any more: %s", output, error)
            return None


def _pack(options: str) -> bytes:
    return bytes(msgpack.packb([_VERSION, options]))
