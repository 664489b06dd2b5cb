"""Whether an older session of a channel is another life of it: only while it still answers.

A HELLO of a channel that has a session here, of another start, waits. The session is asked; if it
answers, the channel exists twice, and the sender that said HELLO is told so. Else, as after any
crash of a sender, its HELLO goes on as if nothing had been.
"""

from typing import Final, NamedTuple

from tiers.core.hop.messages import Hello, Ping

ANSWER_WITHIN_S: Final = 0.5
LATELY_S: Final = 2.0  # a session that said nothing for so long is not asked
WAITING_MAX: Final = 1000  # a further one is not held up


class Waiting(NamedTuple):
    """A HELLO, and where it came from."""

    route: bytes
    hello: Hello
    number: int  # what the session is to say again
    until_s: float


class Twins:
    """HELLOs that wait, by the session that was asked."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, Waiting] = {}
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, session: bytes, route: bytes, hello: Hello, now: float) -> Ping | None:
        """Hold a HELLO up; what the session is asked, unless it was before. Of HELLOs that are
        said again the last one counts."""
        known = self._waiting.get(session)
        if known is not None:
            self._waiting[session] = known._replace(route=route, hello=hello)
            return None
        self._numbers += 1
        self._waiting[session] = Waiting(route, hello, self._numbers, now + ANSWER_WITHIN_S)
        return Ping(session, self._numbers)

    def is_full(self) -> bool:
        return len(self._waiting) >= WAITING_MAX

    def answered(self, session: bytes, number: int) -> Waiting | None:
        """The session said the number again: the HELLO that waited for that."""
        known = self._waiting.get(session)
        if known is None or known.number != number:
            return None
        return self._waiting.pop(session)

    def due(self, now: float) -> list[Waiting]:
        """Those whose session did not answer in time."""
        over = [session for session, one in self._waiting.items() if one.until_s <= now]
        return [self._waiting.pop(session) for session in over]
