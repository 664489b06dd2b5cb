"""What was accepted against what is published, line by line, in a byte per line."""

import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tiers.lines import read_blocks

_LINE: Final = re.compile(rb"^(\S+) (\d+) the quick brown fox [^\n]*$", re.MULTILINE)


@dataclass
class Count:
    """Of lines, as tests/faults/cluster.py writes them."""

    accepted: int = 0
    published: int = 0
    missing: int = 0
    doubled: int = 0
    strange: int = 0  # lines that nobody wrote
    examples: list[str] = field(default_factory=list)
    longest_pause_s: float = 0.0

    def __str__(self) -> str:
        text = (
            f"accepted {self.accepted}, published {self.published}, missing {self.missing}, "
            f"doubled {self.doubled}, longest pause in publishing {self.longest_pause_s:.1f} s"
        )
        if self.strange:
            text += f", {self.strange} lines that nobody wrote"
        return "\n  ".join([text, *self.examples])

    @property
    def right(self) -> bool:
        return not (self.missing or self.doubled or self.strange)


def count(written: dict[bytes, int], files: Iterable[Path]) -> Count:
    """`written`: how many lines each edge wrote, numbered from 0."""
    seen = {tag: bytearray(lines) for tag, lines in written.items()}
    found = Count(accepted=sum(written.values()))
    for file in files:
        for block in read_blocks(file):
            lines = block.count(b"\n")
            found.published += lines
            for match in _LINE.finditer(block):
                lines -= 1
                tag, number = match[1], int(match[2])
                counts = seen.get(tag)
                if counts is None or number >= len(counts):
                    found.strange += 1
                    continue
                if counts[number]:
                    found.doubled += 1
                    if len(found.examples) < 5:
                        found.examples.append(f"again in {file}: {match[0].decode()[:40]}")
                counts[number] = min(255, counts[number] + 1)
            found.strange += lines
    for tag, counts in seen.items():
        absent = counts.count(0)
        found.missing += absent
        if absent:
            found.examples.append(f"the first missing of {tag.decode()}: {counts.index(0)}")
    return found


class Pauses:
    """Watches how long nothing is published. `published` counts what is there now."""

    def __init__(self, published: Callable[[], int], every_s: float = 0.5) -> None:
        self.longest_s = 0.0
        self._published = published
        self._every_s = every_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Pauses":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        last, since = -1, time.monotonic()
        while not self._end.wait(self._every_s):
            try:
                now = self._published()
            except Exception as error:
                now = last
                print(f"  (the store cannot be asked: {type(error).__name__})", flush=True)
            if now != last:
                last, since = now, time.monotonic()
            self.longest_s = max(self.longest_s, time.monotonic() - since)
