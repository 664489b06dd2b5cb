"""Lines to try tiers out with, and counting them again at the other end.

`AccessLog` writes the access log of a web server that never was, each line with its number.
`Tally` compares the lines that went in with those that came out as multisets, by a 64-bit hash of
each whole line (Python's own, SipHash, keyed anew in each process), so a changed byte counts as a
line that is missing and one that nobody wrote. The hashes are kept in files, split by value, and
compared a part at a time: memory stays the same for any number of lines.
"""

import errno
import zlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import zstandard

from tiers.host.decompressed import pieces

BLOCK_BYTES: Final = 1 << 20
_PARTS: Final = 64
_CODECS: Final = {".gz": "gzip", ".zst": "zstd"}
_FLUSH_HASHES: Final = 1 << 13
_TEMPLATE: Final = (
    b"%d.%d.%d.%d - - [%b:%02d +0000] "
    b'"%b %b?id=%010d HTTP/1.1" %d %d "https://%b/" "Mozilla/5.0 (%b) Firefox/%d.0" %08x\n'
)
_METHODS: Final = (*[b"GET"] * 17, b"POST", b"PUT", b"HEAD")
_STATUSES: Final = (*[200] * 34, 301, 302, 304, 304, 404, 500)
_SYSTEMS: Final = (
    b"X11; Linux x86_64",
    b"Windows NT 10.0; x64",
    b"Macintosh; OS X 14",
    b"iPhone; iPhone OS 17_5",
)


class AccessLog:
    """Lines of about 170 bytes that compress about as real ones do. The same seed gives the same
    lines. Numbers go from 0."""

    def __init__(self, seed: int) -> None:
        self._random = random = Random(seed)
        self._next = 0
        self._paths = tuple(
            b"/" + b"/".join(_word(random) for _ in range(random.randint(1, 2)))
            for _ in range(2000)
        )
        self._hosts = tuple(b"%b.test" % _word(random) for _ in range(200))

    def block(self, count: int) -> bytes:
        """The next `count` lines."""
        values: list[int | bytes] = []
        for number in range(self._next, self._next + count):
            values += self._line(number)
        self._next += count
        return (_TEMPLATE * count) % tuple(values)

    def blocks(self, count: int, lines: int = 4000) -> Iterator[bytes]:
        """The next `count` lines, `lines` of them at a time."""
        while count > 0:
            yield self.block(min(lines, count))
            count -= lines

    def _line(self, number: int) -> tuple[int | bytes, ...]:
        # One large random number a line, taken apart: several times faster than a call for each.
        bits = self._random.getrandbits(140)
        second = number // 5000  # of the day that the log is about
        return (
            *(bits & 127 | 64, bits >> 7 & 255, bits >> 15 & 255, bits >> 23 & 255),
            b"23/Nov/2026:%02d:%02d" % (second // 3600 % 24, second // 60 % 60),
            second % 60,
            _METHODS[(bits >> 31 & 0xFF) % len(_METHODS)],
            # The product of two even spreads favours the low numbers, as visitors do.
            self._paths[(bits >> 39 & 0x7FF) * (bits >> 50 & 0x7FF) * 2000 >> 22],
            number,
            _STATUSES[(bits >> 61 & 0xFF) % len(_STATUSES)],
            bits >> 69 & 0xFFFF,
            self._hosts[(bits >> 85 & 0xFF) * (bits >> 93 & 0xFF) * 200 >> 16],
            _SYSTEMS[bits >> 101 & 3],
            90 + (bits >> 103 & 31),
            bits >> 108 & 0xFFFFFFFF,
        )


def read_blocks(file: Path, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """What a file holds, in blocks of whole lines of about `block_bytes`, opened by its extension
    (`.gz`, `.zst`). A last line without its newline comes as it is. OSError where it cannot be
    read to its end, with the name of the file."""
    rest = b""
    for piece in _told(file, _pieces(file, block_bytes)):
        whole, newline, tail = piece.rpartition(b"\n")
        if newline:
            yield b"".join((rest, whole, newline))
            rest = tail
        else:
            rest += piece
    if rest:
        yield rest


def _told(file: Path, pieces: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from pieces
    except (EOFError, zlib.error, zstandard.ZstdError) as error:
        raise OSError(errno.EBADMSG, str(error), str(file)) from error


def _pieces(file: Path, block_bytes: int) -> Iterator[bytes]:
    with file.open("rb") as raw:
        yield from pieces(raw, _CODECS.get(file.suffix, "none"), block_bytes)


@dataclass(frozen=True, slots=True)
class Difference:
    """How the lines that came out differ from those that went in."""

    missing: int  # went in and did not come out
    surplus: int  # came out more often than they went in
    foreign: int  # came out and never went in: damaged, or from elsewhere


class Tally:
    """Counts lines going in and coming out. `directory` is empty, and is so again in the end."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.written = 0
        self.found = 0
        self._parts = {side: [array("q") for _ in range(_PARTS)] for side in ("written", "found")}

    def add_written(self, block: bytes) -> None:
        """Whole lines that went in; the last may lack its newline."""
        self.written += self._add("written", block)

    def add_found(self, block: bytes) -> None:
        """Whole lines that came out."""
        self.found += self._add("found", block)

    def compare(self) -> Difference:
        """What differs. Empties the directory; ends this tally."""
        missing = surplus = foreign = 0
        for part in range(_PARTS):
            written = Counter(self._take("written", part))
            found = Counter(self._take("found", part))
            missing += sum((written - found).values())
            for line, more in (found - written).items():
                if line in written:
                    surplus += more
                else:
                    foreign += more
        self._directory.rmdir()
        return Difference(missing, surplus, foreign)

    def _add(self, side: str, block: bytes) -> int:
        lines = block.split(b"\n")
        if not lines[-1]:
            lines.pop()
        parts = self._parts[side]
        for value in map(hash, lines):
            parts[value % _PARTS].append(value)
        for number, part in enumerate(parts):
            if len(part) >= _FLUSH_HASHES:
                self._flush(side, number, part)
        return len(lines)

    def _flush(self, side: str, number: int, part: "array[int]") -> None:
        with (self._directory / f"{side}-{number}").open("ab") as file:
            part.tofile(file)
        del part[:]

    def _take(self, side: str, number: int) -> Iterable[int]:
        values, self._parts[side][number] = self._parts[side][number], array("q")
        file = self._directory / f"{side}-{number}"
        if file.exists():
            values.frombytes(file.read_bytes())
            file.unlink()
        return values


def _word(random: Random) -> bytes:
    syllables = (b"ka", b"lo", b"mi", b"ter", b"san", b"du", b"pre", b"vo", b"ne", b"gri", b"st")
    return b"".join(random.choice(syllables) for _ in range(random.randint(2, 3)))
