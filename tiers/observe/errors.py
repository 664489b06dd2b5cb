"""What parts say is wrong with them: as long as it lasts, and what was said last."""

import logging
from collections.abc import Callable

log = logging.getLogger("tiers")
Tell = Callable[[str], None]


class Errors:
    """Of one agent. `begun` is told a part and what is wrong with it from now on."""

    def __init__(self, now_ms: Callable[[], int], begun: Callable[[str, str], None]) -> None:
        self.last: tuple[int, str] = (0, "")  # ms since the epoch, and what was said then
        self._now_ms = now_ms
        self._begun = begun
        self._lasting: dict[str, str] = {}  # by part

    def lasting(self, part: str) -> Tell:
        """For what lasts until the part says "": a condition of the agent."""

        def tell(text: str) -> None:
            if text and text != self.of(part):
                self._note(part, text)
                self._begun(part, text)
            self._lasting[part] = text

        return tell

    def passing(self, part: str) -> Tell:
        """For what is over as it is said."""

        def tell(text: str) -> None:
            log.warning("%s: %s", part, text)
            self._note(part, text)

        return tell

    def of(self, part: str) -> str:
        """What is wrong with a part now; empty when all is well."""
        return self._lasting.get(part, "")

    def _note(self, part: str, text: str) -> None:
        self.last = (self._now_ms(), f"{part}: {text}")
