"""The commit protocol of several sinks with copies of one batch: everything that may happen.

It drives the code that ships: `Settlement` (core/claims.py) and `Publication` (core/commit.py)
decide; here are only the store, the channels and what core leaves to the sink. As in the Rust
model that the protocol was designed with: a sink may crash at every step, an answer may be lost
before or after the deed, a call may be carried out at any time after its caller gave it up, a
listing takes in any part of what comes while it runs, a day may be closed at any moment, and a
sink's disk may be lost.

Two things keep it finite: file ids (`files` per sink), and `troubles`, the crashes and lost
answers in all. A claim's number is the least that is nowhere in use: only whether two are
equal matters.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from tiers.core import calls, commit, layout
from tiers.core.batch import BatchId
from tiers.core.calls import Answer
from tiers.core.claim import Claim, decode_claim, encode_claim
from tiers.core.claims import Outcome, Settlement, Step
from tiers.core.commit import Plan, Publication, State
from tiers.core.filing import Ref
from tiers.core.looks import Manifests

DAY: Final = "2026-11-23"
BATCH: Final = BatchId(b"o" * 16, 7)
_REF: Final = Ref(1, BATCH, 1, False, 100, 0.0)
Files = tuple[tuple[str, bytes], ...]


class Late(NamedTuple):
    """A call whose caller gave it up: it may be carried out at any time, or never."""

    kind: str  # move, replace, put (of content)
    source: str
    content: bytes
    target: str


class Sink(NamedTuple):
    """One sink. `machine` numbers what it is at, `Search.machines` has that."""

    copy: int = 0  # of the batch in its channel: 0 none, 1 unflagged, 2 flagged
    machine: int = 0  # 0: idle
    waits: bool = False  # the batch is parked
    planned: int = 0  # file id of the plan in its channel; 0: none
    planned_day: str = DAY
    next_file: int = 1
    closed: bool = False  # it knows that the first generation is closed
    listing: tuple[str, ...] | None = None  # names that a listing under way has seen
    dead: bool = False


class World(NamedTuple):
    sinks: tuple[Sink, ...]
    files: Files
    late: frozenset[Late]
    troubles: int
    died: bool = False  # a sink has lost its disk


@dataclass
class Search:
    """See `explorer.Model`. `copies`: each sink's copy at the start."""

    copies: tuple[int, ...]
    files: int = 2
    troubles: int = 2
    closes: bool = False  # the day may be closed
    dies: bool = False  # one sink may lose its disk

    def __post_init__(self) -> None:
        self.machines: list[Settlement | Publication | None] = [None]
        self._keys: dict[str, int] = {}
        self._calls: dict[tuple[int, int], tuple[int, object]] = {}
        self._answers: dict[tuple[int, object], int] = {}

    def starts(self) -> Iterator[World]:
        yield World(tuple(Sink(copy) for copy in self.copies), (), frozenset(), self.troubles)

    def wrong(self, world: World) -> str:
        published = sum(not path.startswith(".tiers/") for path, _ in world.files)
        if published > 1:
            return "published twice"
        if not published and not any(sink.copy for sink in world.sinks):
            return "let go of and not published"
        return ""

    def finished(self, world: World) -> bool:
        """Or out of file ids, which only the search is."""
        return all(not sink.copy for sink in world.sinks) or any(
            sink.copy and not sink.machine and sink.next_file > self.files for sink in world.sinks
        )

    # -- what may happen -------------------------------------------------------------------

    def steps(self, world: World) -> Iterator[tuple[str, World]]:
        for late in world.late:
            rest = world._replace(late=world.late - {late})
            after = _carry_out(rest, late)
            yield f"LATE {late.kind} {late.target}", _tidy(after)
        if self.closes and not _has(world, layout.closed_path(DAY)):
            yield "the day is closed", _put(world, layout.closed_path(DAY), b"")
        for index, sink in enumerate(world.sinks):
            if sink.dead:
                continue
            name = "ABC"[index]
            for label, after in self._sink_steps(world, index, sink):
                yield f"{name}: {label}", _tidy(after)
            if world.troubles and sink.machine:
                yield f"{name}: crash", _tidy(self._crashed(_trouble(world), index))
            others = any(s.copy for i, s in enumerate(world.sinks) if i != index)
            published = any(not path.startswith(".tiers/") for path, _ in world.files)
            if self.dies and not world.died and sink.copy and (others or published):
                gone = _with(world._replace(died=True), index, Sink(dead=True))
                yield f"{name}: disk lost", _tidy(gone)

    def _sink_steps(self, world: World, index: int, sink: Sink) -> Iterator[tuple[str, World]]:
        if not sink.machine:
            if sink.copy and not sink.planned:
                yield from self._begin(world, index, sink)
            return
        number = _unused(world, index, self.machines[sink.machine])
        machine_id, call = self._call(sink.machine, number)
        world = _with(world, index, sink._replace(machine=machine_id))
        yield from self._perform(world, index, call)

    def _begin(self, world: World, index: int, sink: Sink) -> Iterator[tuple[str, World]]:
        day = f"{DAY}.1" if sink.closed else DAY
        name = _name(index)
        if sink.copy == 2 or layout.is_later_generation(day):
            settlement = Settlement(name, day, [BATCH], Manifests(name), 0, sink.waits)
            yield "settles", self._at(world, index, sink, settlement)
        else:
            yield from self._plan(world, index, sink, day, {}, flagged=False)

    def _plan(
        self,
        world: World,
        index: int,
        sink: Sink,
        day: str,
        numbers: dict[BatchId, int],
        *,
        flagged: bool,
    ) -> Iterator[tuple[str, World]]:
        if sink.next_file > self.files:
            return
        file_id = sink.next_file
        ref = _REF._replace(flagged=flagged)
        path = f"{_name(index)}-{file_id}"
        plan = Plan(_name(index), file_id, day, path, "none", (ref,), (1,), numbers=numbers)
        yield "plans", self._at(world, index, sink, Publication(plan))

    def _perform(self, world: World, index: int, call: object) -> Iterator[tuple[str, World]]:
        sink = world.sinks[index]
        match call:
            case calls.WriteSmall():  # nobody reads what is staged: its move is the deed
                yield from self._perform_staged(world, index, call.path, call.content)
            case calls.Move(source, target) | calls.Replace(source, target):
                kind = "move" if isinstance(call, calls.Move) else "replace"
                machine = self.machines[sink.machine]
                if source.endswith(".small"):  # a claim staged before, which found another there
                    assert isinstance(machine, Settlement) and kind == "replace"
                    claim = Claim(machine.sink, BATCH, machine._number)
                    yield from self._deed(
                        world, index, Late("put", "", encode_claim(claim), target)
                    )
                    return
                yield from self._deed(world, index, Late(kind, source, b"", target))
            case commit.Write(_, path):
                yield from self._deed(world, index, Late("put", "", b"T", path))
            case calls.Ask(path):
                there = Answer.THERE if _has(world, path) else Answer.ABSENT
                yield f"asks {path}: {there.name}", self._told(world, index, there)
            case calls.Read(path):
                content = dict(world.files).get(path)
                yield f"reads {path}", self._told(world, index, content)
            case calls.List(path):
                yield from self._list(world, index, sink, path)
            case calls.Clock():
                yield "asks the time", self._told(world, index, 0)
            case commit.KeepPlan(plan):
                kept = sink._replace(
                    planned=plan.file_id, planned_day=plan.day, next_file=plan.file_id + 1
                )
                yield "keeps its plan", self._told(_with(world, index, kept), index, Answer.DONE)
            case commit.Release():
                gone = sink._replace(copy=0, planned=0)
                yield "releases", self._told(_with(world, index, gone), index, Answer.DONE)
            case commit.Abandon():
                copy_ = 2 if call.flagged else sink.copy
                back = sink._replace(copy=copy_, planned=0)
                yield "abandons", self._told(_with(world, index, back), index, Answer.DONE)
            case _:
                raise AssertionError(call)

    def _perform_staged(
        self, world: World, index: int, path: str, content: bytes
    ) -> Iterator[tuple[str, World]]:
        staged = self._told(world, index, Answer.DONE)
        machine_id, call = self._call(staged.sinks[index].machine, 0)
        staged = _with(staged, index, staged.sinks[index]._replace(machine=machine_id))
        assert isinstance(call, calls.Move | calls.Replace) and call.source == path
        if not content and isinstance(call, calls.Replace):
            # A void mark is emptied: nothing that anybody asks about changes.
            yield "empties", self._told(staged, index, Answer.DONE)
            return
        kind = "put" if isinstance(call, calls.Replace) else "put new"
        yield from self._deed(staged, index, Late(kind, "", content, call.target))

    def _deed(self, world: World, index: int, deed: Late) -> Iterator[tuple[str, World]]:
        answer = _truth(world, deed)
        done = _carry_out(world, deed)
        label = f"{deed.kind} {deed.target}"
        yield f"{label}: {answer.name}", self._told(done, index, answer)
        if not world.troubles:
            return
        trouble, done = _trouble(world), _trouble(done)
        late = trouble._replace(late=trouble.late | {deed})
        for when, after in (("before", trouble), ("after", done), ("to be late", late)):
            yield f"{label}: lost {when}", self._told(after, index, Answer.LOST)
            yield f"{label}: crash {when}", self._crashed(after, index)

    def _list(self, world: World, index: int, sink: Sink, path: str) -> Iterator[tuple[str, World]]:
        names = {p.rpartition("/")[2] for p, _ in world.files if p.rpartition("/")[0] == path}
        if sink.listing is None:
            seen = sink._replace(listing=tuple(sorted(names)))
            yield f"begins to list {path}", _with(world, index, seen)
            return
        came = sorted(names - set(sink.listing))
        for chosen in range(1 << len(came)):
            more = [name for place, name in enumerate(came) if chosen >> place & 1]
            entries = tuple(sorted((name, 0) for name in (*sink.listing, *more)))
            listed = _with(world, index, sink._replace(listing=None))
            yield f"lists {path}: {len(entries)}", self._told(listed, index, entries)

    # -- machines --------------------------------------------------------------------------

    def _intern(self, machine: Settlement | Publication) -> int:
        _plain(machine)
        key = repr(machine)
        if key not in self._keys:
            self._keys[key] = len(self.machines)
            self.machines.append(machine)
        return self._keys[key]

    def _at(self, world: World, index: int, sink: Sink, machine: Settlement | Publication) -> World:
        return _with(world, index, sink._replace(machine=self._intern(machine)))

    def _call(self, machine_id: int, number: int) -> tuple[int, object]:
        """The call of a machine, and the machine as it is then: it notes the number."""
        known = self._calls.get((machine_id, number))
        if known is None:
            machine = copy.deepcopy(self.machines[machine_id])
            assert machine is not None
            call = machine.call(number)
            known = self._calls[machine_id, number] = (self._intern(machine), call)
        return known

    def _told(self, world: World, index: int, answer: object) -> World:
        """The sink's machine is told; where that is its end, the sink acts upon it."""
        sink = world.sinks[index]
        told = self._answers.get((sink.machine, answer))
        if told is None:
            machine = copy.deepcopy(self.machines[sink.machine])
            assert machine is not None
            _tell(machine, answer)
            told = self._answers[sink.machine, answer] = self._intern(machine)
        machine = self.machines[told]
        assert machine is not None
        sink = sink._replace(machine=told, listing=None)
        return (
            self._ended(world, index, sink, machine) if machine.ended else _with(world, index, sink)
        )

    def _ended(
        self, world: World, index: int, sink: Sink, machine: Settlement | Publication
    ) -> World:
        sink = sink._replace(machine=0)
        if isinstance(machine, Publication):
            if machine.state is State.AGAIN:
                waits = bool(machine.yielded or machine.stopped)
                sink = sink._replace(waits=waits, closed=sink.closed or machine.closed)
            return _with(world, index, sink)
        outcome = machine.outcomes[BATCH]
        if outcome is Outcome.PUBLISHED:
            return _with(world, index, sink._replace(copy=0, waits=False))
        if outcome is Outcome.PARKED:
            return _with(world, index, sink._replace(waits=True))
        assert outcome is Outcome.MINE, outcome
        sink = sink._replace(waits=False)
        planned = list(
            self._plan(world, index, sink, machine.day, dict(machine.numbers), flagged=True)
        )
        return planned[0][1] if planned else _with(world, index, sink)

    def _crashed(self, world: World, index: int) -> World:
        sink = world.sinks[index]
        fresh = sink._replace(machine=0, waits=False, listing=None, closed=False)
        if sink.planned:
            path = f"{_name(index)}-{sink.planned}"
            plan = Plan(_name(index), sink.planned, sink.planned_day, path, "none", (), (1,))
            return self._at(world, index, fresh, Publication.found(plan))
        return _with(world, index, fresh)


