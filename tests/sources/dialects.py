"""What devices and programs send over TCP, as reported by users of syslog servers, and what must
come of it however it is cut into segments."""

from typing import NamedTuple

from tiers.sources.framing import Kind

ONE = b"<34>1 2003-10-11T22:14:15.003Z host app 1 - - first"
TWO = "<34>1 2003-10-11T22:14:15.003Z host app 2 - - blåbær 日本".encode()
THREE = b"<165>Oct 11 22:14:15 host app[3]: third 7"
TRACE = b'<11>app: boom\nTraceback (most recent call last):\n  File "a.py", line 1\nValueError: 1'
TRACED = TRACE.replace(b"\n", b"#012")
BOM = b"\xef\xbb\xbf"


def counted(message: bytes, wrong_by: int = 0) -> bytes:
    return b"%d %b" % (len(message) + wrong_by, message)


def in_characters(message: bytes) -> bytes:
    return b"%d %b" % (len(message.decode()), message)


class Dialect(NamedTuple):
    name: str
    stream: bytes
    events: list[bytes]
    odd: int = 0
    kind: Kind = "auto"


_ALL = counted(ONE) + counted(TWO) + counted(THREE)
_LINES = [ONE, TWO, THREE]

DIALECTS = [
    # -- octet counting
    Dialect("RFC 6587", _ALL, _LINES),
    Dialect("LF behind", b"".join(counted(m) + b"\n" for m in _LINES), _LINES),
    Dialect("CRLF behind", b"".join(counted(m) + b"\r\n" for m in _LINES), _LINES),
    Dialect("NUL behind", b"".join(counted(m) + b"\0" for m in _LINES), _LINES),
    Dialect("LF counted", b"".join(counted(m + b"\n") for m in _LINES), _LINES),
    Dialect("spaces before", b" " + counted(ONE) + b"  " + counted(TWO), [ONE, TWO]),
    Dialect("a tab before", b"\t" + counted(ONE) + b"\t" + counted(TWO), [ONE, TWO]),
    Dialect("leading zeros", b"00" + counted(ONE) + b"0" + counted(TWO), [ONE, TWO]),
    Dialect("empty frames", b"0 " + counted(ONE) + b"0 00 " + counted(TWO), [ONE, TWO]),
    Dialect("empty lines between", counted(ONE) + b"\n\r\n\0\n" + counted(TWO), [ONE, TWO]),
    Dialect("byte order mark first", BOM + _ALL, _LINES),
    Dialect("byte order mark counted", counted(BOM + ONE) + counted(TWO), [BOM + ONE, TWO]),
    Dialect("a priority alone", counted(b"<34>") + counted(ONE), [b"<34>", ONE]),
    Dialect("LF inside", counted(TRACE) + counted(ONE), [TRACED, ONE]),
    Dialect("a message that quotes one", counted(b"<1>" + _ALL) + _ALL, [b"<1>" + _ALL, *_LINES]),
    Dialect("one cut off", counted(ONE) + counted(TWO)[:30], [ONE, TWO[:27]], 1),
    # -- counts that are wrong
    Dialect(
        "counts of characters",
        b"".join(map(in_characters, [TWO, TWO, ONE, TWO, THREE])),
        [TWO[:-6], TWO[-6:], TWO, ONE, TWO, THREE],
        1,
    ),
    Dialect(
        "counts of characters and LF",
        b"".join(in_characters(m) + b"\n" for m in [ONE, TWO, TWO]),
        [ONE, TWO[:-6], TWO[-6:], TWO],
        1,
    ),
    Dialect(
        "one too small",
        counted(ONE, -3) + counted(TWO) + counted(THREE),
        [ONE[:-3], ONE[-3:], TWO, THREE],
        1,
    ),
    Dialect(
        "all too small",
        b"".join(counted(m, -2) for m in _LINES),
        [piece for m in _LINES for piece in (m[:-2], m[-2:])],
        3,
    ),
    Dialect(
        "one too large, by digits of the next",
        counted(ONE, 2) + counted(TWO) + counted(THREE),
        [ONE + b"61", TWO, THREE],
        1,
    ),
    Dialect(
        "one too large, by a count",
        counted(ONE, 3) + counted(TWO) + counted(THREE),
        [ONE + b"61 ", TWO, THREE],
    ),
    Dialect(
        "one too large, into a priority",
        counted(ONE, 5) + counted(TWO) + counted(THREE),
        [ONE + b"61 <3", TWO, THREE],
        1,
    ),
    Dialect(
        "one too large, into a text",
        counted(ONE, 30) + counted(TWO) + counted(THREE),
        [ONE + counted(TWO)[:30], TWO, THREE],
        1,
    ),
    Dialect(
        "one too large, by two messages",
        counted(ONE, 70) + counted(TWO) + counted(THREE),
        [ONE + (counted(TWO) + counted(THREE))[:70], TWO, THREE],
        1,
    ),
    Dialect(
        "a digit taken away, what is left is a count",
        counted(THREE, 1) + counted(ONE + b"x" * 80) + counted(TWO),
        [THREE + b"1", (ONE + b"x" * 80)[:31], ONE + b"x" * 80, TWO],
        1,
    ),
    Dialect(
        "a digit taken away from the last",
        counted(THREE, 1) + counted(ONE + b"x" * 80),
        [THREE + b"1", (ONE + b"x" * 80)[:31], ONE + b"x" * 80],
        1,
    ),
    Dialect(
        "what was read twice is not read a third time",
        counted(TWO)
        + counted(ONE)
        + b"26 <1>a 90 <2>bbbbb 12 <3>cc"
        + b"z" * 110
        + b"\n"
        + counted(TWO),
        [
            *(TWO, ONE),
            *(b"<1>a 90 <2>bbbbb 12 <3>ccz", b"<2>bbbbb 12 <3>cc" + b"z" * 73, b"z" * 37, TWO),
        ],
        2,
    ),
    Dialect(
        "one never fulfilled",
        counted(ONE, 5000) + counted(TWO) + counted(THREE),
        _LINES,
        1,
    ),
    Dialect(
        "one never fulfilled, lines behind",
        counted(ONE, 500) + b"\n" + TWO + b"\n" + THREE,
        _LINES,
        1,
    ),
    Dialect(
        "nonsense",
        counted(ONE) + b"9999999999 " + TWO + counted(ONE),
        [ONE, b"9999999999 " + TWO, ONE],
        1,
    ),
    Dialect(
        "too many digits",
        b"1" * 30 + b" " + ONE + b"\n" + counted(TWO),
        [b"1" * 12, b"1" * 18 + b" " + ONE, TWO],
    ),
    Dialect(
        "two spaces behind",
        b"51  " + ONE + b"61  " + TWO + counted(THREE),
        [b"51  " + ONE, b"61  " + TWO, THREE],
    ),
    Dialect("no space behind", b"51" + ONE + b"61" + TWO, [b"51" + ONE, b"61" + TWO]),
    Dialect("a sign", b"-51 " + ONE + counted(TWO), [b"-", ONE, TWO]),
    Dialect("no count", counted(ONE) + TWO + counted(ONE), [ONE, TWO, ONE]),
    # -- what looks like a count, and is none
    Dialect("digits and a bracket first", b"123 <456\nnext 7\n", [b"123 <456", b"next 7"]),
    Dialect(
        "digits and no priority first",
        b"12 <456> items left\nand a line\n" + ONE + b"\n",
        [b"12 <456> items left", b"and a line", ONE],
    ),
    Dialect(
        "digits and no priority in a line",
        ONE + b"\n12 <456> items left\nand a line\n",
        [ONE, b"12 <456> items left", b"and a line"],
    ),
    Dialect(
        "counted without priorities",
        b"12 <event>a</ev10 <event>b</",
        [b"<event>a</ev", b"<event>b</"],
    ),
    Dialect("one counted without a priority", b"12 <event>a</ev", [b"<event>a</ev"]),
    Dialect(
        "a zero and digits in lines",
        b"0 5 * * * a\n0 0 1 * * b\n",
        [b"0 5 * * * a", b"0 0 1 * * b"],
    ),
    # -- CR alone
    Dialect("CR", b"\r".join(_LINES), _LINES),
    Dialect("CR at the end too", b"\r".join(_LINES) + b"\r", _LINES),
    Dialect(
        "CR, and an LF in one",
        b"\r".join([ONE, TRACE, TWO, ONE]) + b"\r",
        [ONE, TRACED, TWO, ONE],
    ),
    Dialect("CR within a message", ONE + b" 10%\r20%\n" + TWO + b"\n", [ONE + b" 10%\r20%", TWO]),
    # -- newline framing
    Dialect("LF", b"\n".join(_LINES) + b"\n", _LINES),
    Dialect("no LF at the end", b"\n".join(_LINES), _LINES),
    Dialect("CRLF", b"\r\n".join(_LINES), [ONE + b"\r", TWO + b"\r", THREE]),
    Dialect("LF CR", b"\n\r".join(_LINES), _LINES),
    Dialect("empty lines", b"\n\r\n" + b"\n\n\n".join(_LINES) + b"\n\n", _LINES),
    Dialect("the first alone has a priority", ONE + b"\n at x\n at y", [ONE, b" at x", b" at y"]),
    Dialect("a priority alone in a line", b"<34>\n<35>\n", [b"<34>", b"<35>"]),
    Dialect("byte order marks", BOM + ONE + b"\n" + BOM + TWO + b"\n", [BOM + ONE, BOM + TWO]),
    Dialect("a zero, no priority", b"0 <b>\n", [b"0 <b>"]),
    Dialect("no priority", b"plain\ntext 7\n 1 <2\n", [b"plain", b"text 7", b" 1 <2"]),
    Dialect(
        "lines that begin with digits",
        b"192.168.0.1 GET /\n2026-11-23 text\n5 <b>x</b>\n",
        [b"192.168.0.1 GET /", b"2026-11-23 text", b"5 <b>x</b>"],
    ),
    Dialect(
        "lines without a priority between",
        ONE + b"\n" + TWO + b"\n  at x\n5 <b>\n" + ONE + b"\n",
        [ONE, TWO, b"  at x", b"5 <b>", ONE],
    ),
    # -- NUL
    Dialect("SysLogHandler", TRACE + b"\0" + ONE + b"\0" + TRACE + b"\0", [TRACED, ONE, TRACED]),
    Dialect("old logger", ONE + b"\0\n" + TWO + b"\0\n" + THREE + b"\0\n", _LINES),
    Dialect("LF NUL", ONE + b"\n\0" + TWO + b"\n\0" + THREE + b"\n\0", _LINES),
    Dialect("ScreenOS", b"\0".join(_LINES), _LINES),
    Dialect(
        "one stray NUL",
        b"<34>abc\0def\n" + b"\n".join(_LINES) + b"\nx\n" + ONE + b"\n",
        [b"<34>abc", b"def", *_LINES, b"x", ONE],
    ),
    Dialect(
        "lines behind one that ends with NUL",
        ONE + b"\0" + TWO + b"\n" + THREE + b"\n" + TWO,
        [*_LINES, TWO],
    ),
    Dialect(
        "NULs behind lines",
        b"\n".join(_LINES) + b"\n" + ONE + b"\0" + TRACE + b"\0" + TWO,
        [*_LINES, ONE, TRACED, TWO],
    ),
    # -- mixed
    Dialect(
        "counted and lines",
        counted(ONE)
        + TWO
        + b"\n"
        + THREE
        + b"\n"
        + counted(ONE)
        + counted(TWO)
        + THREE
        + b"\r\n"
        + counted(ONE),
        [ONE, TWO, THREE, ONE, TWO, THREE + b"\r", ONE],
    ),
    Dialect(
        "counted and NUL",
        counted(ONE) + TRACE + b"\0" + counted(TWO),
        [ONE, *TRACE.split(b"\n"), TWO],
    ),
    Dialect(
        "counted behind NUL",
        TRACE + b"\0" + counted(ONE) + TRACE + b"\0",
        [TRACED, ONE, *TRACE.split(b"\n")],
    ),
    # -- told by option
    Dialect("newline", _ALL + b"\n" + ONE + b"\n\n" + TWO, [_ALL, ONE, TWO], kind="newline"),
    Dialect(
        "nul",
        TRACE + b"\0\n" + ONE + b"\n" + TWO + b"\0\0" + _ALL,
        [TRACED, ONE + b"#012" + TWO, _ALL],
        kind="nul",
    ),
    Dialect("octet", b"3 abc" + b"5 12 <3" + counted(ONE), [b"abc", b"12 <3", ONE], kind="octet"),
]
