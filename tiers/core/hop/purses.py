"""What control messages cost those who send them, so that nobody takes the loop from the others.

Each route has a purse that time fills. A message costs its bytes and a fee, since reading one costs
about as much as it is long; what cannot be paid for is dropped unread. Who is honest comes nowhere
near, and asks again in time.

Pure: time is an argument.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

PURSES_MAX: Final = 16_384
_FEE_BYTES: Final = 256  # what a message costs beside its length


class Income(NamedTuple):
    """How a purse fills."""

    bytes_per_s: int
    bytes_max: int


# A sender with a full window of small batches asks for them with half a MiB at once.
IN_SESSION: Final = Income(128 << 10, 1 << 20)
STRANGER: Final = Income(16 << 10, 64 << 10)


class Purses:
    """By route. `now` is monotonic seconds."""

    def __init__(self) -> None:
        self.unpaid = 0  # messages
        self._owed: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # bytes, and since when

    def pays(self, route: bytes, length: int, income: Income, now: float) -> bool:
        """Whether a message of `length` bytes is to be read. If not, nothing is paid."""
        owed, since_s = self._owed.get(route, (0.0, now))
        owed = max(0.0, owed - (now - since_s) * income.bytes_per_s) + length + _FEE_BYTES
        if owed > income.bytes_max:
            self.unpaid += 1
            return False
        self._owed[route] = owed, now
        self._owed.move_to_end(route)
        if len(self._owed) > PURSES_MAX:
            self._owed.popitem(last=False)  # who has said nothing for longest
        return True
