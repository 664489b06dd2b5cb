"""The tail source as the agent runs it: its watch, its thread, its way into the intake."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.sources.intake import RecordingIntake
from tests.sources.test_tail import append
from tests.waiting import eventually
from tiers.sources.tail.source import Tail, TailOptions


def make(*paths: Path | str, **keys: Any) -> Tail:
    options = {"type": "tail", "paths": [str(path) for path in paths], **keys}
    return Tail(TailOptions.model_validate(options))


@asynccontextmanager
async def running(source: Tail, intake: RecordingIntake) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(source.run(intake))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def taken(intake: RecordingIntake, data: bytes) -> Callable[[], bool]:
    return lambda: intake.data == data


async def test_the_watch_notices_long_before_the_rescan(tmp_path: Path) -> None:
    intake, log = RecordingIntake(), tmp_path / "app.log"
    append(log, b"1\n")
    source = make(tmp_path / "**" / "*.log", rescan="1h", rotate_wait="50ms")
    async with running(source, intake):
        await eventually(taken(intake, b"1\n"))
        # Until the watch is up, what it misses waits for the rescan: knock until it answers.
        await eventually(lambda: append(log, b"k\n") or intake.events > 1)  # type: ignore[func-returns-value]
        await eventually(lambda: intake.data == log.read_bytes())
        log.rename(tmp_path / "app.log.1")
        append(log, b"2\n")
        await eventually(lambda: intake.data.endswith(b"k\n2\n"), "a rotation")
        (tmp_path / "new").mkdir()
        await eventually(lambda: source.status()["watched_directories"] == 2)
        log.unlink()
        append(tmp_path / "b.log", b"3\n")
        await eventually(lambda: intake.data.endswith(b"3\n"), "a new file")


async def test_without_a_watch_the_rescan_finds_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_watch(*_: object, **__: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr("tiers.sources.tail.watching.INotify", no_watch)
    intake, log = RecordingIntake(), tmp_path / "app.log"
    async with running(make(log, rescan="10ms"), intake):
        append(log, b"1\n")
        await eventually(taken(intake, b"1\n"))
        append(log, b"2\n")
        await eventually(taken(intake, b"1\n2\n"))
        await eventually(lambda: "limit reached" in intake.last_trouble)


async def test_the_path_as_a_header(tmp_path: Path) -> None:
    intake, log = RecordingIntake(), tmp_path / "app.log"
    append(log, b"1\n")
    source = make(log, headers={"service": "web"}, file_header="file")
    source.drain()
    await source.run(intake)
    put = next(put for put in intake.puts if put.count)
    assert put.headers == {"service": "web", "file": str(log)}
    assert source._options.header_names() == {"service", "file"}


async def test_reading_goes_at_most_one_block_ahead(tmp_path: Path) -> None:
    intake, log = RecordingIntake(block_size_max=6), tmp_path / "app.log"
    append(log, b"12345\n" * 20)
    intake.close_gate()
    source = make(log)
    async with running(source, intake):
        await eventually(lambda: intake.waiting == 1 and source.status()["backlog_bytes"])
        intake.open_gate()
        await eventually(taken(intake, log.read_bytes()))
        await eventually(lambda: source.status()["backlog_bytes"] == 0)
        assert source.status()["behind"] == {str(log): 0}


async def test_descriptors_are_closed_when_cancelled(tmp_path: Path) -> None:
    def open_logs() -> list[str]:
        targets = [link.resolve() for link in Path("/proc/self/fd").iterdir()]
        return [str(target) for target in targets if target.parent == tmp_path]

    intake = RecordingIntake()
    for i in range(3):
        append(tmp_path / f"{i}.log", b"1\n")
    async with running(make(tmp_path / "*.log"), intake):
        await eventually(lambda: intake.events == 3)
        assert len(open_logs()) == 3
    await eventually(lambda: not open_logs())


async def test_when_it_ends_nothing_of_it_goes_on(tmp_path: Path) -> None:
    intake, log = RecordingIntake(), tmp_path / "app.log"
    append(log, b"1\n")
    source = make(log)
    task = asyncio.create_task(source.run(intake))
    await eventually(lambda: intake.events == 1 and source.status()["watched_directories"] == 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_between_looks_it_waits_until_it_is_woken_or_it_is_time(tmp_path: Path) -> None:
    source = make(tmp_path / "app.log")
    task = asyncio.create_task(source._pause(time.monotonic() + 60))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    source._wake.set()
    await task
    source._wake.clear()
    await source._pause(time.monotonic() - 1)
    source.drain()
    source._wake.clear()
    await source._pause(time.monotonic() + 60)


async def test_it_waits_for_the_time_that_a_look_has_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def pause(_: Tail, until: float) -> None:
        waits.append(until)
        await asyncio.Event().wait()

    monkeypatch.setattr(Tail, "_pause", pause)
    begun = time.monotonic()
    async with running(make(tmp_path / "app.log", rescan="60s"), RecordingIntake()):
        await eventually(lambda: waits != [])
    assert len(waits) == 1
    assert waits[0] >= begun + 60


async def test_stopped_anywhere_with_rotations_takes_every_line_once(tmp_path: Path) -> None:
    """A full channel stops it after a few puts; it is cancelled, and files are rotated on."""
    log = tmp_path / "app.log"
    written: list[bytes] = []
    taken_lines: list[bytes] = []
    stored: dict[bytes, bytes] = {}
    append(log, b"first\n")
    for life in range(60):
        intake = RecordingIntake(stored, block_size_max=60)
        intake.close_gate(after_puts=1 + life % 5)
        source = make(log)
        source.drain()
        async with running(source, intake) as task:
            await eventually(lambda t=task, i=intake: t.done() or i.waiting)  # type: ignore[misc]
        stored = intake.stored
        taken_lines += intake.lines
        for i in range(7):
            written.append(b"life %d line %d\n" % (life, i))
            append(log, written[-1])
            if (life + i) % 5 == 0:
                log.rename(tmp_path / f"app.log.{life:03d}{i}")
    intake = RecordingIntake(stored)
    source = make(log)
    source.drain()
    await source.run(intake)
    assert sorted(taken_lines + intake.lines) == sorted([b"first\n", *written])


def test_wrong_options_are_refused() -> None:
    wrong: list[dict[str, Any]] = [{"paths": []}, {"paths": [""]}, {"path": "x"}]
    for keys in [*wrong, {"rescan": 0}, {"start": "middle"}]:
        with pytest.raises(ValidationError):
            TailOptions.model_validate({"type": "tail", "paths": ["/x"], **keys})


async def test_a_directory_that_is_replaced_is_watched_anew(tmp_path: Path) -> None:
    """Its path stays, what the watch has is gone: without the other, the rescan would be it."""
    intake, logs = RecordingIntake(), tmp_path / "logs"
    logs.mkdir()
    append(logs / "app.log", b"1\n")
    source = make(logs / "*.log", rescan="1h", rotate_wait="50ms")
    async with running(source, intake):
        await eventually(taken(intake, b"1\n"))
        await eventually(lambda: append(logs / "app.log", b"k\n") or intake.events > 1)  # type: ignore[func-returns-value]
        before = dict(source._watched)
        logs.rename(tmp_path / "old")
        logs.mkdir()
        append(logs / "app.log", b"new\n")
        await eventually(lambda: intake.data.endswith(b"new\n"), "a new directory")
        await eventually(lambda: source._watched != before)
        append(logs / "app.log", b"more\n")
        await eventually(lambda: intake.data.endswith(b"new\nmore\n"), "it is watched")


async def test_status_and_work_say_what_is_unread_and_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake, log = RecordingIntake(), tmp_path / "app.log"
    append(log, b"1\nunfinished")

    def refuse(descriptor: int, length: int, offset: int) -> bytes:
        raise OSError(5, "Input/output error")

    source = make(tmp_path / "*.log", rescan="10ms")
    assert list(source.work()) == [""]
    before_ms = time.time_ns() // 1_000_000 - 1
    async with running(source, intake):
        await eventually(taken(intake, b"1\n"))
        await eventually(lambda: not source.unread_bytes(), "it is being written")
        assert source.status()["backlog_bytes"] == len("unfinished")
        monkeypatch.setattr(os, "pread", refuse)
        append(log, b" now\n2\n")
        await eventually(lambda: "Input/output error" in intake.last_trouble)
        await eventually(lambda: str(log) in source.work(), "it is due")
        problems: Any = source.status()["problems"]
        assert before_ms <= problems[0]["since"] <= time.time_ns() // 1_000_000
        monkeypatch.undo()
        await eventually(lambda: intake.data == b"1\nunfinished now\n2\n")
        await eventually(lambda: source.status()["problems"] == [] and not intake.last_trouble)
