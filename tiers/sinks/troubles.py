"""What is wrong with a sink, for a person: the newest trouble that has not ended."""

import asyncio
from collections.abc import Callable
from random import Random

from tiers.core import commit


class Troubles:
    """Keyed by whatever is in trouble. `tell` hears each change, "" when all is well."""

    def __init__(self, where: Callable[[], str], tell: Callable[[str], None]) -> None:
        self._where = where
        self._tell = tell
        self._texts: dict[object, str] = {}
        self._said = ""

    def say(self, key: object, text: str) -> None:
        """The trouble of `key`; "" ends it."""
        self._texts.pop(key, None)
        if text:
            self._texts[key] = text
        newest = next(reversed(self._texts.values()), "")
        said = f"{self._where()}: {newest}" if newest else ""
        if said != self._said:
            self._said = said
            self._tell(said)

    def end(self, key: object) -> str:
        """The trouble of `key` is over; what it was."""
        text = self._texts.get(key, "")
        self.say(key, "")
        return text


async def back_off(failures: int, random: Random, *, refused: bool = False) -> None:
    """Waits after that many failures in a row. Random, so that sinks do not come back all at
    once."""
    await asyncio.sleep(commit.backoff_s(failures, refused, random.random()))
