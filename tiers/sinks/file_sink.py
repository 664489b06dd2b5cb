"""A sink that publishes files in a store. It performs what core/filing and core/commit decide.

    channel --refs--> Filing --draft--> Publication --calls--> store, channel
       ^                 ^                   |
       |                 +------ again ------+
       +------------------ release ----------+

The loop reads references of what waits in the channel and starts a task for each file that is
due, `writers` at a time; a task carries one file through its calls. Store calls block and run in
threads. Cancelling is a crash as far as the files are concerned: what is under way may yet be
carried out, and the next run asks what became of each planned file.
"""

import asyncio
import contextlib
import logging
import random
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final, TypeVar

from tiers.channel.change import Change
from tiers.core import commit, layout, paths
from tiers.core.batch import Envelope
from tiers.core.codecs import EXTENSIONS
from tiers.core.commit import Answer, Plan, Publication, State
from tiers.core.filing import Bucket, Draft, Filing, Ref
from tiers.errors import BatchError, ChannelUnavailable, StoreRefused, StoreUnavailable
from tiers.sinks.body import Body
from tiers.sinks.file_options import FileOptions
from tiers.sinks.sink import SinkContext, SinkOptions
from tiers.sinks.store_id import agree_on_store_id
from tiers.sinks.stores.store import Moved, Store
from tiers.sinks.workers import Workers

REFS_MAX: Final = 65536  # batches known in memory; more are looked up when these are published
_LOAD_MAX: Final = 1000  # entries looked up in one go
_DRAIN_AFTER_S: Final = 0.5  # while draining, a batch waits for others no longer than this
_REFUSED_MAX: Final = 64  # files that may wait for a person before no further one is begun
_STOP_S: Final = 5.0  # how long a stopping sink waits for store calls under way
_NO_FILE: Final = 0  # in place of a file id: trouble of the sink as such
_FILE_BEFORE: Final = -1  # trouble of a file that was given up, until one is published
_ANSWERS: Final = {
    Moved.DONE: Answer.DONE,
    Moved.SOURCE_GONE: Answer.SOURCE_GONE,
    Moved.TARGET_THERE: Answer.TARGET_THERE,
    Moved.NO_PARENT: Answer.NO_PARENT,
}
_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(slots=True)
class _Counts:
    files: int = 0
    batches: int = 0
    events: int = 0
    flagged: int = 0
    size_bytes: int = 0
    voided: int = 0
    dead: int = 0
    last_file: str = ""


