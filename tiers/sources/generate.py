"""The `generate` source: numbered lines, at a rate or as fast as they go.

For trying tiers out and for load. Every line is unique over all agents: it carries the *run* (8
random hex digits, chosen once and kept with the position) and its number, which goes on where it
stopped after a restart. Lines differ enough to compress like real ones.

Making lines one by one would be slower than everything after it. So a thousand lines at a time
are made from a *sheet*: a thousand finished lines with their last three digits in place, where
only the thousands and the time of day are filled in.
"""

import asyncio
import random
import secrets
import time
from collections.abc import Mapping
from typing import ClassVar, Final, Literal

import msgpack
from pydantic import Field

from tiers.contracts import Intake
from tiers.core.block import Block
from tiers.core.progress import Work
from tiers.sources.source import SourceOptions
from tiers.units import Size

_POSITION: Final = b"next"
_SHEET_LINES: Final = 1000
_SHEETS: Final = 16  # more text than zstd's window at level 1, so that sheets do not match
_NUMBER: Final = b"\0" * 18  # run, "-" and the thousands (9 digits), filled in
_TIME: Final = b"\1" * 20  # 23/Nov/2026:09:20:31
_TICK_S: Final = 0.01  # at a rate, lines due within this time go together
_MONTHS: Final = "JanFebMarAprMayJunJulAugSepOctNovDec"


class GenerateOptions(SourceOptions):
    """Keys of a `generate` source in the topology file."""

    rate: float = Field(default=0, ge=0, le=1e9)  # events per second; 0 = as fast as they go
    count: int = Field(default=0, ge=0, le=2**62)  # events in all, over restarts; 0 = endless
    size: Size = Field(default=170, ge=1, le=64 * 1024)  # bytes per line, about
    format: Literal["access", "numbers"] = Field(
        default="access", description="`access` (access-log lines) or `numbers`"
    )


class Generate:
    """Puts lines numbered from 1. After its `count` it is done, and idle until cancelled."""

    Options: ClassVar[type[SourceOptions]] = GenerateOptions

    def __init__(self, options: GenerateOptions) -> None:
        self._options = options
        self._sheets: list[_Sheet] = []
        self._next = 1
        self._run = ""
        self._first, self._started_s = 1, time.monotonic()  # of this life
        self._draining = asyncio.Event()

    def drain(self) -> None:
        self._draining.set()

    def status(self) -> dict[str, object]:
        count = self._options.count
        left = max(count + 1 - self._next, 0) if count else None
        return {"run": self._run, "produced": self._next - 1, "left": left}

    def unread_bytes(self) -> None:
        return None

    def work(self) -> Mapping[str, Work]:
        if self._ended() or self._last_due() < self._next:
            return {}
        return {"": Work("lines are due", self._next)}

    async def run(self, intake: Intake) -> None:
        self._run, self._next = _restore(intake.positions)
        self._first, self._started_s = self._next, time.monotonic()
        size = min(self._options.size, intake.event_size_max)
        self._sheets = [_Sheet(self._options.format, size, seed) for seed in range(_SHEETS)]
        while not self._ended():
            due = self._last_due()
            if due < self._next:
                await self._pause()
                continue
            block, end = self._block(due, intake.block_size_max)
            # What is put is never doubled nor lost: the next number rides with the lines.
            position = msgpack.packb([self._run, end])
            lines = Block(block, end - self._next, self._options.headers)
            await intake.put(lines, {_POSITION: position})
            self._next = end
            await asyncio.sleep(0)  # a put that never waits would starve the loop
        await self._draining.wait()

    def _ended(self) -> bool:
        if self._options.count:
            return self._next > self._options.count
        return self._draining.is_set()

    def _last_due(self) -> int:
        """The highest number that may go now: counted from the start, so there is no drift."""
        last = self._options.count or 2**62
        if self._options.rate:
            elapsed_s = time.monotonic() - self._started_s
            last = min(last, self._first + int(elapsed_s * self._options.rate))
        return last

    async def _pause(self) -> None:
        due_s = self._started_s + (self._next - self._first) / self._options.rate - time.monotonic()
        wait_s = max(due_s, _TICK_S)
        if self._options.count:
            await asyncio.sleep(wait_s)
            return
        try:  # endless: draining ends it at once
            async with asyncio.timeout(wait_s):
                await self._draining.wait()
        except TimeoutError:
            pass

    def _block(self, last: int, size_max: int) -> tuple[bytes, int]:
        """Lines `self._next` to at most `last`, and the number after them."""
        stamp = _stamp(time.time())
        parts: list[bytes] = []
        number, room = self._next, size_max
        while number <= last:
            thousands, low = divmod(number, _SHEET_LINES)
            sheet = self._sheets[thousands % _SHEETS]
            high = min(_SHEET_LINES, low + last + 1 - number)
            taken = sheet.fitting(low, high, room)
            if taken == low and parts:
                break
            taken = max(taken, low + 1)  # one line always goes, even above size_max
            part = sheet.lines(low, taken, f"{self._run}-{thousands:09d}".encode(), stamp)
            parts.append(part)
            room -= len(part)
            number += taken - low
        return b"".join(parts), number


