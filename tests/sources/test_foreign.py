"""What comes to a syslog port and is no syslog text is told, refused and counted."""

import asyncio
import gzip
import zlib

import pytest
import zstandard

from tests.sources.intake import RecordingIntake
from tests.sources.test_syslog import connect, listening, noted, udp
from tests.waiting import eventually
from tiers.sources.foreign import _HEAD_BYTES_MAX, Foreign, compressed_from, foreign

TEXT = b"<34>Oct 11 22:14:15 host app: a message that is long enough to be compressed\n" * 3
HELLO = bytes.fromhex("16030100f0010000ec0303") + bytes(range(200))
RSYSLOG = b"z" + zlib.compress(TEXT)

STRANGERS = {
    "TLS": HELLO,
    "a gzip stream": gzip.compress(TEXT, mtime=0),
    "a zstd stream": zstandard.compress(TEXT),
    "an lz4 stream": b"\x04\x22\x4d\x18" + bytes(40),
    "UTF-16": "\ufeff<34>text\n".encode("utf-16-le"),
    "ZeroMQ": b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48),
    "the PROXY protocol, version 2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12) + TEXT,
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "RELP": b"1 open 85 relp_version=0\nrelp_software=librelp\ncommands=syslog",
    "Lumberjack (Beats)": b"2W\0\0\0\x0a2C\0\0\x10\0" + zlib.compress(TEXT),
    "compressed messages": b"%d %b" % (len(RSYSLOG), RSYSLOG),
    "bytes that are no text": b"\x10\x20\0\x04MQTT\x04",
}
STREAMS = [
    *((name, data) for name, data in STRANGERS.items()),
    *(("a zlib stream", zlib.compress(TEXT, level)) for level in (0, 1, 3, 6, 9)),
    *(("TLS", b"\x16\x03" + bytes([minor]) + bytes(80)) for minor in range(5)),
    ("compressed messages", RSYSLOG),
    ("HTTP", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("HTTP", b"POST /services/collector HTTP/1.1\r\n"),
]
OURS = [
    TEXT, b"123 " + TEXT, b"plain text\n", b"x^2 is a power, and this is a line of text\n" * 3,
    b"GET /a of a user\nand more\n", b"GET\n", b"zx81 is a computer\n", b"SSHD started\n",
    b"1 open door\n", b"2 Workers\n", b"2W of power\n", b"\xef\xbb\xbf<34>text\n",
    b"\r\n\r\n<34>a\n",
    "ünïcode\n".encode(), "ünïcode\n".encode("latin-1"), b"\t at x\n", b"\x1b[31mred\x1b[0m\n",
    b"{\"json\": 1}\0", b"x\n", b"PUT\n", b"5\n", b"",
]  # fmt: skip


@pytest.mark.parametrize(("name", "data"), STREAMS, ids=range(len(STREAMS)))
def test_it_is_told_whatever_comes_at_once(name: str, data: bytes) -> None:
    for size in range(1, len(data) + 1):
        told = foreign(data[:size], final=size == len(data))
        if told is not None:
            break
    assert isinstance(told, Foreign)
    assert told.what == name
    whole = foreign(data, final=True)
    assert isinstance(whole, Foreign)
    assert whole.what == name


@pytest.mark.parametrize("data", OURS, ids=range(len(OURS)))
def test_text_is_taken_whatever_comes_at_once(data: bytes) -> None:
    for size in range(1, len(data) + 1):
        assert foreign(data[:size]) in (None, False)
    assert foreign(data, final=True) is False


@pytest.mark.parametrize("begin", [b"GET /", b"1 open 8", b"1 open 85 relp"])
def test_what_is_long_and_not_told_yet_is_text(begin: bytes) -> None:
    fill = b"9" if begin == b"1 open 8" else b"_"
    assert foreign(begin.ljust(_HEAD_BYTES_MAX - 1, fill)) in (None, False)
    assert foreign(begin.ljust(_HEAD_BYTES_MAX, fill)) is False
    assert foreign(b"GET /".ljust(_HEAD_BYTES_MAX - 1, b"_")) is None


@pytest.mark.parametrize("name", ["TLS", "HTTP", "compressed messages"])
async def test_such_a_connection_is_refused_counted_and_told(name: str) -> None:
    intake = RecordingIntake()
    async with listening(intake, transports=["tcp"]) as source:
        with await connect(source) as stranger, await connect(source) as honest:
            data = STRANGERS[name]
            stranger.send(data[:2])
            await asyncio.sleep(0)
            stranger.send(data[2:])
            await eventually(lambda: noted(source, "connections_foreign"))
            honest.send(TEXT)
            await eventually(lambda: intake.events == 3)
    assert intake.data == TEXT
    assert intake.counters["connections_foreign"] == 1
    assert 0 < intake.counters["connections_foreign_bytes"] <= len(data)
    assert intake.remarks[0].startswith(f"127.0.0.1 sends {name}: refused")


async def test_compressed_messages_behind_a_plain_one_are_refused_too() -> None:
    intake = RecordingIntake()
    async with listening(intake, transports=["tcp"]) as source:
        with await connect(source) as connection:
            connection.send(b"11 <34>a short")
            connection.send((b"%d %b" % (len(RSYSLOG), RSYSLOG)) * 3)
            await eventually(lambda: noted(source, "connections_foreign"))
            await eventually(lambda: source.status()["connections"] == 0)
    assert intake.data == b"<34>a short\n"


def test_text_that_looks_like_a_compressed_message_is_text() -> None:
    assert compressed_from(b"zx81\nzx^2 + 1\nazx\x9c\n") == -1
    assert compressed_from(b"<34>a\n12 " + RSYSLOG + b"\n") == 6


@pytest.mark.parametrize("data", [b"5", b"GET /", b"x", b"\r\n\r\n", b"1 open 5 "])
async def test_what_might_have_been_one_is_put_when_nothing_more_comes(data: bytes) -> None:
    intake = RecordingIntake()
    async with listening(intake, transports=["tcp"]) as source:
        with await connect(source) as connection:
            connection.send(data)
            await eventually(lambda: source.status()["connections"] == 1)
    assert intake.data == (data.strip() and data + b"\n")
    assert not intake.counters["connections_foreign"]


async def test_such_datagrams_are_dropped_and_counted() -> None:
    intake = RecordingIntake()
    async with listening(intake, transports=["udp"]) as source:
        with udp(source) as sender:
            sender.send(RSYSLOG)
            sender.send(HELLO)
            sender.send(b"<1>honest")
            await eventually(lambda: intake.events == 1)
    assert intake.data == b"<1>honest\n"
    assert intake.counters["datagrams_foreign"] == 2
    assert intake.counters["datagrams_foreign_bytes"] == len(RSYSLOG) + len(HELLO)
