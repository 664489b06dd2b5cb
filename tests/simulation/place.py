"""The simulated store in the contract that every store has to keep (tests/contracts)."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from tests.simulation.store import Files, SimStore, Tape
from tiers.errors import StoreRefused, StoreUnavailable


class _Handle(SimStore):
    """One for each agent of the contract, which has threads. `error` is raised by every call."""

    def __init__(self, place: "SimPlace", error: Exception | None = None) -> None:
        super().__init__(place.files, Tape())
        self._lock = place.lock
        self._error = error

    def _call(self, name: str, *args: Any) -> Any:
        if self._error is not None:
            raise self._error
        with self._lock:
            return super()._call(name, *args)

    def where(self) -> str:
        return "simulated store, there yet"


class SimPlace:
    """A simulated store on real time."""

    def __init__(self) -> None:
        self.files = Files(lambda: time.time_ns() // 1_000_000, lambda *_: None)
        self.lock = threading.Lock()

    def open(self) -> SimStore:
        return _Handle(self)

    @contextlib.contextmanager
    def forbidden(self) -> Iterator[SimStore]:
        yield _Handle(self, StoreRefused("permission denied: simulated"))

    def unreachable(self) -> SimStore:
        return _Handle(self, StoreUnavailable("the simulated store is away"))
