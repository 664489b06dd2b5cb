"""A sink that publishes files in a store. It performs what core/commit decides.

    outlet --refs--> Filing --draft--> Settling --claimed--> Publication --calls--> store, channel
       ^                ^              (flagged)                |    |
       |                +--------------- again -----------------+    |
       +---------------- release ------------------------------------+

The loop looks up what it takes from its outlet and starts a task for each file that is
due, `writers` at a time; a task carries one file through its calls. Store calls block and run in
threads. Cancelling is a crash as far as the files are concerned: what is under way may yet be
carried out, and the next run asks what became of each planned file.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import ClassVar, Final

from tiers.contracts import SinkContext, Store
from tiers.core.change import Change
from tiers.core.codecs import EXTENSIONS
from tiers.core.commit import store_names
from tiers.core.commit.calls import CallAnswer
from tiers.core.commit.claims import CLAIMS_MAX, Settlement
from tiers.core.commit.filing import FileDraft, Filing, cut
from tiers.core.commit.planned import Plan
from tiers.core.commit.publication import Abandon, KeepPlan, Publication, Release, State, Write
from tiers.core.meters import Sample
from tiers.core.progress import Work
from tiers.errors import StoreRefused, StoreUnavailable
from tiers.sinks import meters
from tiers.sinks.asking import SINK, Asking, back_off
from tiers.sinks.files import kept_plans
from tiers.sinks.files.at_work import Hands
from tiers.sinks.files.days import closed_days, tend_days
from tiers.sinks.files.loading import Loading
from tiers.sinks.files.options import FileOptions
from tiers.sinks.files.performing import perform
from tiers.sinks.files.settling import FileCounts, Settling
from tiers.sinks.files.store_id import find_store
from tiers.sinks.files.traces import nothing_unknown
from tiers.sinks.files.writing import Writing
from tiers.sinks.overdue import Overdue
from tiers.sinks.sink import SinkOptions

LOAD_MAX: Final = 1000  # batches looked up in one go
BUCKETS_MAX: Final = 1024  # files to be, not begun yet, in which one first agent has batches
_DRAIN_AFTER_S: Final = 0.5  # while draining, a batch waits for others no longer than this
_PASSED_SHOWN: Final = 16  # first agents with more batches than may be held
_TAKEN_OVER: Final = 1.5  # times `takeover_after`: by then a parked batch is taken over
_STOP_S: Final = 5.0  # how long a stopping sink waits for store calls under way
_TEND_S_MAX: Final = 600.0  # days are closed and forgotten at least so often
# Troubles that are no file's.
_DAYS, _FILE_BEFORE = "days", "file before"
_log = logging.getLogger(__name__)


class FileSink:
    """See `Sink`. One store call per file task at a time, in one of `writers` + 1 threads."""

    Options: ClassVar[type[SinkOptions]] = FileOptions

    def __init__(self, options: FileOptions, context: SinkContext, store: Store) -> None:
        self._options = options
        self._context = context
        self._channel = context.channel
        self._outlet = context.outlet
        self._outlet.troubles.where = store.where
        self._output = self._outlet.output
        self._store = store
        self._store_id = ""
        self._name = store_names.sink_name(context.agent, self._output, self._channel.channel_id)
        self._starts = [store_names.start_name(start.id) for start in self._channel.life.starts]
        self._start = self._starts[-1]
        self._writer = store_names.writer_name(self._name, self._start)
        self._loading = Loading(context.channel, options)
        self._filing = Filing(options.roll_size_bytes, options.roll_after_s)
        self._closed: set[str] = set()  # days and generations, as far as known
        self._workers = context.world.workers(f"store-{self._output}", options.writers + 1)
        self._troubles = self._outlet.troubles
        self._asking = Asking(self._workers, self._troubles, context.world.random)
        self.counts = FileCounts()
        self._hands = Hands(options.writers, context.world.random, self._outlet.wake)
        self._settling = Settling(
            self._name,
            self._writer,
            self._outlet,
            store,
            self._workers,
            context.world,
            options.takeover_after_s,
            self.counts,
            self._hands.wait_for_person,
        )
        self._stop = threading.Event()
        self._files: dict[int, Publication] = {}
        self._overdue = Overdue(self._channel, self._output, context.world.now_ms)
        self._writing = Writing(
            self._channel,
            self._output,
            store,
            self._workers,
            options.level_of(context.level),
            self._overdue,
            self._stop,
        )
        self._parked_first = False
        self._next_file = 1
        self._failures = 0  # in a row, of all files: only a published file ends the row

    async def run(self) -> None:
        try:
            # What an earlier run submitted is on disk before its plans are read: a file id that
            # it used must not be used again.
            await self._channel.submit(Change())
            self._store_id = await find_store(self._asking, self._context, self._store, self._stop)
            await self._asking.until_clear(_DAYS, self._look_at_days)
            await self._look_for_itself()
            await self._settle()
            await self._try_alone()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._tend())
                await self._feed(tasks)
        finally:
            self._stop.set()
            self._outlet.close()
            closing = asyncio.create_task(asyncio.to_thread(self._workers.close, _STOP_S))
            if await asyncio.shield(closing):
                self._store.close()
                self._writing.close()

    def drain(self) -> None:
        self._filing.roll_after_s = min(self._filing.roll_after_s, _DRAIN_AFTER_S)
        self._outlet.wake()

    def store_id(self) -> str:
        """What tells this store from any other; empty until it could be asked."""
        return self._store_id

    def work(self) -> Mapping[str, Work]:
        parked_s = self._options.takeover_after_s if self._settling.parking.held else 0.0
        return self._overdue.work(self._filing.roll_after_s + _TAKEN_OVER * parked_s)

    def meters(self) -> Iterable[Sample]:
        yield from meters.of_sink(self._outlet)
        yield from meters.of_files(self._output, self.counts)
        yield meters.PARKED.of(self._settling.parking.parked(), self._output)
        yield meters.PLANNED.of(len(self._files), self._output)

    def status(self) -> dict[str, object]:
        return {
            "store": self._store.where(),
            "store_id": self._store_id,
            "last_file": self.counts.last_file,
            "stopped": self._settling.parking.stopped(),
            "passed_over": self._outlet.passed()[:_PASSED_SHOWN],
        }

    # --- from the channel to files ---------------------------------------------------------

    async def _look_for_itself(self) -> None:
        last = kept_plans.last_file_id(self._channel, self._output)
        await nothing_unknown(
            self._asking, self._context, self._store, self._name, self._starts, last, self._stop
        )
        self._next_file = last + 1

    async def _settle(self) -> None:
        """After a restart: what became of each planned file?"""
        async with asyncio.TaskGroup() as files:
            for plan in kept_plans.plans(self._channel, self._output):
                self._hands.take()
                files.create_task(self._found(Publication.found(plan)))

    async def _try_alone(self) -> None:
        """What was being opened when an earlier run died: was it one of these?"""
        bad = await self._asking.until_clear(SINK, self._writing.left_behind)
        if bad:
            await self._outlet.bury(bad)
            self._writing.forget()

    def _look_at_days(self) -> None:
        self._closed = set(closed_days(self._store))

    async def _tend(self) -> None:
        """Close and forget days, now and then."""
        retention_ms = int(self._context.retention_s * 1000)
        while True:
            await asyncio.sleep(min(_TEND_S_MAX, self._context.retention_s / 4))
            days = await self._asking.until_clear(
                _DAYS, lambda: tend_days(self._store, self._name, retention_ms, self._context.world)
            )
            self._closed |= days.closed
            for day in self._settling.manifests.days() & days.forgotten:
                self._settling.manifests.forget(day)

    async def _feed(self, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._load()
            self._start_due(tasks, loop.time())
            parked_s = self._settling.parking.next_due_s(self._hands.refused())
            dues = (self._filing.next_due_s(), parked_s)
            due_s = min((due for due in dues if due is not None), default=None)
            wait_s = (
                None if due_s is None or self._hands.are_full() else max(0.0, due_s - loop.time())
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._outlet.more()

    def _start_due(self, tasks: asyncio.TaskGroup, now_s: float) -> None:
        while not self._hands.are_full():
            found = self._next_due(now_s)
            if found is None:
                return
            draft, waited = found
            # Counted here and not in the task, which begins later.
            self._hands.take()
            tasks.create_task(self._carry(draft, waited))

    def _next_due(self, now_s: float) -> tuple[FileDraft, bool] | None:
        """The next draft, and whether it was parked. Filed and parked ones by turns: neither
        waits for the end of the other's backlog."""
        self._parked_first = not self._parked_first
        held = self._hands.refused()
        if self._parked_first and (parked := self._settling.parking.take(now_s, held)):
            return parked
        # Without room the channel takes nothing more, so waiting makes no file larger. One at
        # a time: what comes meanwhile should not become a crowd of small files.
        crowded = self._outlet.is_full() or self._channel.free_bytes() == 0
        of = () if crowded else (*self._outlet.passed(), *self._channel.over())
        hasten = not self._hands.busy and bool(crowded or of)
        draft = self._filing.take(now_s, hasten=hasten, of=of, held=held)
        return (draft, False) if draft is not None else self._settling.parking.take(now_s, held)

    def _plan(self, draft: FileDraft, day: str, settled: Settlement | None) -> Plan:
        file_id, self._next_file = self._next_file, self._next_file + 1
        codec, extension = self._options.codec, self._options.extension
        name = store_names.file_name(self._writer, file_id)
        name += (f".{extension}" if extension else "") + EXTENSIONS[codec]
        directory = draft.bucket.directory
        return Plan(
            sink=self._name,
            file_id=file_id,
            day=day,
            path=f"{directory}/{name}" if directory else name,
            codec=codec,
            refs=draft.refs,
            positions=[ref.position for ref in draft.refs],
            events=sum(ref.events for ref in draft.refs),
            events_flagged=sum(ref.events for ref in draft.refs if ref.flagged),
            numbers=settled.numbers if settled is not None else {},
            start=self._start,
            format=self._options.format,
        )

    async def _load(self) -> None:
        """Look up what waits in the queue, as far as it may be held."""
        while entries := await self._outlet.take(LOAD_MAX, self._is_spread):
            look_up = partial(self._loading.look_up, entries)
            loaded = await self._asking.until_clear(SINK, look_up)
            now_s, now_ms = asyncio.get_running_loop().time(), self._context.world.now_ms()
            for bucket, ref, stored_ms in loaded.found:
                # Age by the wall clock, which may have jumped: never less than none.
                came_s = now_s - max(0, now_ms - stored_ms) / 1000
                self._filing.add(bucket, ref._replace(came_s=came_s))
            if loaded.newer:
                self._outlet.keep(loaded.newer)
            if loaded.bad:
                await self._outlet.bury(loaded.bad)

    def _is_spread(self, agent: str) -> bool:
        """Whether a first agent has batches in as many files to be as it may."""
        return self._filing.open_of[agent] >= BUCKETS_MAX

    # --- one file ------------------------------------------------------------------------------

    async def _carry(self, draft: FileDraft, waited: bool) -> None:
        """Take a draft to its end: what is flagged is claimed first, then the file is made."""
        day = store_names.open_generation(draft.bucket.day, self._closed)
        if store_names.is_later_generation(day):
            # In a generation after the first every batch counts as flagged.
            draft = replace(draft, refs=[ref._replace(flagged=True) for ref in draft.refs])
        draft = self._shortened(draft)
        flagged = [ref for ref in draft.refs if ref.flagged]
        settled: Settlement | None = None
        if flagged:
            settled = await self._settling.settle(draft.bucket, day, flagged, waited)
            ours = [r for r in draft.refs if not r.flagged or r.id in settled.numbers]
            draft = replace(draft, refs=ours)
        if draft.refs:
            publication = Publication(self._plan(draft, day, settled))
            self._files[publication.plan.file_id] = publication
            await self._publish(publication, {ref.agent for ref in draft.refs})
            self._ended(publication)
            if publication.state is State.AGAIN:
                self._again(publication, draft)
        self._hands.give()

    def _shortened(self, draft: FileDraft) -> FileDraft:
        """With no more flagged batches than can be claimed in time; the rest is filed again."""
        draft, rest = cut(draft, CLAIMS_MAX)
        for ref in rest:
            self._filing.add(draft.bucket, ref)
        if rest:
            self._outlet.wake()
        return draft

    async def _found(self, publication: Publication) -> None:
        """A file that was planned before the restart: its batches, if they are to be planned
        again, have not been looked up yet."""
        plan = publication.plan
        self._files[plan.file_id] = publication
        at = plan.positions[0]  # a plan keeps no agents
        first = await self._asking.until_clear(SINK, lambda: self._channel.entry(self._output, at))
        await self._publish(publication, () if first is None else (first.agent,))
        self._ended(publication)
        self._hands.give()

    async def _publish(self, publication: Publication, agents: Collection[str]) -> None:
        """Take one file through its calls, to either end. `agents` stored its batches first."""
        file_id = publication.plan.file_id
        refusals = 0
        while not publication.ended:
            state = publication.state
            try:
                await self._perform(publication)
            except StoreUnavailable as error:
                self._failures += 1
                self._troubles.say(file_id, f"{state.name.lower()}: {error}")
                publication.answer(CallAnswer.LOST)
                await back_off(self._failures, self._context.world.random)
            except StoreRefused as error:
                if publication.refused(str(error)):
                    refusals += 1
                    self._troubles.say(file_id, f"{state.name.lower()}: {error}")
                    await self._hands.wait_for_person(refusals, agents)

    def _ended(self, publication: Publication) -> None:
        plan = publication.plan
        del self._files[plan.file_id]
        trouble = self._troubles.end(plan.file_id)
        if publication.state is State.PUBLISHED:
            self._failures = 0
            self._count(plan, publication.size_bytes)
            self._troubles.say(_FILE_BEFORE, "")
        else:
            self.counts.voided += 1
            _log.warning("file %s is not to be: its batches go into another", plan.name)
            self._troubles.say(_FILE_BEFORE, trouble)  # until a file is published

    def _count(self, plan: Plan, size_bytes: int) -> None:
        """How old the events are in a file that an earlier run had planned is not known."""
        counts, now_ms = self._outlet.counts, self._context.world.now_ms()
        self.counts.published(plan)
        counts.delivered(plan.events, size_bytes, len(plan.positions))
        for ref in plan.refs:
            counts.aged(ref.events, ref.begun_ms, now_ms)

    def _again(self, publication: Publication, draft: FileDraft) -> None:
        """What was to be in a file that was voided: other sinks' batches are parked, damaged ones
        are dead, the rest is as it was."""
        if publication.closed:
            self._closed.add(publication.plan.day)
        dead = {one.position for one in publication.bad}
        for ref in draft.refs:
            if ref.position in publication.yielded:
                self._settling.park(draft.bucket, [(ref, publication.yielded[ref.position])])
            elif ref.position in publication.stopped:
                self._settling.halt(draft.bucket, [(ref, publication.stopped[ref.position])])
            elif ref.position not in dead:
                self._filing.add(draft.bucket, ref)

    # --- calls -------------------------------------------------------------------------------

    async def _perform(self, publication: Publication) -> None:
        """One call, and its answer."""
        call = publication.call(self._context.world.number())
        match call:
            case Write():
                await self._writing.write(publication, call)
            case KeepPlan(plan):
                await self._channel.submit(kept_plans.kept(self._output, plan))
                publication.answer(CallAnswer.DONE)
            case Release(plan):
                ended = kept_plans.forgotten(self._output, plan)
                await self._outlet.release(plan.positions, ended)
                publication.answer(CallAnswer.DONE)
            case Abandon(plan, bad, flagged):
                await self._outlet.bury(bad, kept_plans.forgotten(self._output, plan, flagged))
                publication.answer(CallAnswer.DONE)
            case _:
                await perform(publication, call, self._store, self._workers)
