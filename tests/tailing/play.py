"""One sequence of deeds and looks, played with the shipped code over the model disk.

After it every unique line that could be read was taken once: all that was there at a look which
nothing disturbed, and all that was in a file which the source held open when it was deleted. What
may come twice is what the source counted as doubtful. In the end all is quiet, and nothing waits.
"""

import bz2
import random
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import zstandard

from tests.tailing.deeds import LOG, Deed, Site, random_deed
from tests.tailing.disk import OPEN_MAX, Inode, ModelDisk
from tiers.sources.tail.following import STARTED, Following
from tiers.sources.tail.names import is_rotated
from tiers.sources.tail.reading import HOLE_BYTES_MIN
from tiers.sources.tail.step import Advance, FollowOptions

ROTATE_WAIT_S: Final = 5.0
GLOBS: Final = (("/logs/app.log",), ("/logs/*.log",), ("/logs/app.log*",))
WIDE: Final = 2
ELSEWHERE: Final = ("/logs/other.log",)
COPIED_S_MAX: Final = 15.0
QUIET_LOOKS: Final = 9


class Killed(BaseException):
    """The agent died."""


@dataclass(frozen=True)
class Setting:
    """What does not change within a sequence."""

    births: bool = True
    appends: bool = True
    globs: int = 0
    block_size_max: int = 1 << 20
    open_files_max: int = 100

    def as_tuple(self) -> tuple[bool, bool, int, int, int]:
        return (self.births, self.appends, self.globs, self.block_size_max, self.open_files_max)


@dataclass
class Outcome:
    violation: str = ""
    counts: Counter[str] = field(default_factory=Counter)


