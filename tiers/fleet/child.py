"""One agent's process as its supervisor sees it: begun, followed, ended, begun again.

    waiting --> running --> over            (drained, or stopped by the supervisor)
       ^___________|  it died, or ended when nobody had told it to

What it prints goes to `agent.log` in its directory, which is kept within two times
`LOG_BYTES_MAX`: a child that lives for a year writes for a year.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from tiers.core.backoff import Backoff
from tiers.core.printable import printable
from tiers.host.own_directory import make_own
from tiers.observe.client import Answer

LOG_BYTES_MAX: Final = 16 * 1024 * 1024
_LAST_WORDS_BYTES: Final = 4096


class Phase(StrEnum):
    WAITING = "waiting"  # to be started, or started again after a wait
    RUNNING = "running"
    DRAINED = "drained"  # over: its channel is empty
    DEAD_LETTERS = "dead letters"  # over: its channel holds dead letters and nothing else
    STOPPED = "stopped"  # over: the supervisor was stopped


OVER: Final = frozenset({Phase.DRAINED, Phase.DEAD_LETTERS, Phase.STOPPED})


@dataclass(frozen=True, slots=True)
class AgentPlace:
    """Where an agent is."""

    name: str
    tier: str
    data: Path  # as in `--data`; the agent's files are in data/name

    @property
    def directory(self) -> Path:
        return self.data / self.name


@dataclass(slots=True)
class Child:
    """An agent that the supervisor keeps running."""

    place: AgentPlace
    backoff: Backoff
    phase: Phase = Phase.WAITING
    leaving: bool = False  # taken out of the topology: it drains and ends by itself
    told: bool = False  # this process has heard that it is to drain
    status: dict[str, Any] | None = None  # the last it gave, in this life or the one before
    dead: int = 0  # batches in its dead letters, as far as this process told
    starts: int = 0
    answer: Answer = "not started yet"  # its last status, or why there is none
    process: asyncio.subprocess.Process | None = None
    started: float = field(default=0.0)  # time.monotonic()

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None else None

    @property
    def lived_s(self) -> float:
        return time.monotonic() - self.started

    def note(self, answer: Answer) -> None:
        """What it said when asked."""
        self.answer = answer
        if isinstance(answer, dict):
            self.status = answer
            channel = answer.get("channel")
            dead = channel.get("dead") if isinstance(channel, dict) else None
            self.dead = dead if isinstance(dead, int) else 0

    async def begin(self, command: Sequence[str]) -> None:
        """Starts the process. OSError when the machine will not."""
        directory = self.place.directory
        make_own(directory)
        bound_log(directory)
        self.answer, self.told, self.dead = "starting", False, 0
        self.started = time.monotonic()
        self.starts += 1
        with (directory / "agent.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Control-C at a terminal goes to its whole process group; the children are to
                # be stopped by the supervisor alone.
                process_group=0,
            )
        self.phase = Phase.RUNNING

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal if there is a process to take it."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    def over(self, status: int) -> Phase | None:
        """What it means that the process ended with `status`; None: it is to be started again.

        Status 1 is also what Python gives a program that broke, so it counts only when the
        agent's own status told of dead letters. One that got its first dead letter at the very
        end is started once more and ends the same way, having told."""
        if not (self.told or self.leaving):
            return None
        if status == 0:
            return Phase.DRAINED
        if status == 1 and self.dead:
            return Phase.DEAD_LETTERS
        if self.leaving and not (self.place.directory / "channel").exists():
            return Phase.DRAINED  # it never held anything
        return None


def agent_command(topology: Path, place: AgentPlace) -> list[str]:
    """Runs one agent for as long as this process lives."""
    own = [sys.executable, "-m", "tiers.fleet.supervised", str(os.getpid()), "tiers"]
    return [*own, "agent", str(topology), place.name, "--data", str(place.data)]


def bound_log(directory: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Sets a grown `agent.log` aside as `agent.log.1`, in place of the one before.

    The log is copied and emptied, not renamed, since a running child goes on writing to it (it
    appends, so it goes on at the beginning). A few lines written meanwhile may be lost."""
    log = directory / "agent.log"
    with contextlib.suppress(OSError):  # a full disk must not end the supervisor
        if log.stat().st_size > bytes_max:
            shutil.copyfile(log, directory / "agent.log.1")
            os.truncate(log, 0)


def last_words(directory: Path) -> str:
    """The last line of the log, at most 200 characters."""
    try:
        with (directory / "agent.log").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LAST_WORDS_BYTES))
            lines = log.read().split(b"\n")
    except OSError:
        return ""
    words = [line for line in lines if line.strip()]
    return printable(words[-1].strip()) if words else ""


def describe_end(status: int) -> str:
    """`-9` -> `"killed by SIGKILL"`."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
