"""The writer's thread: owns every write transaction, and commits in groups.

While one fsync runs, the next group gathers in `_inbox`. A commit that fails is tried again for
ever, with growing waits, since what was submitted must not be lost; meanwhile changes that only
let go of batches may overtake puts that wait for room, because they are what makes room.
"""

import logging
import threading
from asyncio import Future
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple

from tiers.channel.accounts import Accounts, Moves, dead_bytes_max
from tiers.channel.applying import Applying
from tiers.channel.checking import read_head
from tiers.channel.environment import GROW_BYTES, Environment, MapFull, Panicked, words
from tiers.channel.forgetting import Forgetting
from tiers.channel.layout import ChannelState
from tiers.channel.living import ChannelLife
from tiers.contracts import Clock
from tiers.core.batch import BatchId
from tiers.core.change import Change, ChannelLimits
from tiers.errors import ChannelDamaged, ChannelUnavailable

log = logging.getLogger("tiers.channel")

GROUP_CHANGES_MAX: Final = 4096
RETRY_AFTER_S: Final = 0.05
RETRY_AFTER_S_MAX: Final = 5.0
IDLE_S: Final = 1.0  # how often an idle writer looks at the disk
TEND_EVERY_S: Final = 60.0  # stale readers, what is to be forgotten
TEND_BLOCKS_MAX: Final = 1000  # of ids, looked at in one turn

Positions = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Submitted:
    """A change on its way to disk."""

    change: Change
    positions: Positions  # of its puts, given when it was submitted
    put_bytes: int  # of their records
    pending_bytes: int  # what they count in `free_bytes` until they are committed
    future: "Future[Positions]"


class Committed(NamedTuple):
    """What became of a change."""

    item: Submitted
    positions: Positions
    passed_on: tuple[BatchId, ...]  # see Applying
    moves: Moves  # of its whole group, with the group's last change; see Applying


Done = tuple[Committed, ...]


@dataclass(frozen=True, slots=True)
class WriterReport:
    """What the writer tells the loop: after each group, and when trouble comes or goes."""

    state: ChannelState
    used_bytes: int
    file_bytes: int
    disk_free_bytes: int
    trouble: str = ""
    done: Done = ()
    commit_seconds: float = 0.0
    failed: Exception | None = None  # the writer has ended; what was not done never will be


@dataclass(slots=True)
class _Sizes:
    used_bytes: int = 0
    file_bytes: int = 0
    disk_free_bytes: int = 0


