"""What a process says never ends it and never holds it up, wherever it goes."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.waiting import wait_for
from tiers.host.printer import WAITING_BYTES_MAX, Printer

LINE = "x" * 999 + "\n"


def has_ended(printer: Printer) -> None:
    wait_for(lambda: not printer._thread.is_alive(), "its thread has ended")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends; the reader may be closed by a test."""
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        try:
            os.close(end)
        except OSError:
            continue


def test_what_is_said_arrives_in_order(pipe: tuple[int, int]) -> None:
    printer = Printer(pipe[1])
    for number in range(100):
        printer.write(f"{number}\n")
    printer.close()
    assert os.read(pipe[0], 65536).decode().split() == [str(number) for number in range(100)]


@pytest.mark.parametrize("blocking", [True, False])
def test_a_reader_that_sleeps_holds_nobody_up_and_hears_later_what_was_dropped(
    pipe: tuple[int, int], blocking: bool
) -> None:
    reader, writer = pipe
    os.set_blocking(writer, blocking)
    os.set_blocking(reader, False)
    printer = Printer(writer)
    for _ in range(3 * WAITING_BYTES_MAX // len(LINE)):
        printer.write(LINE)
    assert WAITING_BYTES_MAX // 2 < printer._waiting_bytes <= WAITING_BYTES_MAX
    heard = bytearray()

    def hears(end: bytes) -> bool:
        with suppress(BlockingIOError):
            heard.extend(os.read(reader, 65536))
        return heard.endswith(end)

    printer.write("awake\n")
    wait_for(lambda: hears(b" pieces of output were dropped)\nawake\n"), "it is said", 60)
    assert len(heard) < 2 * WAITING_BYTES_MAX
    printer.close()
    has_ended(printer)


def test_the_end_waits_for_no_reader_either(pipe: tuple[int, int]) -> None:
    printer = Printer(pipe[1])
    for _ in range(200):
        printer.write(LINE)
    printer.close(patience_s=0.01)
    assert printer._thread.is_alive()
    os.close(pipe[0])
    wait_for(lambda: not printer._thread.is_alive(), "it ends with its reader")


def test_a_reader_that_is_gone_ends_nobody(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    printer = Printer(writer)
    for _ in range(10):
        printer.write(LINE)
    printer.close()
    assert printer.isatty() is False


def test_a_closed_descriptor_and_a_full_disk_end_nobody(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    for descriptor in (full, 999):
        printer = Printer(descriptor)
        printer.write(LINE)
        assert printer.isatty() is False
        printer.close()
        has_ended(printer)
    os.close(full)


def test_a_terminal_that_hung_up_ends_nobody() -> None:
    ours, theirs = os.openpty()
    printer = Printer(theirs)
    assert printer.isatty()
    printer.write("hello\n")
    assert os.read(ours, 100) == b"hello\r\n"
    os.close(ours)
    printer.write("anybody there?\n")
    printer.close()
    has_ended(printer)
    os.close(theirs)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_text_that_the_encoding_has_no_word_for(pipe: tuple[int, int], encoding: str) -> None:
    printer = Printer(pipe[1], encoding)
    printer.write("日本 \udcff\n")
    printer.close()
    assert os.read(pipe[0], 100).endswith(b" \\udcff\n")
