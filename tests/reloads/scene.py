"""A topology of real processes, each of whose settings is there in two variants.

edges --> aggregators --> sinks
  |  (`next`)
  +--> archive
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from tests.faults.cluster import Cluster, free_port_pair, published_files
from tests.faults.counting import Published
from tests.waiting import wait_for
from tiers.agent.reloading import hash_of
from tiers.observe.client import tell_reload
from tiers.topology import load

PATIENCE_S: Final = 60.0
LOOK_S: Final = 0.05
LINES: Final = 500  # of a source that is there for a while
ARCHIVE: Final = "archive-1"
KINDS: Final = (
    *("sources", "source options", "interceptors", "batch", "channel", "delivery"),
    *("listen", "status", "sink options", "sinks", "next", "peers", "when", "route"),
)


_WEB: Final = 'when = { service = "web" }'
_ALL: Final = 'when = { service = { not = "nobody" } }\n'


class Scene(Cluster):
    """`on` are the settings that are in their second variant."""

    def __init__(self, directory: Path, *, edges: int, sinks: int) -> None:
        self.on: set[str] = set()
        self.other_port = free_port_pair()
        self.third_port = free_port_pair()
        self.archive_port = free_port_pair()
        self.status_port = free_port_pair()
        self.reloads: Counter[str] = Counter()
        for number in range(edges):
            (directory / f"more-{number + 1}").mkdir()
        super().__init__(directory, edges=edges, aggregators=2, sinks=sinks)

    @property
    def agents(self) -> list[str]:
        return [ARCHIVE, *super().agents]

    def write_topology(self) -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text("".join([*self._limits(), *self._tiers(), *self._agents()]))
        fresh.replace(self.file)

    def _either(self, kind: str, second: str, first: str) -> str:
        return second if kind in self.on else first

    def _limits(self) -> list[str]:
        linger = self._either("batch", 'linger = "5ms"\nlevel = 3', 'size = "256KiB"')
        size = self._either("channel", "2GiB", "1GiB")
        delivery = self._either("delivery", 'window = "8MiB"\nheartbeat = "300ms"\n', "")
        return [
            'name = "reloads"\n[batch]\n',
            f'{linger}\n[channel]\nsize = "{size}"\nfree_floor = "0B"\n',
            f"[delivery]\n{delivery}",
        ]

    def _tiers(self) -> list[str]:
        archive = '"archive"'
        archive = self._either("when", f"{{ tier = {archive}, {_WEB} }}", archive)
        tiers = self._either("next", f'["aggregator", {archive}]', '"aggregator"')
        static = '[{ type = "static", headers = { dc = "ams" } }]'
        roll = self._either("sink options", "300ms", "700ms")
        aggregators = {
            "agg-1": self.other_port if "listen" in self.on else self.ports["agg-1"],
            "agg-2": self.ports["agg-2"],
        }
        if "peers" in self.on:
            del aggregators["agg-2"]
        sinks = {name: port for name, port in self.ports.items() if name.startswith("sink")}
        found = [
            f"[tiers.edge]\nagents = {json.dumps(self.edges)}\nnext = {tiers}\n",
            self._either("interceptors", f"interceptors = {static}\n", ""),
            f'[tiers.aggregator]\nagents = {_addresses(aggregators)}\nnext = "sink"\n',
            f"[tiers.sink]\nagents = {_addresses(sinks)}\n",
            # All that there is goes to the first of the sinks, whichever way.
            self._either("route", 'route = "first"\nunrouted = "drop"\n', ""),
            self._sink("tiers.sink", "out", roll),
            self._either("when", _ALL, ""),
            f"[tiers.archive]\nagents = {_addresses({ARCHIVE: self.archive_port})}\n",
            # It never finds a file, but something has to feed a tier.
            f'sources = [{{ type = "tail", paths = ["{self.directory}/none/*.log"] }}]\n',
            self._sink("tiers.archive", ARCHIVE, "300ms"),
        ]
        if "sinks" in self.on:
            found.append(self._sink("tiers.sink", "second", "300ms"))
            found.append(self._either("when", f"{_WEB}\n", ""))
        return found

    def _sink(self, tier: str, name: str, roll_after: str) -> str:
        return (
            f'[[{tier}.sinks]]\ntype = "directory"\nname = "{name}"\nroot = "{self.root(name)}"\n'
            f'path = "%Y/%m/%d"\nroll_after = "{roll_after}"\n'
        )

    def root(self, sink: str) -> Path:
        return self.directory / sink

    def _agents(self) -> list[str]:
        found = []
        for number, edge in enumerate(self.edges, 1):
            headers = self._either("source options", "web", "app")
            found.append(self._source(edge, "main", self.directory / edge, headers))
            if "sources" in self.on:
                found.append(self._source(edge, "more", self.directory / f"more-{number}", "more"))
        if "status" in self.on:
            found.append(f'[agents.sink-1]\nstatus = "127.0.0.1:{self.status_port}"\n')
        return found

    def _source(self, edge: str, name: str, directory: Path, service: str) -> str:
        return (
            f'[[agents.{edge}.sources]]\ntype = "tail"\nname = "{name}"\n'
            f'paths = ["{directory}/*.log"]\nheaders = {{ service = "{service}" }}\n'
        )

    # -- reloads -----------------------------------------------------------------------------

    def toggle(self, *kinds: str) -> None:
        """The other variant of these is in force everywhere when this returns."""
        if "sources" in kinds and "sources" in self.on:
            self._more_is_published()
        self.on.symmetric_difference_update(kinds)
        if "sources" in kinds and "sources" in self.on:
            for number in range(len(self.edges)):
                self.write(f"more-{number + 1}", LINES)
        self.write_topology()
        self.reloads.update(kinds)
        self._in_force()
        if "next" in kinds and "next" not in self.on:
            wait_for(self._archive_is_left, "what waited for it is delivered", PATIENCE_S, LOOK_S)

    def _in_force(self) -> None:
        wanted, there = hash_of(load(self.file)), self._following()
        gone = [name for name in there if self.children[name].poll() is not None]
        if gone:  # it was left out for long enough to drain and end
            self.start(*gone)
            self.wait_running(*gone)
        for name in there:
            asyncio.run(tell_reload(self.data / name))
        wait_for(
            lambda: all(self._runs_by(name, wanted) for name in there),
            f"all run by it: {[self.status(name) for name in there]}",
            PATIENCE_S,
            LOOK_S,
        )

    def _following(self) -> list[str]:
        """One that the file leaves out goes on by the last that named it, for 30 s."""
        return [one for one in self.agents if one != "agg-2" or "peers" not in self.on]

    def _runs_by(self, name: str, wanted: str) -> bool:
        status = self.status(name)
        if status is None:
            return False
        assert not status["restart_needed"], (name, status["restart_needed"])
        assert not status["topology_error"], (name, status["topology_error"])
        return bool(status["topology_hash"] == wanted)

    def _archive_is_left(self) -> bool:
        """What no output of its topology waits for any more is not shown."""
        told = [self.status(edge) for edge in self.edges]
        return all(
            one and not any(each["name"] == "archive" for each in one["outputs"]) for one in told
        )

    def _more_is_published(self) -> None:
        """What is not read when a source is taken out is not read."""
        more = {f"more-{number + 1}".encode() for number in range(len(self.edges))}
        wait_for(partial(self._are_published, more), "the source's lines", PATIENCE_S, LOOK_S)

    def _are_published(self, tags: set[bytes]) -> bool:
        missing = self.so_far("out").examples
        return not any(f"missing of {tag.decode()}:" in text for tag in tags for text in missing)

    # -- lines -------------------------------------------------------------------------------

    def published_files(self, store: str = "") -> list[Path]:
        return published_files(self.root(store or "out"))

    def doubled(self, store: str) -> int:
        """Lines that are more than once in a store which has some of them."""
        found = Published().look(self.published_files(store)).against(self.written)
        assert not found.strange, found
        return found.doubled


def _addresses(ports: dict[str, int]) -> str:
    told = (f'{name} = "127.0.0.1:{port}"' for name, port in ports.items())
    return "{ " + ", ".join(told) + " }"


def play(scene: Scene, times: int, dice: random.Random, say: Callable[[str], None]) -> None:
    """Each kind of reload so often, in any order; half of them with another."""
    kinds = [kind for kind in KINDS for _ in range(times)]
    dice.shuffle(kinds)
    while kinds:
        now = {kinds.pop()}
        if kinds and dice.random() < 0.5:
            now.add(kinds.pop())
        say(", ".join(sorted(now)))
        scene.toggle(*sorted(now))
    while scene.on:
        scene.toggle(*sorted(scene.on))


def counted(scene: Scene) -> None:
    """Everything is published once, in each store that was there all the time; in the others
    nothing is twice."""
    wait_for(lambda: not scene.so_far("out").missing, "all is published", PATIENCE_S, LOOK_S)
    wait_for(scene.is_empty, "every channel is empty", PATIENCE_S, LOOK_S)
    scene.pauses.all_is_published()
    count = scene.count("out")
    print(count, f"; reloads: {dict(scene.reloads)}")
    assert count.right, count
    for store in ("second", ARCHIVE):
        assert not scene.doubled(store), store