class Writer(threading.Thread):
    """`report` is called on this thread. `submit` and `stop` may be called from any."""

    def __init__(
        self,
        environment: Environment,
        state: ChannelState,
        life: ChannelLife,
        limits: ChannelLimits,
        accounts: Accounts,
        clock: Clock,
        report: Callable[[WriterReport], None],
    ) -> None:
        super().__init__(name="channel-writer", daemon=True)
        self._environment = environment
        self._state = state
        self._life = life
        self._limits = limits
        self._accounts = accounts
        self._clock = clock
        self._report = report
        self._inbox: SimpleQueue[Submitted | None] = SimpleQueue()
        self._waiting: deque[Submitted] = deque()  # taken from the inbox, in order
        self._stopping = False
        self._give_up = threading.Event()
        self._trouble = ""
        self._failures = 0
        self._must_reopen = False
        self._doubtful: tuple[int, Done] = (0, ())  # the number of a group, and what was in it
        self._adopted: Done = ()  # in the file, but not known to be on disk
        self._sizes = _Sizes()
        self._tended_at = self._clock.now_s()
        self._forgetting = Forgetting(int(limits.dedupe_retention_s * 1000))

    def submit(self, item: Submitted) -> None:
        self._inbox.put(item)

    def work_by(self, limits: ChannelLimits) -> None:
        """From any thread; of the next group on."""
        self._limits = limits
        self._accounts.dead_bytes_max = dead_bytes_max(limits.size_bytes_max)

    def stop(self) -> None:
        """Ends once all that was submitted is committed."""
        self._inbox.put(None)

    def give_up(self) -> None:
        """Ends now even though a commit does not succeed."""
        self._give_up.set()

    def run(self) -> None:
        try:
            self.measure()
            while self._turn():
                pass
        except Exception as error:
            if not isinstance(error, ChannelDamaged | ChannelUnavailable):
                log.exception("the channel's writer failed")
            self._tell(failed=error)

    def measure(self) -> WriterReport:
        """Sizes as they are now."""
        with self._environment.reading() as txn:
            self._sizes.used_bytes = self._environment.used_bytes(txn)
        self._look_at_disk()
        return self._now()

    def _turn(self) -> bool:
        """One group, or one look around while nothing comes. False when it is time to end."""
        self._receive()
        self._tend()
        if not self._waiting and not self._adopted:
            self._look_around()
            return not self._stopping
        group = self._next_group()
        try:
            self._commit(group)
        except MapFull as error:
            log.info("the channel's map grows: %s", error)
            self._waiting.extendleft(reversed(group))
            self._environment.grow(GROW_BYTES)
        except ChannelUnavailable as error:
            self._waiting.extendleft(reversed(group))
            self._failed(error)
        else:
            if self._trouble:
                log.warning("the channel works again (was: %s)", self._trouble)
                self._trouble = ""
                self._tell()
            self._failures = 0
        return True

    def _receive(self) -> None:
        """Takes what has come; waits for it a while when there is nothing else to do."""
        wait = not self._waiting and not self._stopping
        while True:
            try:
                item = self._inbox.get(timeout=IDLE_S) if wait else self._inbox.get_nowait()
            except Empty:
                return
            wait = False
            if item is None:
                self._stopping = True
            else:
                self._waiting.append(item)

    def _next_group(self) -> list[Submitted]:
        # After a failure groups get smaller: half of it may fit where the whole did not.
        shift = min(self._failures, 12)
        changes_max = max(1, GROUP_CHANGES_MAX >> shift)
        bytes_max = self._limits.commit_bytes_max >> shift
        group: list[Submitted] = []
        size = 0
        while self._waiting and len(group) < changes_max:
            size += self._waiting[0].put_bytes
            # What an output begins or ends after has to be in the file by then.
            change = self._waiting[0].change
            if group and (size > bytes_max or change.begins or change.ends):
                break
            group.append(self._waiting.popleft())
        return group

    def _commit(self, group: list[Submitted]) -> None:
        """All of the group is on disk when this returns."""
        begun = self._clock.now_s()
        environment = self._environment
        if self._must_reopen:
            self._reopen()
            group[:] = [item for item in group if item not in {one.item for one in self._adopted}]
        met = self._life.take_unsaved()
        try:
            with environment.writing() as txn:
                applying = Applying(
                    environment,
                    txn,
                    self._state,
                    self._clock.now_ms(),
                    self._accounts,
                    ask_again=self._limits.ask_again,
                )
                done = tuple(_apply(applying, item) for item in group)
                if done:
                    done = (*done[:-1], done[-1]._replace(moves=applying.moves))
                applying.finish()
                self._life.write(txn, met, self._clock.now_ms())
                used_bytes = environment.used_bytes(txn)
                self._doubtful = (applying.state.groups, done)
        except BaseException:
            self._life.put_back(met)
            raise
        for text in applying.apart:
            log.error(text)
        self._state = applying.state
        self._accounts.take(applying.moves)
        self._sizes.used_bytes = used_bytes
        self._look_at_disk()
        done = self._adopted + done
        self._adopted = ()
        self._tell(done=done, commit_seconds=self._clock.now_s() - begun)

    def _failed(self, error: ChannelUnavailable) -> None:
        """A commit did not succeed; says so, makes room where it can, and waits."""
        self._failures += 1
        self._look_at_disk()
        text = words(error, self._sizes.disk_free_bytes)
        if text != self._trouble:
            log.error("the channel cannot commit, trying again: %s", text)
        self._trouble = text
        self._tell()
        if isinstance(error, Panicked):
            self._must_reopen = True
        self._let_go_first()
        delay = RETRY_AFTER_S * 2 ** min(self._failures - 1, 10)
        if self._give_up.wait(min(delay, RETRY_AFTER_S_MAX)):
            raise error

    def _let_go_first(self) -> None:
        going = overtaking(self._waiting)
        if not going:
            return
        try:
            self._commit(going)
        except MapFull:
            self._environment.grow(GROW_BYTES)
        except ChannelUnavailable as error:
            log.debug("letting go failed as well: %s", error)
        else:
            gone = set(going)
            self._waiting = deque(item for item in self._waiting if item not in gone)

    def _reopen(self) -> None:
        """After a failed write of the meta page nobody knows whether that group is on disk. If
        the file has it, it is not done again; but it counts as committed only once a later
        commit, whose meta page holds all of it, is on disk."""
        self._environment.reopen()
        with self._environment.reading() as txn:
            head = read_head(self._environment, txn)
        if head is None:
            raise ChannelDamaged("the channel is empty after it was opened anew")
        groups, done = self._doubtful
        if head.state.groups != self._state.groups:
            assert head.state.groups == groups, "somebody else wrote"
            gone = {one.item for one in done}
            self._waiting = deque(item for item in self._waiting if item not in gone)
            self._adopted += done
            for one in done:
                self._accounts.take(one.moves)
            self._state = head.state
        self._must_reopen = False

    def _look_around(self) -> None:
        before = self._sizes.disk_free_bytes
        self._look_at_disk()
        if self._sizes.disk_free_bytes != before:
            self._tell()

    def _look_at_disk(self) -> None:
        try:
            self._sizes.disk_free_bytes = self._environment.disk_free_bytes()
            self._sizes.file_bytes = self._environment.file_bytes()
        except ChannelUnavailable as error:
            log.debug("the disk cannot be looked at: %s", error)

    def _tend(self) -> None:
        """What is due now and then, a bounded part at a time."""
        if self._clock.now_s() - self._tended_at < TEND_EVERY_S:
            return
        self._tended_at = self._clock.now_s()
        try:
            stale = self._environment.clear_stale_readers()
            if stale:
                log.warning("cleared %d readers whose process is gone", stale)
            self._forgetting.turn(self._environment, self._clock.now_ms(), TEND_BLOCKS_MAX)
        except ChannelUnavailable as error:
            log.warning("the channel could not be tended: %s", error)
            self._must_reopen |= isinstance(error, Panicked)

    def _tell(
        self,
        *,
        done: Done = (),
        commit_seconds: float = 0.0,
        failed: Exception | None = None,
    ) -> None:
        self._report(self._now(self._trouble, done, commit_seconds, failed))

    def _now(self, *what: Any) -> WriterReport:
        sizes = self._sizes
        return WriterReport(
            self._state, sizes.used_bytes, sizes.file_bytes, sizes.disk_free_bytes, *what
        )