class Play:
    def __init__(self, setting: Setting, deeds: list[Deed]) -> None:
        self.setting = setting
        self.deeds = deeds
        self.disk = ModelDisk(births=setting.births)
        self.site = Site(self.disk, setting.appends)
        self.site.on_written = self._written
        self.now = 100.0
        self.stored: dict[bytes, bytes] = {}
        self.taken: Counter[bytes] = Counter()  # lines on disk
        self.due: set[bytes] = set()
        self.held_due: set[bytes] = set()  # as long as the source lives
        self.excused: set[bytes] = set()  # there before the source ever looked
        self.counts: Counter[str] = Counter()
        self.globs = GLOBS[setting.globs]
        self.deleted: set[Inode] = set()
        self.calls = 0
        self.within: dict[int, Deed] = {}  # at which call of a look
        self.dies_at = -1
        self.copied_s = 0.0  # since when a copy is being made
        self.disk.before = self._before
        self.following = self._start()

    def run(self) -> Outcome:
        for deed in self.deeds:
            if deed[0] in ("look", "read", "die", "stop", "reboot", "globs", "fail", "limit"):
                getattr(self, "_" + deed[0])(*deed[1:])
            else:
                self._do(deed)
        return self._end()

    # -- the source --------------------------------------------------------------------------

    def _start(self) -> Following:
        setting = self.setting
        options = FollowOptions(
            patterns=self.globs,
            start_at_end=False,
            rescan_s=1.0,
            rotate_wait_s=ROTATE_WAIT_S,
            open_files_max=setting.open_files_max,
            block_size_max=setting.block_size_max,
            event_size_max=1 << 20,
        )
        clock = lambda: 0.0  # noqa: E731
        wall = lambda: self.disk.wall_ns  # noqa: E731
        return Following(options, dict(self.stored), self.disk, wall, clock)

    def _look(
        self,
        steps: int = 1000,
        seconds: float = 2.0,
        within: tuple[Any, ...] = (),
        dies_at: int = -1,
    ) -> None:
        """So many steps of the source, with deeds within them at certain calls."""
        self.now += seconds
        self.disk.passed(seconds)
        self._hurry(seconds)
        first = not self.stored.keys() - {STARTED}
        beside = self._beside() if first else set()
        self.calls, self.within, self.dies_at = 0, dict(within), dies_at
        try:
            trouble = bool(self.disk.fail_next) or self.disk.open_max < OPEN_MAX
            quiet = self._steps(steps) and not within and not trouble
        except Killed:
            self._restart()
            quiet = False
        self.calls, self.within, self.dies_at = 0, {}, -1
        self._note_deleted()
        if first:
            self.excused |= beside | self._beside()
        if quiet:
            for inode in self.disk.names.values():
                inode.truncated = False
            self.due |= self._readable()

    def _hurry(self, seconds: float) -> None:
        """A copy that stands for longer is taken for none."""
        self.copied_s += seconds if self.site.copying else -self.copied_s
        if self.copied_s > COPIED_S_MAX:
            self._do(("copytruncate",))

    def _read(self, seconds: float = 0.05) -> None:
        """Woken by the log alone."""
        self.now += seconds
        self.disk.passed(seconds)
        self._steps(1000, (LOG,))
        self._note_deleted()

    def _steps(self, steps: int, woken: tuple[str, ...] = ()) -> bool:
        """Whether it looked at everything, and came to rest."""
        looked = False
        for _ in range(steps):
            step = self.following.advance(self.now, woken, False, False)
            woken = ()
            looked |= step.looked
            self.counts.update(step.counts)
            self._put(step)
            if not step.block and not step.positions:
                return looked
        return False

    def _put(self, step: Advance) -> None:
        if step.block is not None:
            data = bytes(step.block.data)
            assert data.count(b"\n") == step.block.count
            assert data.endswith(b"\n")
            self.taken.update(data.split(b"\n")[:-1])
            step.positions[step.block.key] = step.block.position
        for key, value in step.positions.items():
            if value is None:
                self.stored.pop(key, None)
            else:
                self.stored[key] = value

    def _restart(self) -> None:
        self.within, self.dies_at = {}, -1
        self.following.close()
        self.held_due -= {line for line in self.held_due if not self.taken[line]}
        for inode in self._inodes():
            inode.watched_until = -1.0
        self.following = self._start()

    def _before(self) -> None:
        self.calls += 1
        if self.calls == self.dies_at:
            raise Killed
        if (deed := self.within.pop(self.calls, None)) is not None:
            self._do(deed)

    # -- the others --------------------------------------------------------------------------

    def _do(self, deed: Deed) -> None:
        if deed[0] == "derive" and self.setting.globs == WIDE:
            return  # it would be a log of its own, at the glob
        if deed == ("rotate", False) and self.setting.globs == WIDE:
            deed = ("rotate", True)  # without the log itself, app.log.1 is one of its own
        if deed[0] == "restore":
            if self.calls:  # within a look: it comes with a reboot
                return
            self.following.close()
        before = self._inodes()
        self.site.do(deed)
        if deed[0] == "restore":
            self._restart()
        self.disk.passed(0.001)
        self.deleted |= {inode for inode in before if not inode.links}
        if not self.calls:
            self._note_deleted()

    def _note_deleted(self) -> None:
        """What the source holds open though it was deleted: not only for a question of its look."""
        for inode in self.deleted:
            if inode.opened and inode.watched_until < 0:
                inode.watched_until = self.now + ROTATE_WAIT_S
                self._hold(inode)
        self.deleted.clear()

    def _inodes(self) -> list[Inode]:
        held = [*self.disk.names.values(), *self.disk.descriptors.values()]
        return list(dict.fromkeys([*held, *([self.site.writer] if self.site.writer else [])]))

    def _written(self, inode: Inode, _: bytes) -> None:
        if not inode.links and self.now < inode.watched_until:
            inode.watched_until = self.now + ROTATE_WAIT_S
            self._hold(inode)

    def _hold(self, inode: Inode) -> None:
        if inode.readable and not inode.truncated:
            self.held_due |= _lines(bytes(inode.data)) - self.excused

    def _die(self) -> None:
        self._restart()

    def _reboot(self) -> None:
        self.disk.device += 1
        self._restart()

    def _globs(self, away: bool) -> None:
        """Another topology, at a restart."""
        self.globs = ELSEWHERE if away else GLOBS[self.setting.globs]
        self._restart()

    def _fail(self, call: str, error: int) -> None:
        self.disk.fail_next[call] = error

    def _limit(self, open_max: int) -> None:
        self.disk.open_max = open_max

    # -- what is to be -----------------------------------------------------------------------

    def _is_log(self, path: str) -> bool:
        if path == LOG:
            return True
        directory, name = path.rsplit("/", 1)
        return directory == "/logs" and is_rotated(name, "app.log")

    def _readable(self) -> set[bytes]:
        """Lines that a look which nothing disturbs has to come by."""
        if self.globs == ELSEWHERE or (LOG not in self.disk.names and self.setting.globs != WIDE):
            return set()
        found: set[bytes] = set()
        for path, inode in self.disk.names.items():
            if inode.readable and self._is_log(path):
                found |= _lines(_unpacked(bytes(inode.data)))
        return found - self.excused

    def _beside(self) -> set[bytes]:
        """What lies beside the log at the very first look, and not at it."""
        beside: set[bytes] = set()
        at: set[bytes] = set()
        for path, inode in self.disk.names.items():
            (at if path == LOG else beside).update(_lines(_unpacked(bytes(inode.data))))
        return beside - at

    def _end(self) -> Outcome:
        """Everything is made readable, and the source has time."""
        self.disk.fail_next.clear()
        self.disk.open_max = OPEN_MAX
        for inode in self._inodes():
            inode.readable = True
        if self.globs == ELSEWHERE:
            self._globs(False)
        if self.site.copying:
            self._do(("copytruncate",))
        for _ in range(QUIET_LOOKS):
            taken = sum(self.taken.values())
            self._look(seconds=ROTATE_WAIT_S)
        late = sum(self.taken.values()) - taken
        return Outcome(self._violation(late), self.counts)

    def _violation(self, late: int) -> str:
        if late:
            return f"{late} lines were read only by the last look"
        whole = {line.rstrip(b"\n") for line in self.site.written}
        lost = sorted((self.due | self.held_due) - set(self.taken))
        if lost:
            return f"lost: {_shown(lost)}"
        doubled = sum(
            (times - 1) * (len(line) + (line[:1] == b"L"))  # the end of a half line was added
            for line, times in self.taken.items()
            if times > 1 and line[:1] in b"LH"
        )
        if doubled > self.counts["bytes_perhaps_doubled"]:
            twice = [line for line, times in self.taken.items() if times > 1 and line[:1] in b"LH"]
            return f"doubled: {_shown(sorted(twice))}"
        torn = [line for line in self.taken if line[:1] == b"L" and line not in whole]
        if torn:
            return f"torn: {_shown(torn)}"
        if any(bytes(HOLE_BYTES_MIN) in line for line in self.taken):
            return "zeros were taken for text"
        if self.disk.descriptors and len(self.disk.descriptors) > len(self._inodes()):
            return "descriptors are left open"
        # Beside those with a file: what went unseen while nothing else was at its path.
        if len(self.following.files) > len(self.disk.names) + 3:
            return f"{len(self.following.files)} generations followed"
        return ""


