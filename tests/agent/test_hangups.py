"""Agents and `tiers up` outlive the terminal, its signals and closed descriptors, at any time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import wait_for
from tiers.observe.client import ask_now

TOPOLOGY = """
name = "one"
[tiers.all]
agents = ["node"]
[[tiers.all.sources]]
type = "generate"
rate = 1
[[tiers.all.sinks]]
type = "directory"
root = "{root}/out"
[channel]
free_floor = "0B"
"""


class Begun:
    """A command at work on a topology of one agent."""

    def __init__(self, root: Path, command: str, **how: Any) -> None:
        self.directory = root / "data" / "node"
        (root / "one.toml").write_text(TOPOLOGY.format(root=root))
        words = [sys.executable, "-m", "tiers", command, str(root / "one.toml")]
        words += ["node"] * (command == "agent") + ["--data", str(root / "data")]
        how = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | how
        self.process = subprocess.Popen(words, **how)

    def answers(self) -> bool:
        assert self.process.poll() is None
        return isinstance(ask_now(self.directory), dict)

    def kill_agent(self) -> None:
        """Returns once another is begun."""
        lock = self.directory / "lock"
        killed = lock.read_text()
        os.kill(int(killed), signal.SIGKILL)
        wait_for(lambda: lock.read_text() not in ("", killed), "another is begun", 60)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


@pytest.fixture
def begun() -> Iterator[list[Begun]]:
    made: list[Begun] = []
    yield made
    for one in made:
        with suppress(ProcessLookupError):
            one.process.kill()
        one.process.wait()


def ignores_hangups(pid: int) -> bool:
    """Or takes them: either way they do not end it."""
    status = Path(f"/proc/{pid}/status").read_text()
    bits = [int(line.split()[1], 16) for line in status.splitlines() if line[:6] in _SIGNALS]
    return any(mask & 1 << (signal.SIGHUP - 1) for mask in bits)


_SIGNALS = ("SigIgn", "SigCgt")


@pytest.mark.parametrize("command", ["agent", "up"])
def test_a_hangup_ends_nobody_from_the_start_to_the_end(
    tmp_path: Path, begun: list[Begun], command: str
) -> None:
    one = Begun(tmp_path, command)
    begun.append(one)
    wait_for(lambda: ignores_hangups(one.process.pid), "it has said what it does with them")
    end = time.monotonic() + 60
    while not one.answers():
        one.process.send_signal(signal.SIGHUP)
        assert time.monotonic() < end
    for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTTOU):
        one.process.send_signal(number)
    assert one.answers()
    one.process.terminate()
    while one.process.poll() is None:  # while it stops, too
        one.process.send_signal(signal.SIGHUP)
        assert time.monotonic() < end
    assert one.process.returncode == 0


def test_up_goes_on_without_its_terminal(tmp_path: Path, begun: list[Begun]) -> None:
    ours, theirs = os.openpty()
    one = Begun(tmp_path, "up", stdout=theirs, stderr=theirs, stdin=theirs, start_new_session=True)
    os.close(theirs)
    begun.append(one)
    wait_for(one.answers, "the agent answers", 60)
    os.close(ours)  # hangs up
    one.kill_agent()
    wait_for(one.answers, "the agent is started again", 60)
    assert one.stop() == 0


def test_up_goes_on_where_nobody_reads_it(tmp_path: Path, begun: list[Begun]) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    one = Begun(tmp_path, "up", stdout=writer, stderr=writer)
    begun.append(one)
    wait_for(one.answers, "the agent answers", 60)
    one.kill_agent()
    wait_for(one.answers, "the agent is started again", 60)
    assert one.stop() == 0
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("command", ["agent", "up"])
def test_closed_descriptors_are_nothing_elses(
    tmp_path: Path, begun: list[Begun], command: str
) -> None:
    def close() -> None:
        os.closerange(0, 3)

    one = Begun(tmp_path, command, stdout=None, stderr=None, preexec_fn=close)
    begun.append(one)
    wait_for(one.answers, "it answers", 60)
    opened = [Path(f"/proc/{one.process.pid}/fd/{number}").readlink() for number in (0, 1, 2)]
    assert opened == [Path("/dev/null")] * 3
    assert one.stop() == 0
