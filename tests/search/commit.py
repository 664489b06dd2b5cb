"""The commit protocol of several sinks with copies of one batch: everything that may happen.

It drives the code that ships: `Settlement` (core/commit/claims.py) and `Publication`
(core/commit/publication.py) decide; here are only the store, the channels and what core leaves to
the sink. As in the Rust model that the protocol was designed with: a sink may crash at every step,
an answer may be lost before or after the deed, a call may be carried out at any time after its
caller gave it up, a listing takes in any part of what comes while it runs, a day may be closed at
any moment, and a sink's disk may be lost.

Two things keep it finite: file ids (`files` per sink), and `troubles`, the crashes and lost
answers in all.

A world is a few numbers: sinks and stores are kept once, and what a sink may do with a store is
worked out once, whatever the others are at.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from tests.search.sink import NAMES, At, Sink, Sinks
from tests.search.stored import DAY, Store
from tiers.core.commit import store_names

World = tuple[int, ...]  # store, troubles left, what has become of a disk, sinks
Fault = Literal["", "back", "cloned"]  # the disk of the first sink
_WHOLE: Final = 0
_DIED: Final = 1
_IMAGED: Final = 2  # that, and the number of the sink that is on the image; _DIED once it was used


Steps = Iterator[tuple[str, World]]


class Did(NamedTuple):
    """What a sink may do: itself then, and the store."""

    label: str
    sink: int
    store: int
    troubles: int


class Facts(NamedTuple):
    """What matters of a sink for the others."""

    copy: int
    idle: bool
    exhausted: bool  # its file ids are used up
    coming: int  # manifests that it may yet bring
    busy: str  # name of the file that it is at; empty: none


class Stored(NamedTuple):
    """What matters of a store, whoever acts."""

    published: int  # files
    coming: int  # manifests that late calls may bring
    tidy: bool  # nothing in it to be tidied, whatever sinks are at


@dataclass
class Search:
    """See `explorer.Model`. `copies`: each sink's copy at the start."""

    copies: tuple[int, ...]
    files: int = 2
    troubles: int = 2
    closes: bool = False  # the day may be closed
    dies: bool = False  # one sink may lose its disk
    fault: Fault = ""  # "cloned": on a machine that can be told apart

    def __post_init__(self) -> None:
        twins = self.fault == "cloned"
        self._does = Sinks(self.files, closes=self.closes, ages=bool(self.fault), twins=twins)
        self._names = NAMES[: len(self.copies)] + NAMES[0] * twins
        self._sinks: list[Sink] = []
        self._facts: list[Facts] = []
        self._sink_numbers: dict[Sink, int] = {}
        self._stores: list[Store] = []
        self._stored: list[Stored] = []
        self._store_numbers: dict[Store, int] = {}
        self._steps: dict[tuple[int, int, int, int, bool], tuple[Did, ...]] = {}
        self._alone: dict[int, tuple[tuple[str, int], ...]] = {}
        self._tidied: dict[tuple[int | str, ...], int] = {}

    def starts(self) -> Iterator[World]:
        sinks = [self._sink(Sink(copy)) for copy in self.copies]
        if self.fault == "cloned":
            sinks.append(self._sink(Sink()))
        yield (self._store(Store()), self.troubles, _WHOLE, *sinks)

    def wrong(self, world: World) -> str:
        published = self._stored[world[0]].published
        if published > 1:
            return "published twice"
        if not published and not any(self._facts[sink].copy for sink in world[3:]):
            return "let go of and not published"
        return ""

    def finished(self, world: World) -> bool:
        """Or out of file ids, which only the search is."""
        holding = [facts for sink in world[3:] if (facts := self._facts[sink]).copy]
        return not holding or any(one.idle and one.exhausted for one in holding)

    def steps(self, world: World) -> Steps:
        store, troubles, died, *sinks = world
        for label, after in self._store_steps(store):
            yield label, self._world(after, troubles, died, sinks)
        facts = [self._facts[sink] for sink in sinks]
        stored = self._stored[store]
        coming = stored.coming + sum([one.coming for one in facts])
        for index, sink in enumerate(sinks):
            others = coming - facts[index].coming
            for label, new, after, left in self._sink_steps(
                index, sink, store, troubles, crowd=others > 1 or bool(self.fault)
            ):
                sinks[index] = new
                yield label, self._world(after, left, died, sinks)
            held = sum([bool(one.copy) for one in facts])
            if self.dies and not died and facts[index].copy and (held > 1 or stored.published):
                sinks[index] = self._sink(Sink(dead=True))
                yield f"{NAMES[index]}: disk lost", self._world(store, troubles, 1, sinks)
            sinks[index] = sink
        if self.fault:
            yield from self._aging(store, troubles, died, sinks)

    def _aging(self, store: int, troubles: int, died: int, sinks: list[int]) -> Steps:
        """An image of the first sink's disk, at any moment; and its use."""
        if died == _WHOLE and self._facts[sinks[0]].copy:
            kept = self._sinks[sinks[0]].on_disk()
            yield "an image", self._world(store, troubles, _IMAGED + self._sink(kept), sinks)
        elif died >= _IMAGED:
            image = self._sinks[died - _IMAGED]
            if self.fault == "cloned":
                image = image._replace(copy=2)  # flagged: it has moved
            at = self._does.started(NAMES[0], At(image, self._stores[store], 0), other=True)
            place = 0 if self.fault == "back" else len(sinks) - 1
            after = [*sinks]
            after[place] = self._sink(at.sink)
            yield f"{self.fault}", self._world(store, troubles, _DIED, after)

    # -- each worked out once --------------------------------------------------------------

    def _store_steps(self, number: int) -> tuple[tuple[str, int], ...]:
        """What happens without a sink: late calls, the end of a day."""
        known = self._alone.get(number)
        if known is None:
            store = self._stores[number]
            steps = [
                (f"LATE {one.kind} {one.target}", store.carrying_out(one)) for one in store.late
            ]
            closed = store_names.closed_path(DAY)
            if self.closes and not store.has(closed):
                steps.append(("the day is closed", store.put(closed, b"")))
            known = tuple([(label, self._store(after)) for label, after in steps])
            self._alone[number] = known
        return known

    def _sink_steps(
        self, index: int, sink: int, store: int, troubles: int, *, crowd: bool
    ) -> tuple[Did, ...]:
        key = index, sink, store, troubles, crowd
        known = self._steps.get(key)
        if known is None:
            at = At(self._sinks[sink], self._stores[store], troubles)
            dids = []
            for label, after in self._does.steps(self._names[index], at, crowd=crowd):
                numbers = self._sink(after.sink), self._store(after.store)
                dids.append(Did(f"{self._called(index)}: {label}", *numbers, after.troubles))
            known = self._steps[key] = tuple(dids)
        return known

    def _called(self, index: int) -> str:
        return self._names[index] if index < len(self.copies) else f"{NAMES[0]}'s clone"

    def _world(self, store: int, troubles: int, died: int, sinks: list[int]) -> World:
        """Tidy: see `Store.tidied`."""
        if not self._stored[store].tidy:
            key: tuple[int | str, ...] = store, *[self._facts[sink].busy for sink in sinks]
            tidied = self._tidied.get(key)
            if tidied is None:
                traces_of = NAMES[0] if self.fault else ""
                busy = {name for sink in sinks if (name := self._facts[sink].busy)}
                tidied = self._store(self._stores[store].tidied(busy, traces_of))
                self._tidied[key] = tidied
            store = tidied
        return (store, troubles, died, *sinks)

    def _sink(self, sink: Sink) -> int:
        number = self._sink_numbers.setdefault(sink, len(self._sinks))
        if number == len(self._sinks):
            self._sinks.append(sink)
            self._facts.append(
                Facts(
                    sink.copy,
                    not sink.machine,
                    sink.next_file > self.files,
                    self._does.coming(sink),
                    _busy(sink),
                )
            )
        return number

    def _store(self, store: Store) -> int:
        number = self._store_numbers.setdefault(store, len(self._stores))
        if number == len(self._stores):
            self._stores.append(store)
            voids = any("/void/" in path for path, _ in store.files)
            coming = sum("/manifests/" in late.target for late in store.late)
            self._stored.append(Stored(store.published(), coming, not voids and not store.late))
        return number


def _busy(sink: Sink) -> str:
    """A name, where it is at a file."""
    at_a_file = sink.machine and sink.planned
    return store_names.file_name(sink.planned_by, sink.planned) if at_a_file else ""
