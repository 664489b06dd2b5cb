"""What comes to a syslog port and is no syslog text: other protocols, compressed streams.

Kept as lines it would be rubbish that nobody notices, and its sender believes that all is well. So
it is told by the first bytes of a connection, or of a datagram:

    16 03           a record of TLS                1f 8b 08        gzip
    78 01|5e|9c|da  zlib (RFC 1950)                28 b5 2f fd     zstd (RFC 8878)
    ff fe, fe ff    UTF-16                         "z" and zlib    one message of rsyslog's
"""

import re
import zlib
from typing import Final, NamedTuple

_HEAD_BYTES_MAX: Final = 4096  # by then it is told
_PROBE_BYTES: Final = 64  # of what may be zlib, and may be text
_PRIORITY: Final = ord("<")


class Foreign(NamedTuple):
    what: str
    todo: str


_PLAIN_TCP: Final = "let it send plain TCP, or put a proxy before this port that ends TLS"
_NO_COMPRESSION: Final = 'turn its compression off (rsyslog: compression.mode="none", ziplevel="0")'
_ELSEWHERE: Final = "let it send to another port"
_MARKS: Final = (
    *((b"\x16\x03" + bytes([minor]), Foreign("TLS", _PLAIN_TCP)) for minor in range(5)),
    (b"\x1f\x8b\x08", Foreign("a gzip stream", _NO_COMPRESSION)),
    (b"\x28\xb5\x2f\xfd", Foreign("a zstd stream", _NO_COMPRESSION)),
    (b"\x04\x22\x4d\x18", Foreign("an lz4 stream", _NO_COMPRESSION)),
    (b"\xff\xfe", Foreign("UTF-16", "let it send UTF-8")),
    (b"\xfe\xff", Foreign("UTF-16", "let it send UTF-8")),
    (b"\xff" + bytes(7), Foreign("ZeroMQ", "an agent's peer is at another port")),
    (
        b"\r\n\r\n\0\r\nQUIT\n",
        Foreign("the PROXY protocol, version 2", "leave it out (send-proxy)"),
    ),
    (b"SSH-", Foreign("SSH", _ELSEWHERE)),
    *(
        (bytes([version, kind]) + bytes(2), Foreign("Lumberjack (Beats)", _ELSEWHERE))
        for version in b"12"
        for kind in b"WCJD"
    ),
)
_ZLIB: Final = re.compile(rb"x[\x01\x5e\x9c\xda]")
_ZLIB_STREAM: Final = Foreign("a zlib stream", _NO_COMPRESSION)
_ONE_COMPRESSED: Final = re.compile(rb"(?:[0-9]{1,9} )?z(?=x[\x01\x5e\x9c\xda])")
_ONE_COMPRESSED_BEGUN: Final = re.compile(rb"(?:[0-9]{1,9}(?: z?)?|zx?|[0-9]{1,9} zx)\Z")
_ONE_LATER: Final = re.compile(rb"^(?:[0-9]{1,9} )?z(?=x[\x01\x5e\x9c\xda])", re.MULTILINE)
COMPRESSED: Final = Foreign("compressed messages", _NO_COMPRESSION)
_METHODS: Final = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"OPTIONS ", b"CONNECT ", b"PRI ")
_REQUEST: Final = re.compile(rb"[A-Z]+ [^\r\n ]+ HTTP/[0-9.]+\r?\n")
_HTTP: Final = Foreign("HTTP", "let a check of this port open a connection and say nothing")
_RELP: Final = re.compile(rb"[0-9]{1,9} open [0-9]+ relp_version=")
_RELP_BEGUN: Final = re.compile(
    rb"[0-9]{1,9}(?: (?:o|op|ope|open(?: [0-9]{0,9}(?: [a-z_]{0,12})?)?)?)?\Z"
)
_RELP_SAID: Final = Foreign("RELP", "let it send plain TCP (rsyslog: omfwd)")
_BINARY: Final = Foreign("bytes that are no text", "see what sends them")
_NOT_FIRST: Final = frozenset((*range(1, 9), 11, 12, *range(14, 27), *range(28, 32), 127))


def foreign(head: bytes, final: bool = False) -> Foreign | bool | None:
    """What it is that begins like this; False where it may be syslog, None where more must come to
    tell. `final`: no more comes for now."""
    if not head:
        return False if final else None
    if head[0] == _PRIORITY or len(head) >= _HEAD_BYTES_MAX:
        return False
    for mark, found in _MARKS:
        if head.startswith(mark):
            return found
        if mark.startswith(head) and not final:
            return None
    if _ZLIB.match(head):
        return _zlib(head, final)
    if one := _ONE_COMPRESSED.match(head):
        told = _zlib(head[one.end() :], final)
        return COMPRESSED if isinstance(told, Foreign) else told
    if _REQUEST.match(head):
        return _HTTP
    if _RELP.match(head):
        return _RELP_SAID
    if head[0] in _NOT_FIRST:
        return _BINARY
    if final:
        return False
    return None if _is_begun(head) else False


def compressed_from(block: bytes) -> int:
    """Where the first compressed message begins among events; -1 where there is none. rsyslog
    leaves short messages as they are, so it need not be the first of its connection."""
    if b"zx" not in block:
        return -1
    for one in _ONE_LATER.finditer(block):
        # A line may begin with "zx^"; the other marks are no text.
        if block[one.end() + 1] != ord("^") or isinstance(_zlib(block[one.end() :], True), Foreign):
            return one.start()
    return -1


def _zlib(data: bytes, final: bool) -> Foreign | bool | None:
    """A text may begin with "x^": it does not open."""
    if len(data) < _PROBE_BYTES and not final:
        return None
    try:
        zlib.decompressobj().decompress(data[:_PROBE_BYTES], _HEAD_BYTES_MAX)
    except zlib.error:
        return False
    return _ZLIB_STREAM


def _is_begun(head: bytes) -> bool:
    """Whether it may become one of those that are told by more than a mark."""
    if head == b"x" or _ONE_COMPRESSED_BEGUN.match(head) or _RELP_BEGUN.match(head):
        return True
    if any(method.startswith(head) for method in _METHODS):
        return True
    return head.startswith(_METHODS) and b"\n" not in head