class FileSink:
    """See `Sink`. One store call per file task at a time, in one of `writers` + 1 threads."""

    Options: ClassVar[type[SinkOptions]] = FileOptions

    def __init__(self, options: FileOptions, context: SinkContext, store: Store) -> None:
        self._options = options
        self._context = context
        self._channel = context.channel
        self._output = context.output
        self._store = store
        self._store_id = ""
        self._level = options.level_of(context.level)
        self._name = layout.sink_name(context.agent, context.output, self._channel.channel_id)
        self._filing = Filing(options.roll_size_bytes, options.roll_after_s)
        self._workers = Workers(f"store-{context.output}", options.writers + 1)
        self._stop = threading.Event()
        self._wake = asyncio.Event()
        self._files: dict[int, Publication] = {}
        self._busy = 0  # of these; the others wait after a refusal
        self._under_way = 0  # refs in self._files
        self._after = 0  # position up to which the queue has been looked up
        self._next_file = 1
        self._failures = 0  # in a row, of all files: only a published file ends the row
        self._troubles: dict[int, str] = {}  # by file id, or one of those below
        self._said = ""
        self._draining = False
        self._counts = _Counts()

    async def run(self) -> None:
        self._channel.subscribe(self._wake.set)
        try:
            # What an earlier run submitted is on disk before its plans are read: a file id that
            # it used must not be used again.
            await asyncio.shield(self._channel.submit(Change()))
            self._store_id = await self._until_clear(
                lambda: agree_on_store_id(self._store, self._stop)
            )
            await self._settle()
            async with asyncio.TaskGroup() as files:
                await self._feed(files)
        finally:
            self._stop.set()
            closing = asyncio.create_task(asyncio.to_thread(self._workers.close, _STOP_S))
            if await asyncio.shield(closing):
                self._store.close()

    def drain(self) -> None:
        self._draining = True
        self._filing.roll_after_s = min(self._filing.roll_after_s, _DRAIN_AFTER_S)
        self._wake.set()

    def store_id(self) -> str:
        """What tells this store from any other; empty until it could be asked."""
        return self._store_id

    def status(self) -> dict[str, object]:
        counts = self._counts
        return {
            "store": self._store.where(),
            "store_id": self._store_id,
            "files": counts.files,
            "batches": counts.batches,
            "events_out": counts.events,
            "bytes_out": counts.size_bytes,
            "flagged": counts.flagged,
            "planned": len(self._files),
            "voided": counts.voided,
            "dead": counts.dead,
            "refs": self._filing.held + self._under_way,
            "last_file": counts.last_file,
        }

    # --- from the channel to files ---------------------------------------------------------

    async def _settle(self) -> None:
        """After a restart: what became of each planned file?"""
        output = self._output.encode()
        counter = self._channel.records(_counter_key(self._output)).get(_counter_key(self._output))
        self._next_file = int.from_bytes(counter, "big") + 1 if counter else 1
        plans = self._channel.records(b"plan/" + output + b"/")
        async with asyncio.TaskGroup() as files:
            for key, data in plans.items():
                plan = commit.decode_plan(int(key.rpartition(b"/")[2]), data)
                self._begin(files, Publication.found(plan), None)

    async def _feed(self, files: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            await self._load()
            self._start_due(files, loop.time())
            due_s = self._filing.next_due_s()
            wait_s = None if due_s is None or self._full() else max(0.0, due_s - loop.time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    def _start_due(self, files: asyncio.TaskGroup, now_s: float) -> None:
        while not self._full():
            # Without room the channel takes nothing more, so waiting makes no file larger. One at
            # a time: what comes meanwhile should not become a crowd of small files.
            crowded = self._held() >= REFS_MAX or self._channel.free_bytes() == 0
            draft = self._filing.take(now_s, hasten=crowded and not self._busy)
            if draft is None:
                return
            publication = Publication(self._plan(draft))
            self._under_way += len(draft.refs)
            self._begin(files, publication, draft)

    def _full(self) -> bool:
        """Whether no further file may be begun for now."""
        writers = self._options.writers
        return self._busy >= writers or len(self._files) >= writers + _REFUSED_MAX

    def _held(self) -> int:
        return self._filing.held + self._under_way

    def _plan(self, draft: Draft) -> Plan:
        file_id, self._next_file = self._next_file, self._next_file + 1
        codec, extension = self._options.codec, self._options.extension
        name = layout.file_name(self._name, file_id)
        name += (f".{extension}" if extension else "") + EXTENSIONS[codec]
        directory = draft.bucket.directory
        return Plan(
            sink=self._name,
            file_id=file_id,
            day=draft.bucket.day,
            path=f"{directory}/{name}" if directory else name,
            codec=codec,
            refs=draft.refs,
            positions=[ref.position for ref in draft.refs],
            events=sum(ref.events for ref in draft.refs),
            events_flagged=sum(ref.events for ref in draft.refs if ref.flagged),
        )

    async def _load(self) -> None:
        """Look up what waits in the queue, as far as it may be held."""
        while self._held() < REFS_MAX:
            found, dead, last = await self._until_clear(self._look_up)
            if not last:
                return
            self._after = last
            now_s, now_ms = asyncio.get_running_loop().time(), self._context.now_ms()
            for bucket, ref, stored_ms in found:
                # Age by the wall clock, which may have jumped: never less than none.
                came_s = now_s - max(0, now_ms - stored_ms) / 1000
                self._filing.add(bucket, ref._replace(came_s=came_s))
            if dead:
                await self._bury(dead)

    def _look_up(self) -> tuple[list[tuple[Bucket, Ref, int]], list[tuple[int, str]], int]:
        """The next entries: (bucket, ref, stored_ms) of the good, (position, reason) of the bad,
        and the last position; 0 when there are none. In a worker thread."""
        found: list[tuple[Bucket, Ref, int]] = []
        dead: list[tuple[int, str]] = []
        last = 0
        for entry in self._channel.entries(self._output, self._after, _LOAD_MAX):
            last = entry.position
            try:
                envelope = self._channel.envelope(entry.position)
                bucket = self._bucket(envelope)
            except BatchError as error:
                dead.append((entry.position, str(error)))
                continue
            same = envelope.codec == self._options.codec
            plain = self._options.codec == "none"
            size = envelope.size if plain and not same else entry.size
            ref = Ref(entry.position, envelope.id, envelope.count, entry.flagged, size, 0.0)
            found.append((bucket, ref, entry.stored_ms))
        return found, dead, last

    def _bucket(self, envelope: Envelope) -> Bucket:
        if envelope.framing != "lines":
            raise BatchError(f"framing {envelope.framing!r}: this sink writes lines only")
        directory = paths.render(self._options.path, envelope.headers, envelope.time)
        return Bucket(paths.day_name(envelope.sealed), directory)

    async def _bury(self, dead: list[tuple[int, str]]) -> None:
        self._counts.dead += len(dead)
        for position, reason in dead:
            _log.warning("batch at %d to the dead letters: %s", position, reason)
        change = Change(dead=[(self._output, position, reason) for position, reason in dead])
        await asyncio.shield(self._channel.submit(change))

    # --- one file ------------------------------------------------------------------------------

    def _begin(
        self, files: asyncio.TaskGroup, publication: Publication, draft: Draft | None
    ) -> None:
        """`draft` is None for a file found after a restart: its batches, if they are to be planned
        again, have not been looked up yet."""
        # Counted here and not in the task, which begins later.
        self._files[publication.plan.file_id] = publication
        self._busy += 1
        files.create_task(self._carry(publication, draft))

    async def _carry(self, publication: Publication, draft: Draft | None) -> None:
        """Take one file through its calls, to either end."""
        file_id = publication.plan.file_id
        refusals = 0
        while not publication.ended:
            state = publication.state
            try:
                await self._perform(publication)
            except StoreUnavailable as error:
                self._failures += 1
                self._say(f"{state.name.lower()}: {error}", file_id)
                publication.answer(Answer.LOST)
                await self._back_off(self._failures)
            except StoreRefused as error:
                refusals += 1
                self._say(f"{state.name.lower()}: {error}", file_id)
                publication.answer(Answer.REFUSED)
                # This takes until a person has acted. The directory of one service that may not
                # be written must not hold up the others.
                self._busy -= 1
                self._wake.set()
                await self._back_off(refusals, refused=True)
                self._busy += 1
        self._busy -= 1
        del self._files[file_id]
        self._ended(publication, draft)
        self._wake.set()

    def _ended(self, publication: Publication, draft: Draft | None) -> None:
        plan = publication.plan
        trouble = self._troubles.pop(plan.file_id, "")
        if publication.state is State.PUBLISHED:
            self._failures = 0
            self._count(publication)
            self._say("", _FILE_BEFORE)
        else:
            self._counts.voided += 1
            _log.warning("file %s is not to be: its batches go into another", plan.name)
            self._say(trouble, _FILE_BEFORE)  # until a file is published
        if draft is None:
            return
        self._under_way -= len(draft.refs)
        if publication.state is State.AGAIN:
            gone = {position for position, _ in publication.dead}
            for ref in draft.refs:
                if ref.position not in gone:
                    self._filing.add(draft.bucket, ref)

    async def _perform(self, publication: Publication) -> None:
        """One call, and its answer."""
        call = publication.call(secrets.randbits(64))
        store, run = self._store, self._workers.run
        match call:
            case commit.Write():
                await self._write(publication, call)
            case commit.WriteSmall(path, content):
                await run(lambda: store.write(path, [content]))
                publication.answer(Answer.DONE)
            case commit.Move(source, target):
                publication.answer(_ANSWERS[await run(lambda: store.move(source, target))])
            case commit.Replace(source, target):
                publication.answer(_ANSWERS[await run(lambda: store.replace(source, target))])
            case commit.MakeParents(path):
                await run(lambda: store.make_parents(path))
                publication.answer(Answer.DONE)
            case commit.Ask(path):
                there = await run(lambda: store.length(path)) is not None
                publication.answer(Answer.THERE if there else Answer.ABSENT)
            case _:
                await asyncio.shield(self._channel.submit(self._change(call)))
                publication.answer(Answer.DONE)

    async def _write(self, publication: Publication, call: commit.Write) -> None:
        body = Body(self._channel, call.plan, self._level, self._stop)
        try:
            size_bytes = await self._workers.run(lambda: self._store.write(call.path, body))
        except (BatchError, StoreUnavailable, StoreRefused):
            if body.damaged is None:
                raise
        if body.damaged is None:
            publication.written(size_bytes)
            return
        position, reason = body.damaged
        self._counts.dead += 1
        _log.warning("batch at %d to the dead letters: %s", position, reason)
        publication.damaged(position, reason)

    def _change(self, call: commit.KeepPlan | commit.Release | commit.Abandon) -> Change:
        output, plan = self._output, call.plan
        key = f"plan/{output}/{plan.file_id:010d}".encode()
        match call:
            case commit.KeepPlan():
                counter = plan.file_id.to_bytes(8, "big")
                records = {key: commit.encode_plan(plan), _counter_key(output): counter}
                return Change(records=records)
            case commit.Release():
                return Change(records={key: None}, releases=[(output, p) for p in plan.positions])
            case commit.Abandon(_, dead):
                letters = [(output, position, reason) for position, reason in dead]
                return Change(records={key: None}, dead=letters)

    def _count(self, publication: Publication) -> None:
        plan, counts = publication.plan, self._counts
        counts.files += 1
        counts.batches += len(plan.positions)
        counts.events += plan.events
        counts.flagged += plan.events_flagged
        counts.size_bytes += publication.size_bytes
        counts.last_file = plan.path

    # --- trouble -------------------------------------------------------------------------------

    async def _until_clear(self, call: Callable[[], T]) -> T:
        failures = 0
        while True:
            try:
                result = await self._workers.run(call)
            except (StoreUnavailable, StoreRefused, ChannelUnavailable) as error:
                failures += 1
                self._say(str(error), _NO_FILE)
                await self._back_off(failures, refused=isinstance(error, StoreRefused))
            else:
                self._say("", _NO_FILE)
                return result

    async def _back_off(self, failures: int, *, refused: bool = False) -> None:
        # Random, so that sinks do not come back all at once.
        await asyncio.sleep(commit.backoff_s(failures, refused, random.random()))

    def _say(self, text: str, file_id: int) -> None:
        """Shows the newest trouble that there is; "" ends the one of that file."""
        self._troubles.pop(file_id, None)
        if text:
            self._troubles[file_id] = text
        newest = next(reversed(self._troubles.values()), "")
        said = f"{self._store.where()}: {newest}" if newest else ""
        if said != self._said:
            self._said = said
            self._context.trouble(said)


def _counter_key(output: str) -> bytes:
    return f"file/{output}".encode()
