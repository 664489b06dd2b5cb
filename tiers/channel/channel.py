"""An agent's channel: batches on disk, a queue per output, and what must be true together.

A `Channel` lives on one asyncio loop. `submit` takes a change and returns a future that is done
when the change is on disk (fsynced). Changes are committed in the order of submission, several
to one fsync, by a writer thread; nothing else writes. Reading methods may be called from any
thread: each is one short read transaction of what was committed last.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

from tiers.channel import meters
from tiers.channel.accounts import dead_bytes_max
from tiers.channel.capacity import Capacity
from tiers.channel.disk import LMDB, Disk, lock_soon
from tiers.channel.headroom import pending_bytes
from tiers.channel.layout import RECORD_KEY_BYTES_MAX, ChannelState
from tiers.channel.living import ORIGIN, RENEW, ChannelLife, Origin, origins_of
from tiers.channel.opening import (
    Opened,
    begin_run,
    end_run,
    mark_damaged,
    open_directory,
)
from tiers.channel.reader import Reader
from tiers.channel.route_counts import RouteCounts
from tiers.channel.writer import Submitted, Writer, WriterReport
from tiers.contracts import Clock
from tiers.core.batch import BatchId
from tiers.core.change import NO_OUTPUT, Change, ChannelLimits, ChannelStats, QueueStats
from tiers.core.meters import Histogram, Sample
from tiers.errors import ChannelDamaged, ChannelUnavailable
from tiers.host.clock import CLOCK

CLOSE_WITHIN_S: Final = 10.0  # how long `close` waits for commits that do not succeed
_FADE_EVERY_S: Final = 60.0


class Channel(Reader):
    """See the module. Made by `Channel.open`, ended by `close`."""

    begun_ms: int  # when it was made
    channel_id: bytes  # 16 random bytes, made with the channel; others after a renewal
    origin: bytes  # 16 random bytes, drawn at this start: batches that begin here have it
    life: ChannelLife
    was_cut_off: bool = False  # the run before this one had no end of its own

    @classmethod
    async def open(
        cls,
        directory: Path,
        limits: ChannelLimits,
        outputs: Sequence[str],
        clock: Clock = CLOCK,
        disk: Disk = LMDB,
    ) -> "Channel":
        """The channel in `directory`/channel, a fresh one where there is none. UsageError when
        another process has it or its file system is a network's; ChannelUnavailable when the
        disk does not do its part. A damaged file is set aside (see `stats().set_aside`)."""
        lock = await lock_soon(directory, disk)
        try:
            opened = await asyncio.to_thread(
                open_directory,
                directory,
                limits.size_bytes_max,
                outputs,
                int(limits.dedupe_retention_s * 1000),
                clock,
                disk,
            )
        except BaseException:
            os.close(lock)
            raise
        channel = cls(opened, limits, outputs, clock, lock)
        channel.was_cut_off = begin_run(directory)
        return channel

    def __init__(
        self,
        opened: Opened,
        limits: ChannelLimits,
        outputs: Sequence[str],
        clock: Clock,
        lock: int,
    ) -> None:
        self.begun_ms = opened.identity.begun_ms
        self.channel_id = opened.identity.channel_id
        self.origin = opened.state.origin
        self.life = opened.life
        # What outputs no longer configured still hold can be read, not put to.
        super().__init__(
            opened.environment, {name: one.id for name, one in opened.state.outputs.items()}
        )
        self.configured = frozenset(outputs)
        self._path = opened.environment.path
        self._limits = limits
        self._lock = lock
        self._clock = clock
        self._set_aside = opened.set_aside
        self._news = opened.news
        self._next_seq = opened.state.next_seq
        self._next_position = opened.state.next_position
        self._room_waiters: set[asyncio.Future[None]] = set()
        self._subscribers: list[Callable[[], None]] = []
        self._told_of_passed_on: list[Callable[[Sequence[BatchId]], None]] = []
        self._pending: dict[Submitted, None] = {}  # ordered: submitted and not committed
        self.commits = Histogram(meters.COMMITS)
        self._routed = RouteCounts(outputs)
        self._puts = 0
        self._put_bytes = 0
        self._closing: asyncio.Future[None] | None = None
        self._faded_s = asyncio.get_running_loop().time()
        self._ended = asyncio.Event()  # by itself
        self._loop = asyncio.get_running_loop()
        self.accounts = replace(opened.accounts, by_agent=dict(opened.accounts.by_agent))
        self._writer = self._writer_of(
            self._environment,
            opened.state,
            self.life,
            limits,
            opened.accounts,
            clock,
            self._report_from_writer,
        )
        self._capacity = Capacity(limits, self.accounts, self._writer.measure())
        self._writer.start()

    _writer_of: ClassVar[type[Writer]] = Writer

    @property
    def directory(self) -> Path:
        """Of its file. What else is put there goes with it, should it be set aside."""
        return self._path

    # --- writing, on the loop ---

    def next_seq(self) -> int:
        """The sequence number for the next batch that begins here. Call it just before `submit`
        of that batch, in the same step of the loop: then order of seq is order of commit."""
        seq = self._next_seq
        self._next_seq += 1
        return seq

    def last_position(self) -> int:
        """The highest position given out so far; 0 in a fresh channel."""
        return self._next_position - 1

    def origins(self) -> dict[bytes, Origin]:
        """All origins of this channel, as far as they gave numbers that are on disk."""
        # Before the others: of these none ends while it is open.
        state = self._capacity.report.state
        return origins_of(self.records(ORIGIN), state)

    async def work_by(self, limits: ChannelLimits, outputs: Sequence[str]) -> Change:
        """From now on it has these limits, and these outputs are configured: on disk when this
        returns. What is to be submitted in the step that first puts by them: which outputs begin,
        and which end. Raises as `submit` does."""
        if new := [output for output in outputs if output not in self._outputs]:
            await self.submit(Change(outputs=new))
        before, self.configured, self._limits = self.configured, frozenset(outputs), limits
        self._capacity.work_by(limits)
        self.accounts.dead_bytes_max = dead_bytes_max(limits.size_bytes_max)
        self._writer.work_by(limits)
        begins = tuple(output for output in outputs if output not in before)
        return Change(begins=begins, ends=tuple(sorted(before - self.configured)))

    def renew(self, why: str) -> None:
        """The next start gives this channel a new id, and flags all that waits."""
        self.submit(Change(records={RENEW: why.encode()}))

    def submit(self, change: Change) -> "asyncio.Future[tuple[int, ...]]":
        """Takes the change; the future gives the positions of its puts once all of it is on
        disk (0 for a put with `arrived` whose id was stored here before: it is left out).
        While commits fail the future waits; `stats().trouble` says why. It raises
        ChannelDamaged or ChannelUnavailable when the channel came to its end before.

        Cancelling the future does not take the change back."""
        future: asyncio.Future[tuple[int, ...]] = self._loop.create_future()
        if self._capacity.failed is not None:
            future.set_exception(self._capacity.failed)
            future.exception()  # whoever waits sees it; nobody need wait
            return future
        assert self._closing is None, "submitted to a channel that is closing"
        self._check(change)
        first = self._next_position
        self._next_position += len(change.puts)
        put_bytes = sum(len(put.record) for put in change.puts)
        item = Submitted(
            change,
            tuple(range(first, self._next_position)),
            put_bytes,
            pending_bytes(change.puts),
            future,
        )
        self._pending[item] = None
        self._capacity.pending_bytes += item.pending_bytes
        self._writer.submit(item)
        return future

    def _check(self, change: Change) -> None:
        for put in change.puts:
            assert put.outputs or not put.letter, "a letter that is put back for no output"
            assert self._outputs.keys() >= {*put.outputs, *put.skipped}, put
        for key in change.records:
            assert 0 < len(key) <= RECORD_KEY_BYTES_MAX, key
        letters = (one for one in change.drops if one[0] != NO_OUTPUT)
        waiting = (*change.flags, *change.dead, *change.damaged, *change.releases, *letters)
        for output in (*(one[0] for one in waiting), *(one.output for one in change.handed)):
            assert output in self._outputs, output

    def _report_from_writer(self, report: WriterReport) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._take_report, report)

    def _take_report(self, report: WriterReport) -> None:
        self._capacity.report = report
        self._outputs.update({name: one.id for name, one in report.state.outputs.items()})
        if (passed_s := self._loop.time() - self._faded_s) >= _FADE_EVERY_S:
            self._faded_s += passed_s
            self.accounts.fade(passed_s / self._limits.dedupe_retention_s)
        for item, positions, passed_on, moves in report.done:
            self.accounts.take(moves)
            for told in tuple(self._told_of_passed_on) if passed_on else ():
                told(passed_on)
            del self._pending[item]
            self._capacity.pending_bytes -= item.pending_bytes
            self._puts += len(positions)
            self._routed.take(item.change.puts, positions)
            self._put_bytes += item.put_bytes
            if not item.future.done():
                item.future.set_result(positions)
        if report.done:
            self.commits.note(report.commit_seconds)
        if report.failed is not None:
            self._end(report.failed)
        if self._room_waiters and (self._capacity.failed or self.free_bytes() > 0):
            for waiter in self._room_waiters:
                if not waiter.done():
                    waiter.set_result(None)
        if report.done:
            for callback in tuple(self._subscribers):
                callback()

    def _end(self, error: Exception) -> None:
        if isinstance(error, ChannelDamaged):
            self._found_damage(error)
        self._capacity.failed = error
        self._ended.set()
        for item in self._pending:
            if not item.future.done():
                item.future.set_exception(error)
                item.future.exception()  # whoever waits sees it; nobody need wait
        self._pending.clear()
        self._capacity.pending_bytes = 0

    def _found_damage(self, error: ChannelDamaged) -> None:
        # Should the mark fail, the next open still checks every value.
        with suppress(ChannelUnavailable):
            mark_damaged(self._path, str(error))
        self._capacity.failed = self._capacity.failed or error
        with suppress(RuntimeError):  # the loop is closed; readers may be in other threads
            self._loop.call_soon_threadsafe(self._ended.set)

    def free_bytes(self) -> int:
        """What puts may still take, those that were submitted counted as taken. 0 from the high
        mark until below the low mark, at the disk's floor, and in trouble."""
        return self._capacity.free_bytes()

    def room_of(self, agent: str) -> int:
        return self._capacity.room_of(agent)

    def over(self) -> list[str]:
        return self._capacity.over()

    def overfull(self) -> bool:
        """Who still brings puts has to wait."""
        return self._capacity.overfull()

    async def wait_end(self) -> None:
        """Returns never; raises as `submit` does once the channel has come to its end by itself."""
        await self._ended.wait()
        assert self._capacity.failed is not None, "ended without a reason"
        raise self._capacity.failed

    async def wait_room(self) -> None:
        """Returns once there is room. Raises as `submit` does when the channel has ended."""
        while self.free_bytes() <= 0:
            if self._capacity.failed is not None:
                raise self._capacity.failed
            waiter = self._loop.create_future()
            self._room_waiters.add(waiter)
            try:
                await waiter
            finally:
                self._room_waiters.discard(waiter)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """`callback` is called on the loop after every group commit, until what is returned is."""
        self._subscribers.append(callback)
        return partial(self._subscribers.remove, callback)

    def tell_passed_on(self, callback: Callable[[Sequence[BatchId]], None]) -> Callable[[], None]:
        """`callback` is called on the loop with the batches that had arrived from peers and that
        no output waits for any more, once that is on disk; until what is returned is called."""
        self._told_of_passed_on.append(callback)
        return partial(self._told_of_passed_on.remove, callback)

    async def close(self, within_s: float | None = None) -> None:
        """Commits all that was submitted. ChannelUnavailable when
        commits did not succeed within that time (10 s): what was not committed is not on disk,
        and its futures say so. A second call waits for the first."""
        if self._closing is None:
            within_s = CLOSE_WITHIN_S if within_s is None else within_s
            self._closing = asyncio.ensure_future(self._close(within_s))
        await asyncio.shield(self._closing)

    async def _close(self, within_s: float) -> None:
        self._writer.stop()
        # Its last report was put onto the loop before its end is told there.
        await asyncio.to_thread(self._writer.join, within_s)
        if self._writer.is_alive():
            self._writer.give_up()
            await asyncio.to_thread(self._writer.join, CLOSE_WITHIN_S)
        try:
            if self._writer.is_alive():
                # Stuck in the kernel: the file stays open, and locked, until this process ends.
                error = ChannelUnavailable(f"the disk of {self._path} does not answer")
                self._end(error)
                raise error
            self._environment.close()
            failed = self._capacity.failed
            if isinstance(failed, ChannelUnavailable):
                raise failed
            self._capacity.failed = failed or ChannelUnavailable("the channel is closed")
        finally:
            if not self._writer.is_alive():
                end_run(self._path.parent)
                fcntl.flock(self._lock, fcntl.LOCK_UN)
                os.close(self._lock)

    def stats(self) -> ChannelStats:
        """As of the last commit. Of outputs that are no longer configured, those that still
        hold batches are there too."""
        now = self._capacity.report
        state = now.state
        return ChannelStats(
            channel_id=self.channel_id,
            size_bytes=self._limits.size_bytes_max,
            used_bytes=now.used_bytes,
            free_bytes=self.free_bytes(),
            disk_free_bytes=now.disk_free_bytes,
            free_floor_bytes=self._limits.free_floor_bytes,
            batches=state.batches,
            dead=state.dead,
            dead_bytes=self.accounts.dead_bytes,
            dead_bytes_max=self.accounts.dead_bytes_max,
            undeliverable=self.accounts.kept(),
            over=self.over(),
            queues=self._queue_stats(state),
            puts=self._puts,
            put_bytes=self._put_bytes,
            at_floor=self._capacity.at_floor(),
            trouble=self._capacity.trouble(),
            set_aside=self._set_aside,
            news=self._news,
        )

    def meters(self) -> Iterable[Sample]:
        yield from meters.samples(self.stats(), self.commits, self._clock.now_ms())
        yield from self._routed.samples()

    def _queue_stats(self, state: ChannelState) -> dict[str, QueueStats]:
        return {
            name: QueueStats(
                totals.batches,
                totals.events,
                totals.size_bytes,
                self.oldest_ms(totals.id) if totals.batches else None,
            )
            for name, totals in state.outputs.items()
            if name in self.configured or totals.batches
        }
