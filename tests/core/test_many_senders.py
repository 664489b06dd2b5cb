"""What a receiver does at each tick is bounded, however many senders it knows."""

import sys
from collections.abc import Callable
from typing import Any

from tests.core.receiving import End, session
from tiers.core.hop.credit import Credits
from tiers.core.hop.hosting import ReceiverLimits
from tiers.core.hop.messages import Ping

MIB = 1 << 20
TICK_S = 0.05


def crowded(count: int) -> End:
    """Most of them wait for credit, and some speak between two ticks."""
    end = End(free=1 << 40)
    end.receiver.limits = ReceiverLimits(16 * MIB, 32 * MIB, 4 * MIB)
    end.receiver.hosting.credits = Credits(4 * MIB, 16 * MIB)
    for number in range(1, count + 1):
        end.hello(number, f"edge-{number}", number.to_bytes(16, "big"))
    return end


def calls_of(do: Callable[[], object]) -> int:
    calls = 0

    def count(_frame: object, event: str, _of: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        do()
    finally:
        sys.setprofile(before)
    return calls


def most_of(count: int) -> int:
    """Calls of the dearest of a hundred ticks."""
    end, calls = crowded(count), []
    for turn in range(100):
        for number in range(7 * turn, 7 * turn + 5):
            one = number % count + 1
            end.hear(Ping(session(one), turn), f"edge-{one}".encode())
        calls.append(calls_of(lambda: end.tick(TICK_S)))
    return max(calls)


def test_a_tick_costs_the_same_however_many_senders_there_are() -> None:
    few, many = most_of(600), most_of(4000)
    assert many < 1.1 * few  # what Python calls by itself in between comes on top
