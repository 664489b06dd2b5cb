"""Where sources hand in events: cut into batches, compressed in threads, sealed, stored.

    put -> cutter -> compress, seal (thread) -> next seq -> channel.submit -> receipts

One intake per source keeps the order of that source: cut sets are submitted in the order in which
they were cut, each with its positions in one change, so positions on disk never run ahead of
events, nor events ahead of them. Sequence numbers are given in the loop step that submits, so they
have no gaps whatever dies when.
"""

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import msgpack

from tiers.contracts import Channel, Clock
from tiers.core.batch import (
    TIME_MS_MAX,
    BatchId,
    Buffer,
    Envelope,
    Hop,
    Unnumbered,
    check_headers,
)
from tiers.core.change import Change, Put
from tiers.core.codecs import PART_BYTES, compressor, joined
from tiers.core.cutting import Cut, CutSet, Cutter, CuttingRules
from tiers.errors import BatchError, TiersError
from tiers.sources.source import SourceOptions
from tiers.world import CLOCK

_NEWLINE = 0x0A
_UNDER_WAY_BYTES_MIN = 8 << 20  # of one source there may be so much, however small its batches
_UNDER_WAY_BATCHES = 3  # as large as may be: two that are not on disk yet, and the open one
_POSITIONS = b"position/"


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
        if self.batches is None:
            return None
        return (
            TiersError("the agent stops") if self.batches.cancelled() else self.batches.exception()
        )


class Press:
    """Makes batches of what was cut, in a few threads, with one compressor each; shared by an
    agent's sources."""

    def __init__(self, codec: str, level: int, threads: int = 2) -> None:
        self.codec = codec
        self._level = level
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="press")
        self._local = threading.local()
        self._closed = False

    def press(
        self, cuts: Sequence[Cut], origin: bytes, sealed_ms: int
    ) -> "asyncio.Future[list[Unnumbered]]":
        """A batch of each, sealed but for its number; cancelled once this is closed."""
        loop = asyncio.get_running_loop()
        if self._closed:
            never: asyncio.Future[list[Unnumbered]] = loop.create_future()
            never.cancel()
            return never
        return loop.run_in_executor(self._pool, self._press_all, cuts, origin, sealed_ms)

    def _press_all(self, cuts: Sequence[Cut], origin: bytes, sealed_ms: int) -> list[Unnumbered]:
        return [self._press(cut, origin, sealed_ms) for cut in cuts]

    def _press(self, cut: Cut, origin: bytes, sealed_ms: int) -> Unnumbered:
        compress: Callable[[Buffer], bytes] | None = getattr(self._local, "compress", None)
        if compress is None:
            compress = self._local.compress = compressor(self.codec, self._level)
        envelope = Envelope(
            origin=origin,
            seq=0,
            count=cut.count,
            size=cut.size,
            headers=cut.headers,
            sealed=sealed_ms,
            time=cut.bucket_ms,
            framing="lines",
            codec=self.codec,
        )
        return Unnumbered(envelope, b"".join(map(compress, joined(cut.blocks, PART_BYTES))))

    def close(self) -> None:
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)


class SourceIntake:
    """The `Intake` of one source (see contracts.py)."""

    def __init__(
        self,
        source: str,
        agent: str,
        channel: Channel,
        outputs: Sequence[str],
        press: Press,
        rules: CuttingRules,
        event_size_max: int,
        retention_s: float,
        written: Sequence[str] = (),
        clock: Clock = CLOCK,
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
        self.events = 0  # on disk
        self.bytes = 0  # on disk, raw
        self._agent = agent
        self._clock = clock
        self._channel = channel
        self._outputs = tuple(outputs)
        self._press = press
        self._cutter = Cutter(rules)
        self._headers: Mapping[str, str] = {}  # those that came last: good ones
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
        self,
        block: Buffer,
        count: int,
        headers: Mapping[str, str],
        *,
        time_ms: int | None = None,
        positions: Mapping[bytes, bytes | None] | None = None,
    ) -> Awaitable[None]:
        """See `Intake.put`. Raises BatchError for what no receiver or sink would take."""
        if len(block) and (count < 1 or block[-1] != _NEWLINE):
            raise BatchError("a block is newline-terminated events, and says how many")
        if time_ms is not None and not 0 <= time_ms <= TIME_MS_MAX:
            raise BatchError(f"no calendar has the time {time_ms} ms after 1970")
        if headers != self._headers:
            # Here and not when they are sealed: a number given out by then would be missing.
            check_headers(headers)
            self._headers = dict(headers)
        while self._failure is None and not self.has_room():
            if self._channel.free_bytes() <= 0:
                await self._channel.wait_room()
            else:
                self._changed.clear()
                await self._changed.wait()
        if self._failure is not None:
            raise self._failure
        receipt: asyncio.Future[None] = self._loop.create_future()
        if time_ms is None:
            time_ms = self._clock.now_ms()
        self._under_way += len(block)
        sets = self._cutter.add(
            block,
            count,
            headers,
            time_ms,
            positions or {},
            self._loop.time(),
            under_way=self._sets_under_way,
        )
        # Of what was cut, only the last may hold this block: when nothing is open after it.
        last = sets.pop() if sets and not self._cutter.is_open() else None
        for cuts in sets:
            self._start(cuts)
        self._receipts.append(receipt)
        if last is not None:
            self._start(last)
        self._flow()
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

    # -- for the agent -----------------------------------------------------------------------

    @property
    def under_way(self) -> int:
        """Raw bytes between `put` and the disk."""
        return self._under_way

    def go_on(self, before: "SourceIntake") -> None:
        """Counts on from the intake of this source's life before."""
        self.counters, self.events, self.bytes = before.counters, before.events, before.bytes

    async def flush(self) -> None:
        """Everything that was put is on disk. Raises what kept it from there."""
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

    def _fail(self, error: BaseException, failed: _Job) -> None:
        """This source goes no further: positions of what follows would skip what failed."""
        if self._failure is None:
            self._failure = error
        for receipt in chain(self._receipts, *(job.receipts for job in (failed, *self._jobs))):
            if not receipt.done():
                receipt.set_exception(self._failure)
                receipt.exception()  # whoever waits sees it; nobody need wait
        self._jobs.clear()
        self._changed.set()

    def _change(self, job: _Job) -> Change:
        positions = job.cuts.positions
        records = {self._prefix + key: value for key, value in positions.items()}
        if job.batches is None:
            return Change(records=records)
        batches = job.batches.result()
        puts = [self._put(batch, b"") for batch in batches[:-1]]
        # With the last one, which mostly leaves last.
        note = msgpack.packb([self._prefix, positions]) if positions else b""
        return Change(puts=[*puts, self._put(batches[-1], note)], records=records)

    def _put(self, batch: Unnumbered, note: bytes) -> Put:
        envelope, seq = batch.envelope, self._channel.next_seq()
        return Put(
            BatchId(envelope.origin, seq),
            batch.seal(seq),
            envelope.count,
            self._outputs,
            hops=(Hop(self._agent, envelope.sealed),),
            note=note,
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

    def close(self) -> None:
        """No timer outlives the source."""
        if self._timer is not None:
            self._timer.cancel()
