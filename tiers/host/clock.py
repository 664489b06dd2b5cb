"""This machine's time and chance."""

import os
import time
from random import Random
from typing import Final


class Clock:
    """See `Clock` of the contracts."""

    def __init__(self) -> None:
        self.random = Random()

    def now_s(self) -> float:
        return time.monotonic()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def token(self, size_bytes: int) -> bytes:
        return os.urandom(size_bytes)

    def number(self) -> int:
        return int.from_bytes(os.urandom(8))


CLOCK: Final = Clock()