def _plain(machine: Settlement | Publication) -> None:
    """Takes out what no further step depends on, so that equal futures are one state."""
    if isinstance(machine, Publication):
        machine.stopped = dict.fromkeys(machine.stopped, "")
        machine.yielded = dict.fromkeys(machine.yielded, "")
        if machine.state not in (State.STAGE, State.STAGE_EMPTY, State.INTEND, State.EMPTY):
            machine._small = ""
        return
    machine.why.clear()
    machine.fenced.clear()
    machine.taken_over.clear()
    if machine.step not in (Step.STAGE, Step.CLAIM, Step.READ_CLAIM, Step.REPLACE):
        machine._number = 0


def _tell(machine: Settlement | Publication, answer: object) -> None:
    if isinstance(answer, Answer):
        machine.answer(answer)
    elif isinstance(answer, tuple):
        machine.listed(answer)
    elif isinstance(answer, int):
        assert isinstance(machine, Settlement)
        machine.clock(answer)
    else:
        assert answer is None or isinstance(answer, bytes)
        machine.content(answer)


# -- the store ------------------------------------------------------------------------------


def _name(index: int) -> str:
    return "abc"[index]


def _with(world: World, index: int, sink: Sink) -> World:
    sinks = (*world.sinks[:index], sink, *world.sinks[index + 1 :])
    return world._replace(sinks=sinks)


