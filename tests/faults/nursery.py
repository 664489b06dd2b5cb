"""Agents as children of a process that has imported all that they need.

An agent's imports take more of a core than the rest of its start does, and the tests start a
thousand. So one process of each pytest does that once and forks the agents, each of which then is
`tiers agent ...` by its arguments, environment and descriptors: a process of its own, with a pid to
kill. `python -m tiers` itself is started by the tests of the commands.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

_IMPORTED: Final = (
    *(
        "tiers.__main__",
        "tiers.cli",
        "tiers.cli.agent",
        "tiers.agent.agent",
        "tiers.agent.composing",
    ),
    *(
        "tiers.agent.parts.parts",
        "tiers.agent.reloading",
        "tiers.sources.tail.source",
        "tiers.sinks.directory",
    ),
    # What a world imports when it is asked for it.
    *("tiers.channel.channel", "tiers.observe.status", "tiers.sinks.workers"),
    *("tiers.transport.sockets", "tiers.transport.receiving", "tiers.transport.sending"),
    "tiers.observe.metrics",
)
_MESSAGE_BYTES_MAX: Final = 1 << 20


class Child:
    """An agent, as `subprocess.Popen` would have it."""

    def __init__(self, nursery: "Nursery", pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery
        self._ended = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._look(0)

    def wait(self, timeout_s: float | None = None) -> int:
        """Its exit status, once it has one."""
        status = self._look(timeout_s)
        if status is None:
            raise subprocess.TimeoutExpired("tiers agent", timeout_s or 0)
        return status

    def _look(self, timeout_s: float | None) -> int | None:
        if self.returncode is None and select.select([self._ended], [], [], timeout_s)[0]:
            self.returncode = int(self._nursery.ask(wait=self.pid))
            os.close(self._ended)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._ended, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class Nursery:
    """Begun with the first agent; it ends when this process does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def start(self, arguments: Sequence[str], log: Path) -> Child:
        """`tiers ARGUMENTS`, which appends what it says to `log`, a file from now on."""
        log.touch()
        where = {"cwd": str(Path.cwd()), "env": dict(os.environ), "log": str(log)}
        return Child(self, int(self.ask(arguments=list(arguments), **where)))

    def ask(self, **message: Any) -> Any:
        with self._lock:
            if self._socket is None:
                self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    command = [sys.executable, "-m", __name__, str(theirs.fileno())]
                    root = Path(__file__).resolve().parents[2]
                    subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=root)
            self._socket.send(json.dumps(message).encode())
            answer = self._socket.recv(_MESSAGE_BYTES_MAX)
            assert answer, "the nursery has ended"
            return json.loads(answer)


def _serve(asked: socket.socket) -> None:
    for name in _IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is there is not looked at in each child, which would copy its pages
    while data := asked.recv(_MESSAGE_BYTES_MAX):
        message = json.loads(data)
        if "wait" in message:
            _, status = os.waitpid(message["wait"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if not answer:
                asked.close()
                _become_agent(message)
        asked.send(json.dumps(answer).encode())


def _become_agent(message: dict[str, Any]) -> None:
    """Never returns."""
    status = 1
    try:
        log = os.open(message["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        os.close(log)
        os.chdir(message["cwd"])
        os.environ.clear()
        os.environ.update(message["env"])
        sys.argv = ["tiers", *message["arguments"]]
        sys.orig_argv = [sys.executable, "-m", *sys.argv]  # an agent starts itself anew by them
        from tiers.__main__ import main

        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
