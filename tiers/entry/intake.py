"""Where sources hand in events: cut into batches, compressed in threads, sealed, stored.

    put -> interceptors (thread) -> cutter -> compress, seal (thread) -> next seq
        -> channel.submit -> receipts

One intake per source keeps the order of that source: cut sets are submitted in the order in which
they were cut, each with its positions in one change, so positions on disk never run ahead of
events, nor events ahead of them. Sequence numbers are given in the loop step that submits, so they
have no gaps whatever dies when.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any

import msgpack

from tiers.contracts import Channel, Clock
from tiers.core.batch import BatchId, Hop, Unnumbered
from tiers.core.block import Block, HeaderCheck
from tiers.core.change import Change, Put
from tiers.core.entry.cutting import CutSet, Cutter, CuttingRules
from tiers.core.entry.routes import Route
from tiers.entry.press import Press
from tiers.errors import TiersError
from tiers.host.clock import CLOCK
from tiers.interceptors.chain import Chain, Passed
from tiers.sources.source import SourceOptions

_UNDER_WAY_BYTES_MIN = 8 << 20  # of one source there may be so much, however small its batches
_UNDER_WAY_BATCHES = 3  # as large as may be: two that are not on disk yet, and the open one
_POSITIONS = b"position/"
_FAILED_S = 60.0  # so long an interceptor that has failed is said to


def prefix_of(source: str) -> bytes:
    """Of the records that are positions of a source."""
    return _POSITIONS + source.encode() + b"/"


async def take_over(channel: Channel, sources: Iterable[SourceOptions]) -> None:
    """Positions belong to files, not to names of sources: those of a source that is configured no
    more, or does not read that file any more, go to the first that does and has none of it. Before
    any source begins."""
    by_prefix = {prefix_of(options.name): options for options in sources}
    stored = channel.records(_POSITIONS)
    had: set[tuple[bytes, str]] = set()  # source, subject
    left: list[bytes] = []
    for record, value in stored.items():
        prefix = next(filter(record.startswith, by_prefix), b"")
        subject = by_prefix[prefix].subject(value) if prefix else ""
        if subject:
            had.add((prefix, subject))
        else:
            left.append(record)
    moved: dict[bytes, bytes | None] = {}
    for record in left:
        value, key = stored[record], record.removeprefix(_POSITIONS).partition(b"/")[2]
        for prefix, options in by_prefix.items():
            subject = options.subject(value)
            if subject and (prefix, subject) not in had:
                moved |= {record: None, prefix + key: value}
                break
    if moved:
        await channel.submit(Change(records=moved))


@dataclass(slots=True)
class _Job:
    """A cut set on its way: compressed when `batches` is done."""

    cuts: CutSet
    batches: "asyncio.Future[list[Unnumbered]] | None"  # None: there are positions alone
    receipts: list["asyncio.Future[None]"] = field(default_factory=list)

    def is_pressed(self) -> bool:
        return self.batches is None or self.batches.done()

    def error(self) -> BaseException | None:
        """What went wrong with its compression."""
        return None if self.batches is None else _error_of(self.batches)


@dataclass(slots=True)
class _Asked:
    """What was put and has not come through the interceptors yet."""

    block: Block
    positions: Mapping[bytes, bytes | None]
    receipt: "asyncio.Future[None]"


class SourceIntake:
    """The `Intake` of one source (see contracts)."""

    def __init__(
        self,
        source: str,
        agent: str,
        channel: Channel,
        route: Route,
        press: Press,
        rules: CuttingRules,
        event_size_max: int,
        retention_s: float,
        written: Sequence[str] = (),
        clock: Clock = CLOCK,
        chain: Chain | None = None,
    ) -> None:
        self.block_size_max = rules.size_bytes
        self.event_size_max = event_size_max
        self.retention_s = retention_s
        self.written = written
        self._prefix = prefix_of(source)
        found = channel.records(self._prefix)
        self.positions: Mapping[bytes, bytes] = {
            key[len(self._prefix) :]: value for key, value in found.items()
        }
        self.counters: Counter[str] = Counter()
        self.error = ""
        self.remarked: tuple[str, bool] | None = None
        self.route = route  # of what is stored from now on
        self.events = 0  # on disk
        self.bytes = 0  # on disk, raw
        self._agent = agent
        self._clock = clock
        self._channel = channel
        self._press = press
        self._cutter = Cutter(rules)
        self._headers = HeaderCheck()
        self._chain = chain
        self._asked: deque[_Asked] = deque()
        self._intercepting = False
        self._failures: dict[str, tuple[str, float]] = {}  # of interceptors, the last of each
        self._jobs: deque[_Job] = deque()
        self._receipts: list[asyncio.Future[None]] = []  # of the open set
        self._under_way = 0  # raw bytes between `put` and the disk
        self._under_way_max = max(_UNDER_WAY_BYTES_MIN, _UNDER_WAY_BATCHES * rules.grown_bytes_max)
        self._sets_under_way = 0
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._failure: BaseException | None = None

    # -- for the source ----------------------------------------------------------------------

    async def put(
        self, block: Block, positions: Mapping[bytes, bytes | None] | None = None
    ) -> Awaitable[None]:
        """See `Intake.put`."""
        block.check()
        # Here and not when they are sealed: a number given out by then would be missing.
        self._headers.check(block.headers)
        while self._failure is None and not self.has_room():
            if self._channel.free_bytes() <= 0:
                await self._channel.wait_room()
            else:
                self._changed.clear()
                await self._changed.wait()
        if self._failure is not None:
            raise self._failure
        receipt: asyncio.Future[None] = self._loop.create_future()
        if block.time_ms is None:
            block = replace(block, time_ms=self._clock.now_ms())
        self._under_way += len(block.data)
        if not self._chain and not self._asked:
            self._add([block], positions or {}, receipt)
        else:
            self._asked.append(_Asked(block, positions or {}, receipt))
            self._intercept()
        return receipt

    def has_room(self) -> bool:
        # What is under way is not all known to the channel yet.
        return self._under_way < min(self._under_way_max, self._channel.free_bytes())

    def count(self, counter: str, by: int = 1) -> None:
        self.counters[counter] += by

    def trouble(self, text: str) -> None:
        self.error = text

    def remark(self, text: str, at_risk: bool = False) -> None:
        self.remarked = (text, at_risk) if text else None

    # -- interceptors and cutter ---------------------------------------------------------------

    def _intercept(self) -> None:
        """All that waits goes through the interceptors together, in order."""
        if self._intercepting or not self._asked or self._failure is not None:
            return
        assert self._chain is not None, "what is asked for began with one"
        self._intercepting = True
        asked = list(self._asked)
        passed = self._press.intercept(self._chain, [each.block for each in asked])
        passed.add_done_callback(partial(self._intercepted, asked))

    def _intercepted(self, asked: Sequence[_Asked], done: "asyncio.Future[list[Passed]]") -> None:
        self._intercepting = False
        if self._failure is not None:
            return
        error = _error_of(done)
        if error is not None:
            self._fail(error)
            return
        for each, passed in zip(asked, done.result(), strict=True):
            self._asked.popleft()
            self._note(passed)
            self._under_way += sum(len(block.data) for block in passed.blocks)
            self._under_way -= len(each.block.data)
            self._add(passed.blocks, each.positions, each.receipt)
        self._changed.set()
        self._intercept()

    def _note(self, passed: Passed) -> None:
        self.counters.update(passed.counts)
        for name, said in passed.failures.items():
            self._failures[name] = said, self._clock.now_s()

    def _add(
        self,
        blocks: Sequence[Block],
        positions: Mapping[bytes, bytes | None],
        receipt: "asyncio.Future[None]",
    ) -> None:
        sets = self._cutter.add(
            blocks, positions, self._loop.time(), under_way=self._sets_under_way
        )
        # Of what was cut, only the last may hold these blocks: when nothing is open after them.
        last = sets.pop() if sets and not self._cutter.is_open() else None
        for cuts in sets:
            self._start(cuts)
        self._receipts.append(receipt)
        if last is not None:
            self._start(last)
        self._flow()

    # -- for the agent -----------------------------------------------------------------------

    @property
    def under_way(self) -> int:
        """Raw bytes between `put` and the disk."""
        return self._under_way

    def failing(self) -> dict[str, str]:
        """Interceptors that have failed lately, and what each said last."""
        since_s = self._clock.now_s() - _FAILED_S
        return {name: said for name, (said, at_s) in self._failures.items() if at_s > since_s}

    def go_on(self, before: "SourceIntake") -> None:
        """Counts on from the intake of this source's life before."""
        self.counters, self.events, self.bytes = before.counters, before.events, before.bytes

    def intercept_by(self, chain: Chain) -> None:
        """What has not come to the interceptors yet comes through these, in its order."""
        self._chain = chain

    def end(self) -> None:
        """Nothing of it is submitted from now on, and no timer outlives the source."""
        if self._timer is not None:
            self._timer.cancel()
        if self._failure is None:
            self._fail(TiersError("the source was ended"))

    async def flush(self) -> None:
        """Everything that was put is on disk. Raises what kept it from there."""
        while self._asked and self._failure is None:
            self._changed.clear()
            await self._changed.wait()
        cuts = self._cutter.flush(self._loop.time())
        if cuts is not None and self._failure is None:
            self._start(cuts)
        while self._sets_under_way and self._failure is None:
            self._changed.clear()
            await self._changed.wait()
        if self._failure is not None:
            raise self._failure

    def _flow(self) -> None:
        """Cut what is due, or come back when it will be."""
        if self._failure is not None:
            return
        now = self._loop.time()
        cuts = self._cutter.due(now, under_way=self._sets_under_way)
        if cuts is not None:
            self._start(cuts)
        due = self._cutter.due_s()
        if due is not None and not self._sets_under_way and self._timer is None:
            self._timer = self._loop.call_at(due, self._timed)

    def _timed(self) -> None:
        self._timer = None
        self._flow()

    def _start(self, cuts: CutSet) -> None:
        batches = None
        if cuts.cuts:
            batches = self._press.press(cuts.cuts, self._channel.origin, self._clock.now_ms())
        job = _Job(cuts, batches, self._receipts)
        self._receipts = []
        self._sets_under_way += 1
        self._jobs.append(job)
        if job.batches is None:
            self._submit_ready()
        else:
            job.batches.add_done_callback(self._submit_ready)

    def _submit_ready(self, _: object = None) -> None:
        """Submit from the front what is compressed: order is kept."""
        while self._jobs and self._jobs[0].is_pressed():
            job = self._jobs.popleft()
            error = job.error()
            if error is not None:
                self._fail(error, job)
                return
            done = self._channel.submit(self._change(job))
            done.add_done_callback(partial(self._stored, job))

    def _fail(self, error: BaseException, *failed: _Job) -> None:
        """This source goes no further: positions of what follows would skip what failed."""
        if self._failure is None:
            self._failure = error
        asked = (each.receipt for each in self._asked)
        jobs = (job.receipts for job in (*failed, *self._jobs))
        for receipt in chain(self._receipts, *jobs, asked):
            if not receipt.done():
                receipt.set_exception(self._failure)
                receipt.exception()  # whoever waits sees it; nobody need wait
        self._jobs.clear()
        self._asked.clear()
        self._changed.set()

    def _change(self, job: _Job) -> Change:
        positions = job.cuts.positions
        records = {self._prefix + key: value for key, value in positions.items()}
        if job.batches is None:
            return Change(records=records)
        batches = job.batches.result()
        # With the last one, which mostly leaves last.
        note = msgpack.packb([self._prefix, positions]) if positions else b""
        notes = [b""] * (len(batches) - 1) + [note]
        puts = [
            self._put(batch, cut.dead, note)
            for batch, cut, note in zip(batches, job.cuts.cuts, notes, strict=True)
        ]
        return Change(puts=puts, records=records)

    def _put(self, batch: Unnumbered, dead: str, note: bytes) -> Put:
        envelope, seq = batch.envelope, self._channel.next_seq()
        routed = self.route.of(envelope.headers)
        return Put(
            BatchId(envelope.origin, seq),
            batch.seal(seq),
            envelope.count,
            routed.outputs,
            hops=(Hop(self._agent, envelope.sealed),),
            note=note,
            dead=dead or routed.dead,
            skipped=routed.skipped,
        )

    def _stored(self, job: _Job, future: "asyncio.Future[tuple[int, ...]]") -> None:
        error = future.exception()
        if error is not None:
            self._fail(error, job)
            return
        for receipt in job.receipts:
            if not receipt.done():
                receipt.set_result(None)
        self.events += job.cuts.count
        self.bytes += job.cuts.size
        self._under_way -= job.cuts.size
        self._sets_under_way -= 1
        self._changed.set()
        self._flow()


def _error_of(done: "asyncio.Future[Any]") -> BaseException | None:
    return TiersError("the agent stops") if done.cancelled() else done.exception()