def _apply(applying: Applying, item: Submitted) -> Committed:
    before = len(applying.passed_on)
    positions = applying.apply(item.change, item.positions)
    return Committed(item, positions, tuple(applying.passed_on[before:]), {})


def overtaking(waiting: Iterable[Submitted]) -> list[Submitted]:
    """Changes that may be committed before all others that wait: they put nothing, and touch no
    record, batch or queue entry that an earlier one, which stays, touches too."""
    going: list[Submitted] = []
    keys: set[bytes] = set()
    entries: set[tuple[str, int]] = set()
    first_put: int | None = None
    for item in waiting:
        change = item.change
        touched = {*change.flags, *change.releases, *change.drops}
        touched |= {(one.output, one.position) for one in change.handed}
        touched |= {(output, position) for output, position, _ in (*change.dead, *change.damaged)}
        stays = (
            bool(change.puts or change.outputs or change.ends or change.begins)
            or not keys.isdisjoint(change.records)
            or not entries.isdisjoint(touched)
            or (first_put is not None and any(p >= first_put for _, p in touched))
        )
        if not stays and len(going) < GROUP_CHANGES_MAX:
            going.append(item)
            continue
        keys.update(change.records)
        entries |= touched
        if first_put is None and item.positions:
            first_put = item.positions[0]
    return going if first_put is not None else []
