"""Whose turn it is to be read: round robin, a block each, over files that have more.

A generation waits for its elder only while that one makes progress. What goes wrong with one file
holds back no other: it is closed, and its turn comes again at each look.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Final

from tiers.sources.tail.door import Door
from tiers.sources.tail.generation import Generation
from tiers.sources.tail.packed import OpeningMemory
from tiers.sources.tail.problems import ReadProblems
from tiers.sources.tail.reading import FileBlock, Limits, Torn, read, read_unfinished
from tiers.sources.tail.streams import CutOff, Damaged
from tiers.sources.tail.texts import Changed, open_text

LOOKS_MIN: Final = 1  # after the one that last saw it grow, before a rotated file is done


@dataclass(frozen=True, slots=True)
class TurnLimits:
    reading: Limits
    open_files_max: int
    rotate_wait_s: float


class ReadingTurns:
    """`finished`, `look_wanted` and `counts` are for who calls, to act on and to clear."""

    def __init__(
        self,
        door: Door,
        limits: TurnLimits,
        problems: ReadProblems,
        wall_s: Callable[[], float],
        room: OpeningMemory,
    ) -> None:
        self._door = door
        self._limits = limits
        self._problems = problems
        self._wall_s = wall_s
        self._room = room
        self.files: dict[bytes, Generation] = {}  # followed, by key
        self.ready: OrderedDict[bytes, None] = OrderedDict()  # have more, in order of their turn
        self.open: OrderedDict[bytes, Generation] = OrderedDict()  # least recently read first
        self.leaving: dict[bytes, Generation] = {}  # not at their path, not done with yet
        self.finished: list[Generation] = []  # read to their end
        self.look_wanted = False  # something is not where it was, or not what it was
        self.counts: Counter[str] = Counter()
        self._unpacking: Generation | None = None  # compressed, and read last
        self.wake_at = inf  # monotonic seconds: then one that is left has been quiet long enough

    def follow(self, generation: Generation) -> None:
        self.files[generation.key] = generation
        self.ready.setdefault(generation.key)

    def let_go(self, generation: Generation) -> None:
        self.release(generation)
        self.files.pop(generation.key, None)
        self.ready.pop(generation.key, None)
        self.leaving.pop(generation.key, None)

    def close(self) -> None:
        for generation in self.open.values():
            generation.close()
        self.open.clear()

    def next_block(self, now: float) -> FileBlock | None:
        """Round robin, a block each, over files that have more."""
        waiting = 0
        while len(self.ready) > waiting:
            self._room.go_on()
            key, _ = self.ready.popitem(last=False)
            generation = self.files.get(key)
            if generation is None:
                continue
            if self._waits_for_elder(generation) or self._waits_for_room(generation):
                self.ready[key] = None
                waiting += 1
                continue
            waiting = 0
            reached = generation.end is not None and generation.offset >= generation.end
            if reached and generation.current:
                continue
            if generation.unpacks:
                self._unpacking = generation
            block = self._read(generation, read)
            if block:
                generation.quiet_since, generation.looks = now, 0
                self.ready[key] = None
                return block
            if not generation.current:
                self.leaving[key] = generation
        return None

    def cut_off(self, now: float) -> list[tuple[str, str]]:
        """At the globs, with what to say; of others it is a problem, in their own turn."""
        quiet = now - self._limits.rotate_wait_s
        found = [each for each in self.files.values() if each.cut_off and each.current]
        return [(g.now, f"{g.now}: {CutOff().strerror}") for g in found if g.quiet_since < quiet]

    def _waits_for_elder(self, generation: Generation) -> bool:
        elder = generation.elder
        return elder is not None and elder.key in self.ready and elder.key in self.files

    def _waits_for_room(self, generation: Generation) -> bool:
        """Compressed files are read to their end one after the other: each has to be opened from
        its beginning, and takes memory. One that waits itself keeps nobody waiting."""
        other = self._unpacking
        if not generation.unpacks or other is None or other is generation:
            return False
        there = other.key in self.ready and other.key in self.files
        return there and not self._waits_for_elder(other)

    def _read(
        self, generation: Generation, how: Callable[[Generation, Limits], FileBlock | None]
    ) -> FileBlock | None:
        """What goes wrong with one file holds back no other."""
        if not self._opened(generation):
            return None
        try:
            block = how(generation, self._limits.reading)
        except Torn:
            self._suspect(generation)
            return None
        except OSError as error:
            self._fail(generation, error)
            return None
        if generation.failed:
            generation.failed = False
            self._problems.over(generation.now)
        if block is not None:
            self.counts.update(
                lines_split=block.split, lines_ended=int(block.ended), bytes_hole=block.hole
            )
        return block

    def _opened(self, generation: Generation) -> bool:
        if generation.opened is None:
            while len(self.open) >= self._limits.open_files_max and self._close_one():
                pass
            try:
                generation.opened = open_text(
                    self._door,
                    generation.now,
                    generation.inode,
                    generation.birth_ns,
                    self._room,
                )
            except (Changed, FileNotFoundError):
                self.look_wanted = True  # what it is now, or where, a look will tell
                return False
            except OSError as error:
                self._fail(generation, error)
                return False
        generation.unpacks = generation.opened.text.packed
        self.open[generation.key] = generation
        self.open.move_to_end(generation.key)
        try:
            generation.opened.look()
        except OSError as error:
            self._fail(generation, error)
            return False
        return True

    def _fail(self, generation: Generation, error: OSError) -> None:
        """Closed, and its turn comes again at each look; where its content is at fault, once that
        has changed."""
        generation.failed, generation.damaged = True, isinstance(error, Damaged)
        self._problems.stand(generation.now, error, self._wall_s())
        self.release(generation)

    def _suspect(self, generation: Generation) -> None:
        """It is not what it was. Which it is, and where the rest of it is, a look will tell."""
        generation.suspect = True
        self.look_wanted = True

    def next_ending(self, now: float, draining: bool) -> FileBlock | None:
        """The last line of a file that is done."""
        self.wake_at = inf
        if draining:
            for generation in list(self.files.values()):
                if generation.end is not None and generation.offset < generation.end:
                    block = self._unfinished(generation)
                    generation.end = generation.offset
                    if block:
                        return block
        for key, generation in list(self.leaving.items()):
            if key not in self.files or generation.current or generation.failed:
                del self.leaving[key]
                continue
            quiet_until = generation.quiet_since + self._limits.rotate_wait_s
            if not draining and now < quiet_until:
                self.wake_at = min(self.wake_at, quiet_until)
                continue
            if not draining and generation.looks < LOOKS_MIN:
                self.look_wanted = True
                continue
            block = self._unfinished(generation)
            if block:
                generation.quiet_since = now  # let go of when it stays quiet
                return block
            del self.leaving[key]
            if not (generation.failed or generation.suspect):
                self.finished.append(generation)
        return None

    def _unfinished(self, generation: Generation) -> FileBlock | None:
        return self._read(generation, read) or (
            None
            if generation.failed or generation.suspect
            else self._read(generation, read_unfinished)
        )

    def _close_one(self) -> bool:
        """Close the least recently read file that has a path to open it again by."""
        for generation in self.open.values():
            if not generation.gone and self._is_at_its_path(generation):
                self.release(generation)
                return True
        return False

    def _is_at_its_path(self, generation: Generation) -> bool:
        """A file that was deleted a moment ago is read to its end through its descriptor."""
        try:
            status = self._door.stat(generation.now)
        except OSError:
            return False
        return (status.inode, status.birth_ns) == (generation.inode, generation.birth_ns)

    def release(self, generation: Generation) -> None:
        generation.close()
        self.open.pop(generation.key, None)
