"""What every fault test counts and prints: lines accepted, published, missing and doubled, and the
longest pause in publishing. A line is known by its number and compared whole."""

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tiers.trial.numbered_lines import read_blocks

LINE: Final = b"%s %07d the quick brown fox jumps over the lazy dog and is logged once more\n"
GENERATED: Final = b"generated"  # the tag that lines of a generate source are counted under

_WORDS: Final = LINE.partition(b"%07d")[2].rstrip(b"\n")
_LINE: Final = re.compile(
    rb"^(?:(\S+) (\d{7,8})" + _WORDS + rb"|(?:.*\?n=)?[0-9a-f]{8}-0*(\d{1,8})(?:[ ].*)?)$",
    re.MULTILINE,
)
_EXAMPLES: Final = 5


@dataclass
class Count:
    """What became of the lines."""

    accepted: int
    published: int
    missing: int
    doubled: int
    strange: int  # lines that nobody wrote
    examples: list[str] = field(default_factory=list)
    longest_pause_s: float = 0.0
    store: str = ""  # where a test has several
    outside: str = ""  # why what is missing or doubled is outside the promise

    def __str__(self) -> str:
        text = (
            f"accepted {self.accepted}, published {self.published}, missing {self.missing}, "
            f"doubled {self.doubled}, longest pause in publishing {self.longest_pause_s:.1f} s"
        )
        if self.strange:
            text += f", {self.strange} lines that nobody wrote"
        if self.outside:
            text += f" ({self.outside})"
        if self.store:
            text = f"{self.store}: {text}"
        return "\n  ".join([text, *self.examples])

    @property
    def right(self) -> bool:
        return not (self.missing or self.doubled or self.strange)


class Published:
    """The lines of published files. Each file is read once, since it never changes: to be sure of
    what is there in the end, begin anew."""

    def __init__(self) -> None:
        self._times: dict[bytes, bytearray] = {}  # by tag and number: how often
        self._files: set[Path] = set()
        self._lines = 0
        self._foreign = 0
        self._doubled = 0
        self._examples: list[str] = []

    def look(self, files: Iterable[Path]) -> "Published":
        for file in files:
            if file not in self._files:
                self._files.add(file)
                for block in read_blocks(file):
                    self._take(block, file)
        return self

    def _take(self, block: bytes, file: Path) -> None:
        lines = block.count(b"\n") + (not block.endswith(b"\n"))
        self._lines += lines
        for match in _LINE.finditer(block):
            lines -= 1
            written, number, generated = match.groups()
            tag, at = (GENERATED, int(generated) - 1) if generated else (written, int(number))
            times = self._times.setdefault(tag, bytearray())
            if at >= len(times):
                times.extend(bytes(at + 1 - len(times)))
            if times[at]:
                self._doubled += 1
                self._example(f"again in {file}: {match[0][:40].decode()}")
            times[at] = 1
        self._foreign += lines
        if lines:
            self._example(f"lines that nobody wrote in {file}")

    def _example(self, text: str) -> None:
        if len(self._examples) < _EXAMPLES:
            self._examples.append(text)

    def against(self, written: Mapping[bytes, int]) -> Count:
        """`written`: how many lines there are of each tag, numbered from 0."""
        examples = list(self._examples)
        missing, strange = 0, self._foreign
        for tag in {*written, *self._times}:
            accepted, times = written.get(tag, 0), self._times.get(tag, bytearray())
            strange += times.count(1, accepted)
            absent = accepted - times.count(1, 0, accepted)
            if absent:
                first = (times + bytes(1)).find(0)
                examples.append(f"the first missing of {tag.decode()}: {first}")
            missing += absent
        accepted = sum(written.values())
        return Count(accepted, self._lines, missing, self._doubled, strange, examples)


class Pauses:
    """Watches how long nothing is published while lines wait for it. `published` says how many
    files there are by now in each store."""

    def __init__(
        self,
        published: Callable[[], Mapping[str, int]],
        every_s: float = 0.25,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.longest_s: dict[str, float] = {}
        self.ended = 0  # times that lines waited, and do no more
        self._published = published
        self._every_s = every_s
        self._clock = clock
        self._waiting = threading.Event()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def lines_wait(self) -> None:
        """From now on, until `all_is_published`."""
        self._waiting.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def all_is_published(self) -> None:
        self._waiting.clear()

    def close(self) -> None:
        self._over.set()
        self._waiting.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while self._waiting.wait() and not self._over.is_set():
            self._watch()
            self.ended += 1

    def _watch(self) -> None:
        """From the moment when lines wait to the one when none does."""
        begun, last = self._clock(), dict[str, int]()
        since: dict[str, float] = {}
        waiting = True
        while waiting:
            waiting = not self._over.wait(self._every_s) and self._waiting.is_set()
            try:
                found = self._published()
            except Exception as error:
                print(f"  (the store cannot be asked: {type(error).__name__})", flush=True)
                found = last
            now = self._clock()
            for store, files in found.items():
                pause_s = now - since.setdefault(store, begun)
                self.longest_s[store] = max(self.longest_s.get(store, 0.0), pause_s)
                if files != last.get(store, 0):
                    since[store] = now
            last = dict(found)
