"""One sink of the commit search: the machines that ship, and what core leaves to the sink.

Most of what a sink does commutes with all that others do, so it is done at once, as part of the
step before it, and not in every order (Lipton's reduction; each kind says why). That finds what
the full search finds: a run in which others act in between can be reordered, without a change of
what anybody sees, into one in which they do not.

- *Its own*: plans and what is in its channel; its tmp before its manifest is there, since nobody
  else knows of the file; the store's clock; emptying a void mark. See `_is_own`.
- *Settled*: a manifest's content, and what became of a file whose tmp is gone: nothing changes
  them any more.
- *Stable*: that a claim is there. Nobody takes claims away, so who sees that it is there would
  see so later, too: it is seen when it is read.

And a crash comes only right behind something that lasts, a change of the store or the channel: a
sink that crashes later has only looked at things since, and is as it would be then.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from tests.search.machines import Machine, Machines
from tests.search.stored import BATCH, DAY, Late, Store
from tiers.core.batch import BatchId
from tiers.core.commit import calls, publication, store_names
from tiers.core.commit.calls import CallAnswer
from tiers.core.commit.claim import Claim, encode_claim
from tiers.core.commit.claims import Outcome, Settlement
from tiers.core.commit.filing import Ref
from tiers.core.commit.manifest_index import Manifests
from tiers.core.commit.planned import Plan
from tiers.core.commit.publication import Publication, State

NAMES: Final = "abc"
_BEFORE_ITS_MANIFEST: Final = (State.WRITE, State.STAGE, State.INTEND)
_REF: Final = Ref(1, BATCH, 1, False, 100, 0.0)


class Sink(NamedTuple):
    """One sink. `machine` numbers what it is at, `Sinks.machines` has that."""

    copy: int = 0  # of the batch in its channel: 0 none, 1 unflagged, 2 flagged
    machine: int = 0  # 0: idle
    waits: bool = False  # the batch is parked
    planned: int = 0  # file id of the plan in its channel; 0: none
    planned_day: str = DAY
    planned_by: str = ""  # writer of that plan
    next_file: int = 1
    closed: bool = False  # it knows that the first generation is closed
    listing: tuple[str, ...] | None = None  # names that a listing under way has seen
    dead: bool = False
    # Its disk went back, or is there twice:
    start: int = 0  # of its channel
    starts: tuple[int, ...] = (0,)  # that its channel knows
    renewed: bool = False  # its channel: then it is another sink

    def on_disk(self) -> "Sink":
        """What a crash leaves of it."""
        return self._replace(machine=0, waits=False, listing=None, closed=False)

    def called(self, name: str) -> str:
        """The sink's name. `name`: as it began."""
        return f"{name}{self.starts[0]}" if self.renewed else name

    def writer(self, name: str) -> str:
        return store_names.writer_name(self.called(name), self.start_name)

    @property
    def start_name(self) -> str:
        return str(self.start) if self.start else ""


class At(NamedTuple):
    """A sink, all that it may change, and what troubles are left."""

    sink: Sink
    store: Store
    troubles: int


Steps = Iterator[tuple[str, At]]


