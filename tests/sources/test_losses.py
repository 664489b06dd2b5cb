"""What tail tells a person: losses, summed, and what is worth a word."""

import asyncio
from pathlib import Path

import pytest

from tests.sources.intake import RecordingIntake
from tests.sources.test_tail import Follower, append
from tests.waiting import eventually
from tiers.sources.tail.losses import Losses
from tiers.sources.tail.source import Tail, TailOptions


def test_the_first_is_told_at_once_and_the_others_are_summed() -> None:
    losses = Losses()
    assert losses.due(0.0) == ""
    losses.note("/a", 3)
    assert losses.due(1.0) == "/a: 3 bytes were gone before they were read"
    losses.note("/b", 1024)
    losses.note("/c", 512)
    assert losses.due(2.0) == ""
    assert losses.due(62.0) == "1.5 KiB of 2 files were gone before they were read, the last of /c"
    assert losses.due(200.0) == ""


def test_a_log_that_is_truncated_all_the_time_is_a_line_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "app.log"
    follower = Follower(log, block_size_max=10)
    for turn in range(4):
        append(log, b"%d line 1\n%d line 2\n" % (turn, turn))
        follower.now += 2
        assert follower.step().block is not None
        log.write_bytes(b"")
        assert follower.read() == b""
    assert follower.counts["bytes_lost"] == 4 * 9
    first = f"{log}: 9 bytes were gone before they were read"
    assert caplog.messages == [first]
    follower.read(after_s=60)
    summed = f"27 B of 3 files were gone before they were read, the last of {log}"
    assert caplog.messages == [first, summed]


async def test_a_glob_that_finds_nothing_is_a_remark_until_it_does(tmp_path: Path) -> None:
    intake = RecordingIntake()
    options = TailOptions.model_validate(
        {"type": "tail", "paths": [f"{tmp_path}/*.log"], "rescan": "10ms"}
    )
    source = Tail(options)
    task = asyncio.create_task(source.run(intake))
    await eventually(lambda: intake.remarks == [f"no file is at {tmp_path}/*.log"])
    (tmp_path / "a.log").write_text("one\n")
    await eventually(lambda: intake.remarks[-1] == "" and intake.events == 1)
    assert intake.troubles == []
    source.drain()
    await task
