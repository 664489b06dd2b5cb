"""What is wrong with an output, for a person: the newest trouble that has not ended."""

from collections.abc import Callable


class Troubles:
    """Keyed by whatever is in trouble. `tell` hears each change, "" when all is well."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.where: Callable[[], str] = str  # said before each; as a rule where batches go
        self._tell = tell
        self._texts: dict[object, str] = {}
        self._said = ""

    def say(self, key: object, text: str) -> None:
        """The trouble of `key`; "" ends it."""
        self._texts.pop(key, None)
        if text:
            self._texts[key] = text
        newest = next(reversed(self._texts.values()), "")
        where = self.where()
        said = f"{where}: {newest}" if newest and where else newest
        if said != self._said:
            self._said = said
            self._tell(said)

    def end(self, key: object) -> str:
        """The trouble of `key` is over; what it was."""
        text = self._texts.get(key, "")
        self.say(key, "")
        return text
