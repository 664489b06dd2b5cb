"""Which generations are followed: looks, what comes of them, and their way into the channel.

A look says what each file is (`matching.py` has the table); between looks, files that changed are
read in turn (`turns.py`).

Not thread-safe: the tail source calls it from one thread of its own, since files block.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from tiers.sources.tail.door import Door, RealFiles
from tiers.sources.tail.generation import Generation, unpack
from tiers.sources.tail.history import History
from tiers.sources.tail.looking import Look, Looked
from tiers.sources.tail.losses import Losses
from tiers.sources.tail.ours import Identity, Ours
from tiers.sources.tail.packed import OpeningMemory
from tiers.sources.tail.problems import ReadProblems
from tiers.sources.tail.reading import Limits
from tiers.sources.tail.sightings import Sighting, StartAt, begun, unseen
from tiers.sources.tail.step import Advance, FollowOptions
from tiers.sources.tail.turns import ReadingTurns, TurnLimits
from tiers.sources.tail.verdicts import Copied, Fresh, KnownText, Lost, Outgrown, Same, Undecided
from tiers.sources.tail.walk import Stopped, Walk, absolute, watched

log = logging.getLogger("tiers.tail")

STARTED: Final = b"started"  # the position that says: this source has looked for files before
_SOON_S: Final = 0.1  # until the next look after one that saw things change
_MAKING_NS: Final = 30_000_000_000  # what changed so lately may be a copy that is being made
_RACY_NS: Final = 50_000_000  # a change so young may not be the last with its ctime


class Following:
    """`wall_ns` gives the time of the clock on the wall, `clock` that of no clock (for costs)."""

    def __init__(
        self,
        options: FollowOptions,
        positions: Mapping[bytes, bytes],
        door: Door | None = None,
        wall_ns: Callable[[], int] = time.time_ns,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._options = options
        self._door: Door = door or RealFiles()
        self._wall_ns, self._clock = wall_ns, clock
        self._patterns = [absolute(pattern) for pattern in options.patterns]
        self._ours = Ours(self._door, options.not_below)
        self._history = History(options.retention_s)
        self._dormant: dict[bytes, Generation] = {}  # of paths that are at no glob now
        self._by_path: dict[str, Generation] = {}
        self._directories: dict[str, Identity] = {}
        self.problems = ReadProblems()
        self._losses = Losses()
        limits = TurnLimits(
            Limits(options.block_size_max, options.event_size_max),
            options.open_files_max,
            options.rotate_wait_s,
        )
        self._room = OpeningMemory(self._go_on)
        self._turns = ReadingTurns(self._door, limits, self.problems, self._wall_s, self._room)
        self.files = self._turns.files
        self._stop = threading.Event()
        self._draining = False
        self._look_at = self._looked_at = self._look_cost_s = 0.0
        self._step = Advance()
        self._young_ns = 0  # changes since then may not be the last with their ctime
        self._latest: dict[str, Generation] = {}  # the newest of each log
        self._last_key = 0
        # "end" is for the files there are when a source is new. Later ones are new logs.
        self._skip = options.start_at_end and not positions
        self._new = STARTED not in positions
        self._restore(positions)

    # -- the one entry --------------------------------------------------------------------

    def advance(self, now: float, woken: Iterable[str], look: bool, draining: bool) -> Advance:
        """Look around if it is time (or `look`, soon), and read the next block. `now` is
        monotonic seconds. `woken` are paths that changed. Raises `Stopped` after `stop`."""
        self._step = Advance()
        if draining and not self._draining:
            self._draining, self._look_at = True, now
        for path in woken:
            if generation := self._by_path.get(path):
                self._turns.ready.setdefault(generation.key)
        if look:
            self._look_at = min(self._look_at, self._looked_at + 10 * self._look_cost_s)
        if now >= self._look_at:
            self._look(now)
        step, turns = self._step, self._turns
        step.block = turns.next_block(now) or turns.next_ending(now, draining)
        for generation in turns.finished:
            self._finish(generation)
        turns.finished.clear()
        if turns.look_wanted:
            turns.look_wanted = False
            self._look_at = min(self._look_at, max(now, self._looked_at + _SOON_S))
        step.counts.update(turns.counts)
        turns.counts.clear()
        step.trouble, step.remark = self.problems.line(), self.problems.line(harmless=True)
        if told := self._losses.due(now):
            log.warning("%s", told)
        step.finished = draining and not step.block and not step.positions
        step.wake_at = min(self._look_at, turns.wake_at)
        return step

    def stop(self) -> None:
        """From another thread: whatever goes on ends soon."""
        self._stop.set()

    def close(self) -> None:
        self._turns.close()

    def directories(self, limit: int) -> dict[str, Identity]:
        """Directories to watch, at most `limit`, with device and inode: one that is replaced is
        another. Those on the way to globs, so that what appears later is noticed; and of files."""
        files = (generation.real for generation in self.files.values())
        return watched(self._door, self._directories, files, limit)

    def is_look_due(self, now: float) -> bool:
        return now >= self._look_at

    def _finish(self, generation: Generation) -> None:
        """Read to its end: from now on it is history."""
        self._turns.let_go(generation)
        generation.done, generation.elder, generation.since_s = True, None, self._wall_s()
        generation.current = generation.failed = generation.suspect = False
        self._history.add(generation)
        self._store(generation)

    def _store(self, generation: Generation) -> None:
        self._step.positions[generation.key] = generation.pack()

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _wall_s(self) -> float:
        return self._wall_ns() / 1e9

    # -- looking around -------------------------------------------------------------------

    def _look(self, now: float) -> None:
        began = self._clock()
        self._ours.look_begins()
        links = self._options.follow_links
        walk = Walk(self._door, self._patterns, links, self._clock, self._go_on, self._ours)
        walked = walk.run()
        self._directories = walked.directories
        generations = [*self.files.values(), *self._history.all()]
        dormant, wall_ns = list(self._dormant.values()), self._wall_ns()
        quiet_ns = wall_ns - int(self._options.rotate_wait_s * 1e9)
        recent_ns = (wall_ns - _MAKING_NS, wall_ns + _MAKING_NS)
        skip, room = self._skip, self._room
        look = Look(self._door, walked, generations, dormant, skip, room, quiet_ns, recent_ns)
        self._young_ns = wall_ns - _RACY_NS
        looked = look.run()
        self._by_path = {}
        self.problems.note_look(
            [*walked.problems, *looked.problems()],
            [*walked.remarks, *looked.remarks, *self._turns.cut_off(now)],
            self._wall_s(),
        )
        self._apply(looked, now)
        self.problems.keep({each.now for each in self.files.values() if not each.gone})
        if self._draining:
            for generation in self.files.values():
                if not generation.packed:
                    generation.end = generation.offset + generation.behind
        if self._new:
            self._step.positions[STARTED] = b"1"
        self._new = self._skip = False
        # Never more than a tenth of the time, however many files there are.
        self._looked_at, self._step.looked = now, True
        self._look_cost_s = self._clock() - began
        self._look_at = now + max(self._options.rescan_s, 10 * self._look_cost_s)
        if looked.again:
            self._look_at = min(self._look_at, now + max(_SOON_S, 10 * self._look_cost_s))

    def _apply(self, looked: Looked, now: float) -> None:
        there = {sighting.identity for sighting in looked.sightings if sighting.named}
        found: set[bytes] = set()
        undecided: set[bytes] = set()
        for verdict in looked.verdicts:
            match verdict:
                case Same():
                    there.add(verdict.sighting.identity)
                    self._same(verdict, now, there)
                    found.add(verdict.generation.key)
                case Lost():
                    self._lost(verdict.generation, there)
                case Copied():
                    self._copied(verdict)
                case Undecided():
                    undecided.add(verdict.generation.key)
                    if verdict.generation.looked is None:
                        verdict.generation.looked = verdict.seam
                case Outgrown():
                    self._history.remove(verdict.generation)
                    self._step.positions[verdict.generation.key] = None
                case KnownText():
                    self._known(verdict.sighting, verdict.start)
                    if verdict.overwritten:
                        log.warning("%s: overwritten, and not read", verdict.sighting.where)
                case Fresh():
                    found.add(self._fresh(verdict, now).key)
        sizes = {sighting.identity: sighting.status.size for sighting, _ in looked.unreadable}
        for sighting, _ in looked.unreadable:
            if sighting.kin in looked.first_kins:
                found |= self._unseen(sighting, now)
        for generation in list(self.files.values()):
            generation.looks += 1
            identity = (generation.inode, generation.birth_ns)
            if identity in sizes:  # it is there, and more of it than was read
                generation.extent = sizes[identity]
            if generation.key not in found and identity not in looked.failed:
                self._absent(generation, now)
            again = generation.failed or (generation.opened is None and generation.behind)
            # What could not be read by this look is compared with others first, by the next one.
            new = identity in sizes and not generation.offset
            if generation.key in found and generation.key not in undecided:
                generation.note_look()
            if again and not (generation.gone or generation.damaged or new):
                self._turns.ready.setdefault(generation.key)
        wall_s = self._wall_s()
        for key in self._history.prune(there, wall_s, self.files.values()):
            self._step.positions[key] = None

    def _same(self, verdict: Same, now: float, there: set[tuple[int, int]]) -> None:
        generation, sighting = verdict.generation, verdict.sighting
        self._step.counts["bytes_perhaps_doubled"] += verdict.doubt
        if generation.key in self._dormant:
            self._wake(generation, sighting)
        status, seen = sighting.status, generation.seen
        changed = seen is None or (seen.size, seen.ctime_ns) != (status.size, status.ctime_ns)
        moved = (generation.inode, generation.birth_ns) != sighting.identity
        if moved:
            self._step.counts["files_truncated"] += generation.current and (
                (generation.inode, generation.birth_ns) in there
            )
            self._turns.release(generation)
            generation.is_at(status)
        if verdict.start is not None:
            verdict.start.begin(generation)
        elsewhere = moved or verdict.start is not None or generation.now != sighting.where
        if elsewhere:
            self.problems.over(generation.now)  # it is tried anew under its new name
            generation.now = sighting.where
            self._store(generation)
        if elsewhere or changed:
            generation.damaged = False
        generation.device, generation.suspect, generation.gone = status.device, False, False
        compared = bool(generation.offset) or not generation.failed
        generation.seen = status if compared and status.ctime_ns < self._young_ns else None
        if generation.done and verdict.more:
            self._history.remove(generation)
            generation.done = False
            self._turns.follow(generation)
            self._store(generation)
        if not generation.done:
            self._place(generation, sighting, now)
            if changed or moved:
                self._grown(generation, sighting)

    def _place(self, generation: Generation, sighting: Sighting, now: float) -> None:
        """Where it is now, as its log sees it."""
        was, generation.current = generation.current, generation.path in sighting.paths
        if not generation.current:
            if was:
                generation.quiet_since, generation.looks = now, 0
            self._turns.leaving.setdefault(generation.key, generation)
        for path in (*sighting.paths, *([generation.real] if generation.current else ())):
            self._by_path[path] = generation

    def _grown(self, generation: Generation, sighting: Sighting) -> None:
        if not generation.packed:
            generation.extent = sighting.status.size
        if generation.seen is not None:
            generation.looks = 0
        self._turns.ready.setdefault(generation.key)

    def _wake(self, generation: Generation, sighting: Sighting) -> None:
        """Its glob came back, or another leads to it."""
        del self._dormant[generation.key]
        generation.path = sighting.paths[0] if sighting.paths else sighting.kin
        generation.real = self._door.real(generation.path)
        if generation.done:
            self._history.add(generation)
        else:
            self._turns.follow(generation)
        self._store(generation)

    def _absent(self, generation: Generation, now: float) -> None:
        """At no path that is known. Through its descriptor it is read to its end; without one, its
        position stays for a while: it may come back."""
        wall_s = self._wall_s()
        if not generation.gone:
            generation.gone, generation.quiet_since, generation.looks = True, now, 0
            generation.since_s = wall_s
            self._store(generation)
        if generation.opened is None:
            if wall_s - generation.since_s > self._options.retention_s:
                self._lost(generation, set())
            return
        generation.current = False
        try:
            where = self._door.where(generation.opened.descriptor)
        except OSError:
            where = ""
        if where and where != generation.now:
            generation.now = where
            self._store(generation)
        self._turns.leaving.setdefault(generation.key, generation)
        self._turns.ready.setdefault(generation.key)

    def _lost(self, generation: Generation, there: set[tuple[int, int]]) -> None:
        if generation.key not in self.files:
            return
        if behind := generation.behind:
            self._step.counts["bytes_lost"] += behind
            self._losses.note(generation.path, behind)
        self._step.counts["files_truncated"] += (generation.inode, generation.birth_ns) in there
        self._finish(generation)

    # -- generations that were not known -----------------------------------------------------

    def _fresh(self, verdict: Fresh, now: float) -> Generation:
        sighting = verdict.sighting
        generation = self._new_generation(sighting, verdict.start)
        self._step.counts["bytes_perhaps_doubled"] += verdict.doubt
        elder = self._latest.get(generation.path)
        if (
            elder is not None
            and elder.key in self.files
            and not (elder.current and not sighting.paths)
        ):
            generation.elder = elder
        self._latest[generation.path] = generation
        generation.quiet_since, generation.extent = now, sighting.status.size
        self._turns.follow(generation)
        self._place(generation, sighting, now)
        self._store(generation)
        return generation

    def _known(self, sighting: Sighting, start: StartAt) -> None:
        generation = self._new_generation(sighting, start)
        generation.done, generation.since_s = True, self._wall_s()
        self._history.add(generation)
        self._store(generation)

    def _unseen(self, sighting: Sighting, now: float) -> set[bytes]:
        """There at the first look, and not to be read then. At a glob it is a log that waits."""
        if sighting.paths:
            return {self._fresh(Fresh(sighting, True), now).key}
        self._known(sighting, unseen(sighting))
        return set()

    def _copied(self, verdict: Copied) -> None:
        """A copy is history once its original was read as far. Until then, the next look asks."""
        of, start, entry = verdict.of, verdict.start, verdict.entry
        if isinstance(of, Sighting) or of.offset < start.offset or not start.offset:
            return
        if entry is None:
            self._known(verdict.sighting, start)
            return
        start.begin(entry)
        entry.seen = None
        self._store(entry)

    def _new_generation(self, sighting: Sighting, start: StartAt) -> Generation:
        self._last_key = max(self._last_key + 1, self._wall_ns())
        return begun(self._last_key, sighting, start, self._door)

    def _restore(self, positions: Mapping[bytes, bytes]) -> None:
        for key in sorted(positions.keys() - {STARTED}):
            generation = unpack(key, positions[key])
            self._last_key = max(self._last_key, int(key, 16))
            if not any(pattern.matches(generation.path) for pattern in self._patterns):
                self._dormant[key] = generation
            elif generation.done:
                self._history.add(generation)
            else:
                self._latest[generation.path] = generation
                generation.current = generation.now in (generation.path, generation.real)
                self._turns.follow(generation)