class Sinks:
    """What sinks may do. `files`: file ids per sink; `closes`: the day may be closed; `ages`: a
    disk may go back; `twins`: one may be there twice, and so a plan be known to two."""

    def __init__(
        self, files: int, *, closes: bool, ages: bool = False, twins: bool = False
    ) -> None:
        self._machines = Machines()
        self._files = files
        self._closes = closes
        self._ages = ages or twins
        self._twins = twins

    def steps(self, name: str, at: At, *, crowd: bool) -> Steps:
        """Everything that the sink of this name may do now. `crowd`: two or more manifests of
        others may yet come, so that a listing may see the later one alone."""
        if at.sink.machine:
            yield from self._called(name, at, crowd=crowd)
        elif at.sink.copy:
            for label, after in self._begin(name, at):
                yield from self._further(name, label, after)

    def coming(self, sink: Sink) -> int:
        """How many manifests it may yet bring, besides late ones."""
        machine = self._machines.all[sink.machine]
        if not sink.copy:
            return 0
        writes = isinstance(machine, Publication) and machine.state in _BEFORE_ITS_MANIFEST
        return self._files + 1 - sink.next_file + writes

    # -- steps that are one ----------------------------------------------------------------

    def _called(self, name: str, at: At, *, crowd: bool) -> Steps:
        """The call that is due, with what is part of it."""
        at, call = self._due(name, at)
        for label, after in self._perform(name, at, call, crowd=crowd):
            if after.sink.machine and _reads_a_claim(self._due(name, after)[1]):
                for more, last in self._called(name, after, crowd=crowd):
                    yield f"{label}, {more}", last
            else:
                yield from self._further(name, label, after)

    def _further(self, name: str, label: str, at: At) -> Steps:
        """With the steps behind this one that nobody else has a part in."""
        if not at.sink.machine:
            # Out of file ids it could only look again and again: that is a step by itself.
            if not at.sink.copy or at.sink.next_file > self._files:
                yield label, at
                return
            following = self._begin(name, at)
        else:
            due, call = self._due(name, at)
            if not self._is_own(name, due, call):
                yield label, at
                return
            following = self._perform(name, due, call, crowd=False)
        for more, after in following:
            yield from self._further(name, f"{label}, {more}", after)

    def _due(self, name: str, at: At) -> tuple[At, object]:
        taken = self._machines.draws(at.sink.machine)
        sink = at.sink
        drawn = 0 if taken is None else at.store.unused(sink.called(name), taken, sink.start)
        machine, call = self._machines.call(at.sink.machine, drawn)
        return at._replace(sink=at.sink._replace(machine=machine)), call

    def _is_own(self, name: str, at: At, call: object) -> bool:
        store = at.store
        match call:
            case calls.ReadClock():
                return True
            case publication.KeepPlan() | publication.Release() | publication.Abandon():
                return not self._ages  # else there is an image between this and what follows
            case publication.Write(plan, _):
                return not (
                    self._twins or store.has(store_names.manifest_path(plan.day, plan.name))
                )
            case calls.WriteSmall(_, content):
                return not content
            case calls.Read(path):
                return "/manifests/" in path
            case calls.List(path):
                ages = isinstance(self._machines.all[at.sink.machine], Settlement)
                return ages and path.endswith("/claims") and bool(store.names(path))
            case calls.Exists(path) if path.startswith(store_names.CLOSED):
                may_come = self._closes and path == store_names.closed_path(DAY)
                return store.has(path) or not may_come
            case calls.Exists(path):
                _, day, _, file = path.split("/")
                written = store_names.split_file_name(file)
                assert written is not None
                mine = not self._twins and written[0] in (at.sink.writer(name), at.sink.planned_by)
                known = mine or store.has(store_names.manifest_path(day, file))
                return known and store.settled(day, file)
            case _:
                return False

    # -- steps -----------------------------------------------------------------------------

    def _begin(self, name: str, at: At) -> Steps:
        sink = at.sink
        day = f"{DAY}.1" if sink.closed else DAY
        if sink.copy == 2 or store_names.is_later_generation(day):
            manifests = Manifests(sink.writer(name))
            settlement = Settlement(sink.called(name), day, [BATCH], manifests, 0, sink.waits)
            yield "settles", self._with(at, sink, settlement)
        elif (plan := self._plan(name, sink, day)) is not None:
            yield "plans", self._with(at, sink, Publication(plan))

    def _plan(
        self, name: str, sink: Sink, day: str, numbers: dict[BatchId, int] | None = None
    ) -> Plan | None:
        """The next file, of a batch that is flagged when claims have `numbers`; None where file
        ids are used up."""
        if sink.next_file > self._files:
            return None
        ref = _REF._replace(flagged=numbers is not None)
        return Plan(
            sink.called(name),
            sink.next_file,
            day,
            f"{sink.writer(name)}-{sink.next_file}",
            "none",
            (ref,),
            (1,),
            numbers=numbers or {},
            start=sink.start_name,
        )

    def _with(self, at: At, sink: Sink, machine: Machine) -> At:
        return at._replace(sink=sink._replace(machine=self._machines.number(machine)))

    def _perform(self, name: str, at: At, call: object, *, crowd: bool) -> Steps:
        sink, store = at.sink, at.store
        match call:
            case calls.WriteSmall():  # nobody reads what is staged: its move is the deed
                yield from self._perform_staged(name, at, call)
            case calls.Replace(source, target) if source.endswith(".small"):
                # A claim staged before, which found another there.
                machine = self._machines.all[sink.machine]
                assert isinstance(machine, Settlement)
                claim = Claim(machine.sink, BATCH, machine._number)
                yield from self._deed(name, at, Late("put", "", encode_claim(claim), target))
            case calls.Move(source, target):
                yield from self._deed(name, at, Late("move", source, b"", target))
            case calls.Replace(source, target):
                yield from self._deed(name, at, Late("replace", source, b"", target))
            case publication.Write(_, path):
                yield from self._deed(name, at, Late("put", "", b"T", path))
            case calls.Exists(path):
                there = CallAnswer.THERE if store.has(path) else CallAnswer.ABSENT
                yield f"asks {path}: {there.name}", self._told(name, at, there)
            case calls.Read(path):
                yield f"reads {path}", self._told(name, at, store.content(path))
            case calls.List(path):
                yield from self._list(name, at, path, crowd=crowd)
            case calls.ReadClock():
                yield "asks the time", self._told(name, at, 0)
            case _:
                yield from self._in_channel(name, at, call)

    def _in_channel(self, name: str, at: At, call: object) -> Steps:
        sink = at.sink
        match call:
            case publication.KeepPlan(plan):
                sink = sink._replace(
                    planned=plan.file_id,
                    planned_day=plan.day,
                    planned_by=plan.writer,
                    next_file=plan.file_id + 1,
                )
                label = "keeps its plan"
            case publication.Release():
                sink = sink._replace(copy=0, planned=0, planned_by="")
                label = "releases"
            case publication.Abandon():
                sink = sink._replace(
                    copy=2 if call.flagged else sink.copy, planned=0, planned_by=""
                )
                label = "abandons"
            case _:
                raise AssertionError(call)
        at = at._replace(sink=sink)
        yield label, self._told(name, at, CallAnswer.DONE)
        if at.troubles:
            yield f"{label}: crash after", self._crashed(name, _trouble(at))

    def _perform_staged(self, name: str, at: At, call: calls.WriteSmall) -> Steps:
        staged, move = self._due(name, self._told(name, at, CallAnswer.DONE))
        assert isinstance(move, calls.Move | calls.Replace) and move.source == call.path
        if not call.content and isinstance(move, calls.Replace):
            # A void mark is emptied: nothing that anybody asks about changes.
            yield "empties", self._told(name, staged, CallAnswer.DONE)
            return
        kind = "put" if isinstance(move, calls.Replace) else "put new"
        yield from self._deed(name, staged, Late(kind, "", call.content, move.target))

    def _deed(self, name: str, at: At, deed: Late) -> Steps:
        answer = at.store.truth(deed)
        done = at._replace(store=at.store.after(deed))
        label = f"{deed.kind} {deed.target}"
        yield f"{label}: {answer.name}", self._told(name, done, answer)
        if not at.troubles:
            return
        before, after = _trouble(at), _trouble(done)
        late = before._replace(store=at.store.giving_up(deed))
        yield f"{label}: lost before", self._told(name, before, CallAnswer.LOST)
        for when, then in (("after", after), ("to be late", late)):
            yield f"{label}: lost {when}", self._told(name, then, CallAnswer.LOST)
            yield f"{label}: crash {when}", self._crashed(name, then)

    def _list(self, name: str, at: At, path: str, *, crowd: bool) -> Steps:
        """A listing sees what was there when it began, and any part of what came meanwhile. Where
        that is nothing, or all, it might as well have come at one moment, its beginning or its
        end. So it takes two steps only where it may see a part: of the others' manifests, where
        two of them may come."""
        own = f"{at.sink.writer(name)}-"
        names = {one for one in at.store.names(path) if not one.startswith(own)}
        seen = at.sink.listing
        if seen is None:
            entries = tuple(sorted((one, 0) for one in names))
            yield f"lists {path}: {len(entries)}", self._told(name, at, entries)
            if crowd and path.endswith("/manifests"):
                begun = at.sink._replace(listing=tuple(sorted(names)))
                yield f"begins to list {path}", at._replace(sink=begun)
            return
        came = sorted(names - set(seen))
        for chosen in range(max(1, (1 << len(came)) - 1)):
            more = [one for place, one in enumerate(came) if chosen >> place & 1]
            entries = tuple(sorted((one, 0) for one in (*seen, *more)))
            yield f"lists {path}: {len(entries)}", self._told(name, at, entries)

    # -- machines --------------------------------------------------------------------------

    def _told(self, name: str, at: At, answer: object) -> At:
        """The sink's machine is told; where that is its end, the sink acts upon it."""
        told = self._machines.told(at.sink.machine, answer)
        sink = at.sink._replace(machine=told, listing=None)
        machine = self._machines.all[told]
        assert machine is not None
        return self._ended(name, at, sink, machine) if machine.ended else at._replace(sink=sink)

    def _ended(self, name: str, at: At, sink: Sink, machine: Machine) -> At:
        sink = sink._replace(machine=0)
        if isinstance(machine, Publication):
            if machine.state is State.AGAIN:
                waits = bool(machine.yielded or machine.stopped)
                sink = sink._replace(waits=waits, closed=sink.closed or machine.closed)
            return at._replace(sink=sink)
        outcome = machine.outcomes[BATCH]
        if outcome is Outcome.PUBLISHED:
            return at._replace(sink=sink._replace(copy=0, waits=False))
        if outcome is Outcome.PARKED:
            return at._replace(sink=sink._replace(waits=True))
        assert outcome is Outcome.MINE, outcome
        sink = sink._replace(waits=False)
        plan = self._plan(name, sink, machine.day, dict(machine.numbers))
        if plan is None:
            return at._replace(sink=sink)
        return self._with(at, sink, Publication(plan))

    def _crashed(self, name: str, at: At) -> At:
        return self.started(name, at) if self._ages else self._resumed(at)

    def started(self, name: str, at: At, *, other: bool = False) -> At:
        """A start of its channel: it looks for itself in the store
        (`sinks/files/traces.py`), and what it finds that it does not know renews the
        channel. `other`: the first of another life."""
        sink = at.sink
        start = sink.start + (1 if other else 2)  # odd ones are the other's
        if any(self._is_unknown(name, sink, file) for file in at.store.file_names()):
            sink = sink._replace(copy=2 if sink.copy else 0, starts=(start,), renewed=True)
        else:
            sink = sink._replace(starts=(*sink.starts, start))
        return self._resumed(at._replace(sink=sink._replace(start=start)))

    @staticmethod
    def _is_unknown(name: str, sink: Sink, file: str) -> bool:
        written = store_names.split_file_name(file)
        if written is None:
            return False
        of, _, start = written[0].partition(".")
        known = int(start or 0) in sink.starts and written[1] < sink.next_file
        return of == sink.called(name) and not known

    def _resumed(self, at: At) -> At:
        sink = at.sink
        fresh = sink.on_disk()
        if not sink.planned:
            return at._replace(sink=fresh)
        path = f"{sink.planned_by}-{sink.planned}"
        plan = Plan(sink.planned_by, sink.planned, sink.planned_day, path, "none", (), (1,))
        return self._with(at, fresh, Publication.found(plan))


def _trouble(at: At) -> At:
    return at._replace(troubles=at.troubles - 1)


def _reads_a_claim(call: object) -> bool:
    return isinstance(call, calls.Read) and "/claims/" in call.path
