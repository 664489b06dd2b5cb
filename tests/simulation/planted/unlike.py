"""Runs that are not the same twice, on purpose: `scripts/simulate --twice` must see each."""

import os
import time
from typing import Any, Final
from unittest import mock

from tests.simulation.machine import SimMachine
from tests.simulation.network import Network
from tests.simulation.planted.bugs import Bug, wrapped

FROM_S: Final = 10.0


def _systems_chance() -> list[Any]:
    def token(self: SimMachine, size_bytes: int) -> bytes:
        late = self.now_s() > FROM_S
        return os.urandom(size_bytes) if late else self.random.randbytes(size_bytes)

    return [mock.patch.object(SimMachine, "token", token)]


def _wall_clock() -> list[Any]:
    def make(now_ms: Any) -> Any:
        return lambda self: now_ms(self) + time.time_ns() // 1_000_000_000

    return [wrapped(SimMachine, "now_ms", make)]


def _order_of_addresses() -> list[Any]:
    def make(of: Any) -> Any:
        return lambda self, node: sorted(of(self, node), key=id)

    return [wrapped(Network, "of", make)]


def _order_of_hashes() -> list[Any]:
    def make(of: Any) -> Any:
        return lambda self, node: sorted(of(self, node), key=lambda one: hash(one.client.node))

    return [wrapped(Network, "of", make)]


def _left_by_the_seed_before() -> list[Any]:
    def make(of: Any) -> Any:
        def reversed_later(self: Network, node: str) -> Any:
            _calls.append(node)
            return of(self, node)[:: 1 if len(_calls) < 12 else -1]

        return reversed_later

    return [wrapped(Network, "of", make)]


_calls: list[str] = []

UNLIKE: Final = (
    Bug("chance of the system", "a token is the system's", _systems_chance),
    Bug("wall clock", "an agent asks the real clock", _wall_clock),
    Bug("order of addresses", "connections break as they lie in memory", _order_of_addresses),
    Bug("order of hashes", "connections break as their names are hashed", _order_of_hashes),
    Bug("left by the seed before", "a module keeps something over runs", _left_by_the_seed_before),
)
