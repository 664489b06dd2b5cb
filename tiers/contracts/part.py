"""The contract of a part of an agent: a source, a sender group, a sink, the receiver, the status
server. Which parts there are to be, and how each is made: agent/composing.py."""

from typing import Any, Protocol

from tiers.core.meters import Metered


class Part(Metered, Protocol):
    """Equal specs are the same part: it is not touched. One that was just made holds its ports."""

    spec: Any

    async def run(self) -> None:
        """Until it is cancelled, or has come to its end by itself. However it ends, it holds
        nothing any more, nobody calls it, and it changes nothing. One that raises is made anew."""

    async def change(self, spec: Any) -> bool:
        """Returning True means that it works by `spec` from now on. False, and nothing has
        changed: it has to be retired and made anew. Raises what keeps it from that, and works on
        as before."""

    async def retire(self) -> None:
        """Returning means that it takes nothing more, and what it had taken is settled. `run` is
        cancelled then, or when there is no more time for it."""

    def go_on(self, before: Any) -> None:
        """It counts on from the part of this key that has ended."""
