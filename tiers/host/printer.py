"""Text on its way out of the process, to where it may not be taken.

A terminal can be stopped or hang up, a pipe have a reader that sleeps or is gone, a disk be full:
none of it may end or hold up who has something to say. So a thread of its own writes, and what
waits for it is bounded; what finds no room is dropped, and how much is said once there is room
again. Nothing goes by way of `sys.stdout`: Python flushes that at its end, whatever it takes.
"""

import os
import select
import sys
import threading
from collections import deque
from typing import Final

from tiers.core.batch import Buffer

WAITING_BYTES_MAX: Final = 1 << 20
PATIENCE_S: Final = 1.0  # for what still waits when all is over
_POLL_MS: Final = 1000  # between looks at a descriptor that takes nothing, set non-blocking


def write_some(descriptor: int, data: Buffer) -> int:
    """How many bytes of it were taken: some. Waits for that, also where the descriptor was set
    non-blocking. Raises OSError."""
    while True:
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll(_POLL_MS)


class Printer:
    """A stream of text to one descriptor, for `print`, `logging` and rich. Never raises, never
    waits."""

    def __init__(self, descriptor: int, encoding: str = "utf-8") -> None:
        self.encoding = encoding
        self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._dropped = 0  # pieces, since the last that was taken
        self._torn = False  # the last piece was written in part
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"printer {descriptor}")
        self._thread.start()

    def write(self, text: str) -> int:
        """Takes it, or drops it whole where too much waits already."""
        data = text.encode(self.encoding, errors="backslashreplace")
        with self._changed:
            if self._closing or self._waiting_bytes + len(data) > WAITING_BYTES_MAX:
                self._dropped += 1
                return len(text)
            if self._dropped:
                data = f"({self._dropped} pieces of output were dropped)\n".encode() + data
                self._dropped = 0
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            self._changed.notify()
        return len(text)

    def flush(self) -> None:
        """Nothing to do: the thread writes as soon as it can."""

    def isatty(self) -> bool:
        try:
            return os.isatty(self._descriptor)
        except OSError:
            return False

    def close(self, patience_s: float = PATIENCE_S) -> None:
        """What waits gets `patience_s`; the rest is dropped. The descriptor stays open."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(patience_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                data = self._waiting.popleft()
            self._write(data)
            with self._changed:
                self._waiting_bytes -= len(data)  # only now: while it is being written it waits

    def _write(self, data: bytes) -> None:
        if self._torn:
            data = b"\n" + data
        view = memoryview(data)
        try:
            while view:
                view = view[write_some(self._descriptor, view) :]
        except OSError:  # a full disk may have room for the next piece
            self._torn |= len(view) < len(data)
            with self._changed:
                self._dropped += 1
        else:
            self._torn = False


def standard_output() -> Printer:
    """To where `print` would print, in its encoding."""
    return Printer(1, getattr(sys.stdout, "encoding", None) or "utf-8")
