"""The counts of octet counting (RFC 6587, section 3.4.1) as devices write them.

    MSG-LEN SP MSG                          the standard:  "83 <34>1 2003-10-11T22:14:15.003Z"
    " 83 <34>"  "0083 <34>"  "83 BOM <34>"  understood as well

A count is believed only before "<": a line of text may begin with digits.
"""

import re
from typing import Final

FRAME_BYTES_MAX: Final = 64 * 1024 * 1024  # no message is longer; a count above it is nonsense
HEADER_BYTES_MAX: Final = 64  # nothing that is looked for around a count is longer
_BOM: Final = rb"(?:\xef\xbb\xbf)?"
_SPACES: Final = rb"[ \t]{0,8}"
_DIGITS_MAX: Final = 18
_DIGITS: Final = rb"[0-9]{1,18}"

EXACT: Final = re.compile(rb"[\r\n\0]{0,2}([1-9][0-9]{0,6}) <")
HEADER: Final = re.compile(_BOM + _SPACES + b"(" + _DIGITS + b") (?=" + _BOM + b"<)")
BARE_HEADER: Final = re.compile(_BOM + _SPACES + b"(" + _DIGITS + b") ")
# What may become a header once more has come.
_BOM_BEGUN: Final = rb"(?:\xef\xbb?|\xef\xbb\xbf)?"
_ZEROS: Final = rb"(?:0{1,18} ){0,8}"  # counts of empty messages
HEADER_BEGUN: Final = re.compile(
    _BOM_BEGUN + _SPACES + _ZEROS + b"(?:" + _DIGITS + b"(?: " + _BOM_BEGUN + rb")?)?\Z"
)
# What is between messages. A zero is an empty message only before another count.
NOTHING: Final = re.compile(rb"(?:[\r\n\0]|0{1,18} (?=" + _ZEROS + _DIGITS + b" " + _BOM + b"<))*")
BEGINS: Final = re.compile(_BOM + b"<")
PRIORITY: Final = re.compile(_BOM + b"<[0-9]{1,3}>")
PRIORITY_BEGUN: Final = re.compile(_BOM_BEGUN + rb"(?:<[0-9]{0,3})?\Z")
# One that RFC 5424 knows, 0 to 191: what a line of text has behind digits is mostly none.
_VALID: Final = rb"<0{0,2}(?:1[0-8][0-9]|19[01]|[0-9]{1,2})>"
_VALID_PRIORITY: Final = re.compile(_BOM + _VALID)
EXACT_VALID: Final = re.compile(rb"[\r\n\0]{0,2}[1-9][0-9]{0,6} (?=" + _VALID + b")")
_PRIORITY_BYTES_MAX: Final = 8
# Where a message begins, in the midst of what was taken for another one: stricter.
_COUNTED: Final = rb"[0-9] {0,4}" + _BOM + b"<[0-9]{1,3}>"
BEGINNING: Final = re.compile(b"(?:" + _COUNTED + rb")|\n" + _BOM + b"<[0-9]{1,3}>")
# Behind a count that is not believed the message goes on to the next one.
OWN_COUNT: Final = re.compile(_BOM + _SPACES + _DIGITS + b" {0,4}" + _BOM + b"<[0-9]{1,3}>")
# A CR alone is an end where a message begins behind it; within one it is none.
_CR: Final = rb"\r(?=" + _BOM + b"<[0-9]{1,3}>)"
LINE_END: Final = re.compile(rb"[\n\0]")
LINE_OR_CR_END: Final = re.compile(rb"[\n\0]|" + _CR)
TEXT_END: Final = re.compile(rb"[\n\0]|" + _CR + b"|" + _COUNTED)
# An LF that ends a message, where one may hold LFs: the next message begins behind it.
NEXT_BEGINS: Final = re.compile(
    rb"\0|"
    + _CR
    + rb"|\n[\r\n]{0,8}(?="
    + _BOM
    + b"<[0-9]{1,3}>|"
    + _SPACES
    + _DIGITS
    + b" "
    + _BOM
    + b"<)"
)
_BEFORE_MESSAGE: Final = (b" <", b" \xef\xbb\xbf<")  # rare in lines, so looked for first
_LINE_BEGINS: Final = re.compile(rb"\n\r{0,8}" + _ZEROS + _BOM + _SPACES + _DIGITS + rb" {0,3}\Z")
_CONTINUATION: Final = bytes(range(0x80, 0xC0))  # UTF-8: bytes of a character but its first


def whole_frames(data: bytes, begin: int, size_max: int) -> tuple[list[bytes], int, int]:
    """Plainly counted messages that are there whole, of at most `size_max`; where the last of
    them begins, and where it ends. The one loop that runs for each message: keep it short."""
    frames = []
    available, match, last = len(data), EXACT.match, begin
    while header := match(data, begin):
        start = header.end() - 1
        length = int(header[1])
        end = start + length
        if length > size_max or end > available or length < _PRIORITY_BYTES_MAX:
            break
        frames.append(data[start:end])
        begin, last = end, start
    return frames, last, begin


def is_count(data: bytes, start: int, length: int, known: bool) -> bool | None:
    """Whether `length`, behind which a message begins at `start`, may be its count: not where it
    ends within the "<34>" of that message. Unless it is `known` that messages are counted here,
    such a priority must be there. None: more must come to tell."""
    if length >= _PRIORITY_BYTES_MAX and known:
        return True
    if found := (PRIORITY if known else _VALID_PRIORITY).match(data, start):
        return found.end() - start <= length
    return None if PRIORITY_BEGUN.match(data, start) else known


def counted_line(data: bytes, begin: int, end: int) -> int:
    """Where the first line between them ends behind which there seems to be a count; `end` where
    there is none."""
    for before in _BEFORE_MESSAGE:
        at = begin
        while (at := data.find(before, at, end + HEADER_BYTES_MAX)) >= 0:
            if line := _LINE_BEGINS.search(data, max(begin, at - 32), at):
                end = min(end, line.start() + 1)
                break
            at += 1
    return end


def without_count(datagram: bytes) -> bytes:
    """Some count their datagrams too: logger with both --udp and --octet-count."""
    header = EXACT.match(datagram) if datagram[:1].isdigit() else None
    if header and len(datagram) - (header.end() - 1) == int(header[1]):
        return datagram[header.end() - 1 :]
    return datagram


def digits_begin(data: bytes, at: int, least: int) -> int:
    """Where the digits begin that stand right before `at`, at most 18, not before `least`."""
    least = max(least, at - _DIGITS_MAX)
    while at > least and 0x30 <= data[at - 1] <= 0x39:
        at -= 1
    return at


def continuations(data: bytes) -> int:
    """How many bytes it has more than characters, in UTF-8."""
    return 0 if data.isascii() else len(data) - len(data.translate(None, _CONTINUATION))


def characters_end(data: bytes, begin: int, count: int) -> int:
    """Where `count` characters of UTF-8 end, rests of one cut before `begin` left out; -1 where
    they are not all there."""
    at = begin
    while at < len(data) and data[at] & 0xC0 == 0x80:
        at += 1
    while count:
        piece = data[at : at + count]
        if len(piece) < count:
            return -1
        at += count
        count = continuations(piece)
    lead = at - 1
    while lead > begin and data[lead] & 0xC0 == 0x80:
        lead -= 1
    if lead >= begin and data[lead] >= 0xC0:
        at = max(at, lead + (2 if data[lead] < 0xE0 else 3 if data[lead] < 0xF0 else 4))
    return at if at <= len(data) else -1