_OPENERS: Final[dict[bytes, Callable[[], Any]]] = {
    b"\x1f\x8b\x08\0": lambda: zlib.decompressobj(31),
    b"\x28\xb5\x2f\xfd": lambda: zstandard.ZstdDecompressor().decompressobj(),
    b"BZh9": bz2.BZ2Decompressor,
}


def _lines(data: bytes) -> set[bytes]:
    """The unique ones that are whole."""
    found = data.replace(b"\0", b"").split(b"\n")[:-1]
    return {line for line in found if line[:1] == b"L"}


def _unpacked(data: bytes) -> bytes:
    """What there is of it."""
    begun = next((begin for begin in _OPENERS if begin.startswith(data[:4])), b"")
    if not data or not begun:
        return data
    text = b""
    while data := data.lstrip(b"\0"):
        stream = _OPENERS[begun]()
        text += stream.decompress(data)
        data = stream.unused_data
    return text


def _shown(lines: list[bytes]) -> str:
    names = [line[:7].decode() for line in lines[:5]]
    return ", ".join(names) + (f" and {len(lines) - 5} more" if len(lines) > 5 else "")


def random_play(seed: int) -> tuple[Setting, list[Deed]]:
    r = random.Random(seed)
    setting = Setting(
        births=r.random() < 0.7,
        appends=r.random() < 0.7,
        globs=r.choice([0, 0, 1, 2]),
        block_size_max=r.choice([1 << 20, 1 << 20, 40, 800]),
        open_files_max=r.choice([100, 100, 1, 2]),
    )
    deeds: list[Deed] = [random_deed(r) for _ in range(r.randint(0, 3))]
    if setting.globs == WIDE:  # without the log itself, app.log.1 is a log of its own
        deeds = [("lines", 1, 0)]
    deeds.append(_random_look(r))
    share = r.choice([0.2, 0.35, 0.5])
    for _ in range(r.randint(3, 10)):
        deeds.append(_random_look(r) if r.random() < share else random_deed(r))
    if r.random() < 0.3:
        deeds.insert(r.randrange(len(deeds)), _random_trouble(r))
    return setting, deeds


def _random_look(r: random.Random) -> Deed:
    within: tuple[Any, ...] = ()
    if r.random() < 0.35:
        within = tuple((r.randint(1, 60), random_deed(r)) for _ in range(r.randint(1, 2)))
    steps = r.choice([1000, 1000, 1000, 1, 2, 3])
    dies_at = r.randint(1, 60) if r.random() < 0.12 else -1
    return ("look", steps, r.choice([0.2, 2.0, 2.0, 2 * ROTATE_WAIT_S]), within, dies_at)


def _random_trouble(r: random.Random) -> Deed:
    troubles: list[Deed] = [
        ("die",),
        ("reboot",),
        ("globs", True),
        ("globs", False),
        ("fail", r.choice(["pread", "open", "stat", "entries", "fstat"]), r.choice([5, 116])),
        ("limit", r.choice([1, 2])),
    ]
    return r.choice(troubles)
