"""Where one syslog message ends and the next begins, over TCP as devices speak it.

RFC 6587 knows three ways to frame messages. Devices mix them, and misspell each:

    octet counting    MSG-LEN SP MSG MSG-LEN SP MSG ...   "83 <34>1 2003-10-11T22:14:15.003Z"
    newline framing   MSG LF MSG LF ...                   "<34>Oct 11 22:14:15 mymachine su:"
    another end       MSG NUL MSG NUL ...                 Python's SysLogHandler; LFs are inside

So `Mixed` asks anew wherever a message may begin, and an oddity costs at most the odd message:

    CR, LF, NUL, "0 "     ends of no message: skipped
    a count before "<"    that many bytes, at once. Where no message begins behind them, the count
                          was wrong: see `_wrong_count`. Where nothing was counted yet and no
                          priority follows, only once a message begins behind them: see `_proven`
    anything else         to the next LF or NUL, or to a CR with "<34>" behind it; right behind a
                          counted message also to the next count. Whether an LF ends a message or is
                          inside is told by what ended those before: NUL, or LF with a beginning
                          ("<34>") behind it

Every decision is made by bytes and not by how they arrive. Only where all that has arrived ends in
an LF and nothing has told yet what it means, `quiet` says that no more comes now.
"""

import re
from enum import Enum, auto
from typing import Final

from tiers.sources import counts
from tiers.sources.blocks import as_block, as_events, cut, inner

_BLANK: Final = re.compile(rb"\n[\r\n]+")
_LF: Final = 0x0A
_CR: Final = 0x0D
_ENDS: Final = (b"\n", b"\0", b">")  # the last byte of all that ends an uncounted message
_RECALL_BYTES_MAX: Final = 64 * 1024  # a longer message is not read again with another count


class _Lf(Enum):
    """What an LF is on this connection, by the last end of a message that told."""

    UNKNOWN = auto()
    ENDS = auto()
    IS_INSIDE = auto()


class _Now(Enum):
    """Where the reading is."""

    BETWEEN = auto()  # a message begins here
    BEHIND_COUNTED = auto()  # a message begins here, if the last count was right
    IN_COUNTED = auto()  # a long counted message leaves in pieces
    IN_TEXT = auto()  # a long uncounted message leaves in pieces


