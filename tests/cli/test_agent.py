"""`tiers agent`, as a process of its own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import wait_for
from tiers.trial.demo import published_files

TOPOLOGY = """
name = "one"
[tiers.all]
agents = ["node"]
[[tiers.all.sources]]
type = "tail"
paths = ["{root}/*.log"]
[[tiers.all.sinks]]
type = "directory"
root = "{root}/out"
roll_after = "10ms"
"""
LINE = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ node .+")


def published_lines(root: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in published_files(root))


def append_and_wait(root: Path, lines: int) -> None:
    """Appends a line to the log; returns once `lines` are published."""
    with (root / "a.log").open("ab") as log:
        log.write(b"line\n")
    wait_for(lambda: published_lines(root / "out") >= lines, f"{lines} lines are published")


@contextmanager
def agent(root: Path) -> Iterator[None]:
    """One that runs meanwhile and is stopped at the end. Its stderr is appended to a file."""
    (root / "one.toml").write_text(TOPOLOGY.format(root=root))
    with (root / "stderr").open("ab") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "tiers", "agent", "one.toml", "node", "--data", "data"],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stderr=stderr,
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait()
    assert status == 0


def test_its_log_tells_of_itself_and_not_of_each_change_of_a_file(tmp_path: Path) -> None:
    with agent(tmp_path):
        for number in range(5):
            append_and_wait(tmp_path, number + 1)
    lines = (tmp_path / "stderr").read_bytes().splitlines()
    assert all(LINE.fullmatch(line) for line in lines), lines
    # A busy machine may hold up a turn of the loop: that is said.
    lines = [line for line in lines if b"a turn of the loop" not in line]
    assert [line.split(b" node ")[1].split(b",")[0] for line in lines] == [b"running", b"stopping"]


def test_its_log_tells_of_a_channel_that_was_set_aside(tmp_path: Path) -> None:
    with agent(tmp_path):
        append_and_wait(tmp_path, 1)
    os.truncate(tmp_path / "data" / "node" / "channel" / "data.mdb", 5000)
    with agent(tmp_path):
        append_and_wait(tmp_path, 2)
    (line,) = (
        line for line in (tmp_path / "stderr").read_text().splitlines() if "set aside as" in line
    )
    assert " WARNING node channel_set_aside channel: the channel was damaged" in line