def _restore(positions: Mapping[bytes, bytes]) -> tuple[str, int]:
    position = positions.get(_POSITION)
    if position is None:
        return secrets.token_hex(4), 1
    run, number = msgpack.unpackb(position)
    return run, number


def _stamp(now: float) -> bytes:
    # Not strftime("%b"): its month names follow the locale.
    t = time.gmtime(now)
    return (
        f"{t.tm_mday:02d}/{_MONTHS[3 * t.tm_mon - 3 : 3 * t.tm_mon]}/{t.tm_year:04d}"
        f":{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}"
    ).encode()


class _Sheet:
    """A thousand lines; line i ends its number with the three digits of i."""

    def __init__(self, form: str, size: int, seed: int) -> None:
        make = _access_line if form == "access" else _number_line
        rng = random.Random(seed)
        self._text = b""
        self._starts = [0]
        lines = []
        for low in range(_SHEET_LINES):
            lines.append(make(rng, b"%b%03d" % (_NUMBER, low), size))
            self._starts.append(self._starts[-1] + len(lines[-1]))
        self._text = b"".join(lines)

    def fitting(self, low: int, high: int, size: int) -> int:
        """The largest `end` up to `high` such that lines low to end-1 have at most `size` bytes."""
        starts = self._starts
        if starts[high] - starts[low] <= size:
            return high
        end = low
        while starts[end + 1] - starts[low] <= size:
            end += 1
        return end

    def lines(self, low: int, high: int, number: bytes, stamp: bytes) -> bytes:
        text = self._text[self._starts[low] : self._starts[high]]
        return text.replace(_NUMBER, number).replace(_TIME, stamp)


def _number_line(rng: random.Random, number: bytes, size: int) -> bytes:
    padding = size - len(number) - 2
    return b"%b %b\n" % (number, _letters(rng, padding)) if padding > 0 else number + b"\n"


def _access_line(rng: random.Random, number: bytes, size: int) -> bytes:
    """As nginx writes it in its combined format; `n` in the query is the unique number."""
    address = b"%d.%d.%d.%d" % tuple(rng.randrange(1, 255) for _ in range(4))
    page = rng.choice((b"cart", b"item", b"search", b"login", b"static/app.js", b"img/logo.png"))
    status = rng.choices((200, 304, 404, 302, 500), (80, 10, 5, 4, 1))[0]
    agent = rng.choice((b"Firefox/140.0", b"Chrome/139.0.0.0", b"Safari/605.1.15", b"curl/8.14.1"))
    head = b'%b - - [%b +0000] "GET /%b?n=%b HTTP/1.1" %d %d "-" "Mozilla/5.0 (%b) %b' % (
        address,
        _TIME,
        page,
        number,
        status,
        rng.randrange(100, 60_000),
        rng.choice((b"X11; Linux x86_64", b"Windows NT 10.0; Win64; x64", b"Macintosh")),
        agent,
    )
    padding = size - len(head) - 3
    return head + (b" " + _letters(rng, padding) if padding > 0 else b"") + b'"\n'


def _letters(rng: random.Random, count: int) -> bytes:
    return b"%0*x" % (count, rng.getrandbits(4 * count)) if count > 0 else b""