class Mixed:
    """Counted or not, message by message: a `Reader`.

    data:  | recalled ... | last counted message | unread ... |
                          ^_from                 ^_at
    """

    def __init__(self, event_size_max: int, header: re.Pattern[bytes] = counts.HEADER) -> None:
        self._event_size_max = event_size_max
        self._header = header
        self._data = b""
        self._at = 0
        self._unjoined: list[bytes] = []
        self._held_bytes = 0
        self._needs = 0  # bytes held without which nothing can be told
        self._or_end = False  # or one of `_ENDS`
        self._now = _Now.BETWEEN
        self._lf = _Lf.UNKNOWN
        self._text_end = counts.TEXT_END  # of the uncounted message that is being read
        self._ended_by_nul = False  # the last message
        self._cr_ends = False  # a CR alone has ended a message
        self._counting = False  # no LF or NUL has ended a message since the last counted one
        self._in_characters = False  # its counts are of characters, not of bytes
        self._from = 0  # where the last counted message begins
        self._lacking = 0  # characters that it has less than bytes
        self._other_counts: list[int] = []  # those it would have with digits before, if any
        self._not_again = 0  # what was read twice is not read a third time
        self._left = 0  # bytes of a counted message that leaves in pieces
        self._searched = 0  # no end of the message begins before
        self._events: list[bytes] = []
        self._blocks: list[bytes] = []
        self.split = self.odd = self.odd_bytes = 0
        self.waits = False

    @property
    def held_bytes(self) -> int:
        return self._held_bytes - min(self._at, counts.HEADER_BYTES_MAX)

    def feed(self, data: bytes) -> bytes:
        # A long message that comes in small parts is not joined anew with each of them.
        self._unjoined.append(data)
        self._held_bytes += len(data)
        told = self._held_bytes >= self._needs
        if told or (self._or_end and any(end in data for end in _ENDS)):
            return self._read()
        return b""

    def quiet(self) -> bytes:
        return self._read(quiet=True)

    def finish(self) -> bytes:
        return self._read(quiet=True, final=True)

    def _read(self, quiet: bool = False, final: bool = False) -> bytes:
        self._data = b"".join((self._data, *self._unjoined))
        self._unjoined = []
        self.waits = False
        self._needs = 0
        while self._at < len(self._data) and self._step(quiet, final):
            pass
        self._settle()
        self._forget()
        blocks, self._blocks = self._blocks, []
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def _step(self, quiet: bool, final: bool) -> bool:
        """Reads a message, or many, or a piece of one; False when more must come first."""
        if self._now is _Now.IN_COUNTED:
            return self._counted_piece(final)
        if self._now is _Now.IN_TEXT:
            return self._text(self._at, quiet, final)
        nothing = counts.NOTHING.match(self._data, self._at)
        if nothing and nothing.end() > self._at:
            self._at, self._now = nothing.end(), _Now.BETWEEN
            return True
        known = self._counting or self._header is counts.BARE_HEADER
        plain = known or counts.EXACT_VALID.match(self._data, self._at)
        if plain and not self._in_characters and self._plainly_counted():
            return True
        header = self._header.match(self._data, self._at)
        believed: bool | None = False
        if header and 0 < (length := int(header[1])) <= counts.FRAME_BYTES_MAX:
            believed = counts.is_count(self._data, header.end(), length, known)
            if believed is False and self._lf is _Lf.UNKNOWN:
                believed = self._proven(header.end(), length, quiet or final)
                self.waits |= believed is None
            if believed or (believed is None and final):
                return self._counted(header.end(), length, final)
        if not final and (believed is None or counts.HEADER_BEGUN.match(self._data, self._at)):
            return False
        return self._uncounted(quiet, final)

    def _proven(self, start: int, length: int, at_once: bool) -> bool | None:
        """Whether the first thing on a connection, digits and "<" without a priority, is a counted
        message, by what is behind it: another, or nothing. None: more must come to tell."""
        end = start + length
        if not length or (at_once and end > len(self._data)):
            return False
        return self._begins(end, at_once)

    # -- counted -------------------------------------------------------------------------------

    def _plainly_counted(self) -> bool:
        frames, last, end = counts.whole_frames(self._data, self._at, self._event_size_max - 1)
        if frames:
            self._events += as_events(frames)
            self._is_behind(last, end)
        return bool(frames)

    def _is_behind(self, start: int, end: int) -> None:
        """A counted message is out."""
        self._from, self._at, self._now = start, end, _Now.BEHIND_COUNTED
        self._counting, self._ended_by_nul = True, False
        self._lacking = counts.continuations(self._data[start:end])
        digits = self._data[counts.digits_begin(self._data, start - 1, 0) : start - 1]
        others = (int(digits[first:]) for first in reversed(range(len(digits))))
        self._other_counts = [n for n in others if end - start < n <= _RECALL_BYTES_MAX]

    def _counted(self, start: int, length: int, final: bool) -> bool:
        if length >= self._event_size_max:
            self.split += 1
            self._left, self._at, self._now = length, start, _Now.IN_COUNTED
            return True
        end = start + length
        if self._in_characters:
            end = counts.characters_end(self._data, start, length)
        if 0 <= end <= len(self._data):
            self._events += as_events([self._data[start:end]])
            self._is_behind(start, end)
            return True
        self._now = _Now.BETWEEN  # one begins here: the count before was right
        self._needs, self._or_end = start + length, False
        if final:
            self._unfulfilled(start)
        return final

    def _counted_piece(self, final: bool) -> bool:
        size = min(self._left, self._event_size_max - 1)
        piece = self._data[self._at : self._at + size]
        if len(piece) < size and not final:
            return False
        begin, self._at = self._at, self._at + len(piece)
        self._left -= len(piece)
        # Only the last piece ends where the message does.
        if self._left and not final:
            self._events.append(inner(piece))
        else:
            self._events += as_events([piece])
            self._is_behind(begin, self._at)
            self._lacking, self._other_counts = 0, []
        return True

    def _unfulfilled(self, start: int) -> None:
        """The connection has ended within a counted message: it was cut off, or its count was
        wrong and others are in it."""
        found = counts.BEGINNING.search(self._data, start + 1)
        end = len(self._data) if found is None else self._beginning(found, start + 1)
        self._events += as_events([self._data[start:end]])
        self._is_odd(end - start)
        self._at = self._searched = end
        self._counting = True

    def _beginning(self, found: re.Match[bytes], least: int) -> int:
        if self._data[found.start()] == _LF:
            return found.start() + 1
        return counts.digits_begin(self._data, found.start() + 1, least)

    def _is_odd(self, size: int) -> None:
        self.odd += 1
        self.odd_bytes += size

    def _wrong_count(self, at_once: bool) -> bool:
        """Behind a counted message begins none, so its count was wrong. In this order:

        1. It counts characters: so many more, then one begins. Believed from now on.
        2. More digits belong to it, which a count too large before took away.
        3. It took the beginning of another message with it: read on from there.
        4. What is here is the rest of the odd one.

        The message itself is out already: what 2 and 3 read again is put a second time."""
        data, at = self._data, self._at
        size = at - self._from
        found = counts.TEXT_END.search(data, at)
        if self._lacking and not self._in_characters:
            end = counts.characters_end(data, at, self._lacking)
            begins = self._begins(end, at_once) if end >= 0 else found is not None or at_once
            if begins is None or (end < 0 and not begins):
                return self._wait()
            if begins and end >= 0 and (found is None or found.start() >= end):
                self._in_characters = True
                self._is_odd(size)
                self._events += as_events([data[at:end]])
                self._at, self._now = end, _Now.BETWEEN
                return True
        for other in self._other_counts:
            end = self._from + other
            begins = self._begins(end, at_once)
            if begins is None:
                return self._wait()
            if begins:
                self._is_odd(size)
                self._not_again = end
                self._events += as_events([data[self._from : end]])
                self._is_behind(self._from, end)
                return True
        if len(data) - at < counts.HEADER_BYTES_MAX and found is None and not at_once:
            return self._wait()
        least = max(self._from + 1, self._not_again, 0)
        again = counts.BEGINNING.search(data, least, at + counts.HEADER_BYTES_MAX)
        self._is_odd(size)
        self._now, self._in_characters = _Now.BETWEEN, False
        if again is not None and (begin := self._beginning(again, least)) < at:
            self._not_again = at
            self._at = self._searched = begin
        return True

    def _begins(self, at: int, at_once: bool) -> bool | None:
        """Whether a message may begin there, or has ended; None: more must come to tell."""
        data = self._data
        if at >= len(data):
            return at == len(data) if at_once else None
        if data[at] in b"\r\n\0" or counts.PRIORITY.match(data, at) or self._header.match(data, at):
            return True
        begun = counts.HEADER_BEGUN.match(data, at) or counts.PRIORITY_BEGUN.match(data, at)
        return None if begun and not at_once else False

    def _wait(self) -> bool:
        self.waits = True
        return False

    # -- not counted ---------------------------------------------------------------------------

    def _uncounted(self, quiet: bool, final: bool) -> bool:
        begins = counts.BEGINS.match(self._data, self._at) is not None
        if self._now is _Now.BEHIND_COUNTED and not begins:
            return self._wrong_count(quiet or final)
        if self._ended_by_nul and begins:
            self._lf = _Lf.IS_INSIDE
        self._ended_by_nul, self._now = False, _Now.BETWEEN
        own = counts.OWN_COUNT.match(self._data, self._at)
        if not self._counting and self._lf is _Lf.ENDS:  # as of lines that came with others
            self._text_end = counts.LINE_OR_CR_END if self._cr_ends else counts.LINE_END
        elif self._counting or own or (self._lf is _Lf.UNKNOWN and not begins):
            self._text_end = counts.TEXT_END
        else:
            self._text_end = counts.NEXT_BEGINS
        return self._text(own.end() if own else self._at, quiet, final)

    def _text(self, begin: int, quiet: bool, final: bool) -> bool:
        """A message without a count: the search for its end goes on from `begin`."""
        data, at, size_max = self._data, self._at, self._event_size_max - 1
        if self._text_end is counts.LINE_END and self._lines():
            return True
        searched = self._searched - counts.HEADER_BYTES_MAX
        found = self._text_end.search(data, max(begin, searched))
        end = at if found is None else self._end(found, begin)
        too_long = len(data) - at > size_max + counts.HEADER_BYTES_MAX
        if end - at > size_max or (found is None and too_long):
            if self._lf_ends():
                return True
            self.split += self._now is not _Now.IN_TEXT
            self._events.append(inner(data[at : at + size_max]))
            self._at, self._now = at + size_max, _Now.IN_TEXT
            return True
        if found is None:
            open_end = self._text_end is counts.NEXT_BEGINS and data[-1] == _LF
            if (final or (quiet and open_end)) and self._lf_ends(quiet and not final):
                return True
            cr_end = data[-1] == _CR and (self._cr_ends or self._lf is _Lf.UNKNOWN)
            open_end |= cr_end
            if not final and not (quiet and cr_end):
                self._searched = len(data)
                self._needs, self._or_end = at + size_max + counts.HEADER_BYTES_MAX, True
                return self._wait() if open_end else False
            end = len(data) - cr_end
        self._events += as_events([data[at:end]])
        self._at, self._now = end, _Now.BETWEEN
        if end < len(data) and data[end] == _CR:
            self._at += 1
            self._counting, self._cr_ends = False, True
        elif found is not None and data[end] in b"\n\0":
            self._at += 1
            self._counting, self._ended_by_nul = False, not data[end]
            if data[end] == _LF:
                self._lf = _Lf.ENDS
        return True

    def _end(self, found: re.Match[bytes], begin: int) -> int:
        if self._data[found.start()] in b"\n\0\r":
            return found.start()
        return counts.digits_begin(self._data, found.start() + 1, begin)

    def _lf_ends(self, certainly: bool = False) -> bool:
        """Nothing tells what an LF is: take it for an end, and read again. False when it is known
        already."""
        if self._text_end is not counts.NEXT_BEGINS or not (certainly or self._lf is _Lf.UNKNOWN):
            return False
        end = counts.LINE_OR_CR_END if self._cr_ends else counts.LINE_END
        self._lf, self._text_end, self._searched = _Lf.ENDS, end, self._at
        return True

    def _lines(self) -> bool:
        """Whole lines, without going line by line: up to a NUL, and to one that is counted."""
        data, at = self._data, self._at
        nul = data.find(b"\0", at)
        stop = data.rfind(b"\n", at, nul if nul >= 0 else len(data)) + 1
        if stop <= at:
            return False
        stop = counts.counted_line(data, at, stop)
        block = data[at:stop]
        if b"\n\n" in block or b"\n\r" in block:
            block = _BLANK.sub(b"\n", block)
        piece = cut(block, self._event_size_max, self._now is _Now.IN_TEXT)
        self.split += piece.split
        self._settle()
        self._blocks.append(bytes(piece.block))
        self._at, self._now, self._lf = stop, _Now.BETWEEN, _Lf.ENDS
        return True

    # -- what was read -------------------------------------------------------------------------

    def _settle(self) -> None:
        block, split = as_block(self._events, self._event_size_max)
        self.split += split
        self._events = []
        if block:
            self._blocks.append(block)

    def _forget(self) -> None:
        """What was read, but for what a wrong count may have taken with it."""
        keep = self._at - counts.HEADER_BYTES_MAX
        if self._now is _Now.BEHIND_COUNTED:
            least = max(self._from + 1, self._not_again, 0)
            found = counts.BEGINNING.search(self._data, least, self._at)
            if found is not None:
                keep = min(keep, self._beginning(found, least))
            if self._other_counts:
                keep = min(keep, self._from)
        if keep > 0:
            self._data = self._data[keep:]
            self._at -= keep
            self._from -= keep
            self._not_again = max(0, self._not_again - keep)
            self._searched = max(0, self._searched - keep)
            self._needs -= keep
        self._held_bytes = len(self._data)
