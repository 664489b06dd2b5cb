"""What a sink asks of its store or channel until it is answered, whatever else."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final, TypeVar

from tiers.contracts import Workers
from tiers.core.backoff import backoff_s
from tiers.core.troubles import Troubles
from tiers.errors import ChannelUnavailable, StoreRefused, StoreUnavailable

T = TypeVar("T")
SINK: Final = "sink"  # trouble of the sink as a whole


class Asking:
    """In a worker thread; what it meets is told as the trouble of a key, and over with the
    answer."""

    def __init__(self, workers: Workers, troubles: Troubles, random: Random) -> None:
        self._workers = workers
        self._troubles = troubles
        self._random = random

    async def until_clear(self, key: str, call: Callable[[], T]) -> T:
        failures = 0
        while True:
            try:
                result = await self._workers.run(call)
            except (StoreUnavailable, StoreRefused, ChannelUnavailable) as error:
                failures += 1
                self._troubles.say(key, str(error))
                refused = isinstance(error, StoreRefused)
                await back_off(failures, self._random, refused=refused)
            else:
                self._troubles.say(key, "")
                return result


async def back_off(failures: int, random: Random, *, refused: bool = False) -> None:
    """Waits after that many failures in a row. Random, so that sinks do not come back all at
    once."""
    await asyncio.sleep(backoff_s(failures, refused, random.random()))