def _trouble(world: World) -> World:
    return world._replace(troubles=world.troubles - 1)


def _has(world: World, path: str) -> bool:
    return any(one == path for one, _ in world.files)


def _put(world: World, path: str, content: bytes) -> World:
    files = dict(world.files) | {path: content}
    return world._replace(files=tuple(sorted(files.items())))


def _truth(world: World, deed: Late) -> Answer:
    if deed.kind in ("move", "replace") and not _has(world, deed.source):
        return Answer.SOURCE_GONE
    if deed.kind in ("move", "put new") and _has(world, deed.target):
        return Answer.TARGET_THERE
    return Answer.DONE


def _carry_out(world: World, deed: Late) -> World:
    if _truth(world, deed) is not Answer.DONE:
        return world
    if deed.source:
        files = dict(world.files)
        content = files.pop(deed.source)
        return _put(world._replace(files=tuple(sorted(files.items()))), deed.target, content)
    return _put(world, deed.target, deed.content)


def _tidy(world: World) -> World:
    """What can never matter any more is forgotten: late calls that find nothing to do, and files
    that are void and that neither their sink nor a late call is at."""
    late = world.late
    puts = {one.target for one in late if one.kind == "put"}
    idle = {
        one
        for one in late
        if (one.kind == "move" and not _has(world, one.source) and one.source not in puts)
        or (one.kind == "put new" and _has(world, one.target))
    }
    if idle:
        late = late - idle
        world = world._replace(late=late)
    for path, _ in world.files:
        _, _, room = path.rpartition("/")[0].rpartition("/")
        if room != "void":
            continue
        day, name = path.split("/")[1], path.rpartition("/")[2]
        about = {layout.tmp_path(day, name), layout.manifest_path(day, name), path}
        sink = world.sinks["abc".index(name[0])]
        busy = sink.machine and sink.planned == int(name[2:])
        if busy or any({one.source, one.target} & about for one in late):
            continue
        if not _has(world, layout.tmp_path(day, name)):
            kept = tuple(item for item in world.files if item[0] not in about)
            world = world._replace(files=kept)
    return world


def _unused(world: World, index: int, machine: Settlement | Publication | None) -> int:
    """The least number that no claim of this sink has, wherever it is."""
    used = set()
    for path, content in (*world.files, *((late.target, late.content) for late in world.late)):
        if "/claims/" in path:
            claim = decode_claim(content, BATCH)
            if claim.sink == _name(index):
                used.add(claim.number)
    if isinstance(machine, Settlement):
        used |= {machine._number, *machine.numbers.values()}
    return next(n for n in range(1, 100) if n not in used)
