"""Every error of tiers on one page, named by who must act.

Foreign exceptions (lmdb, zmq, requests, OSError) are translated at the door of the room that
uses the library, in one context manager per library. Nothing above that door sees them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tiers.core.printable import printable_text


class TiersError(Exception):
    """Root of all errors that tiers raises on purpose. `str(error)` is meant for a person."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a topology file."""

    key: str  # dotted path to the key, such as "tiers.edge.sources[0].paths"
    wanted: str
    found: str
    hint: str = ""  # "did you mean 'next'?"

    def __str__(self) -> str:
        text = f"{self.key}: wanted {self.wanted}; found {self.found}"
        return f"{text}; {self.hint}" if self.hint else text


class ConfigError(TiersError):
    """The person who wrote the file must act. Carries every problem of the file at once."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = tuple(problems)
        lines = [printable_text(f"{file}: {problem}") for problem in self.problems]
        super().__init__("\n".join(lines))


class UsageError(TiersError):
    """The person at the command line must act: a wrong name, a directory in use, and so on."""


class PeerError(TiersError):
    """A peer sent what no peer may send. The message is dropped, or the peer; never the agent."""


class BatchError(TiersError):
    """A batch that can never be taken (damaged, too large, malformed). It goes to dead letters."""


class ChannelDamaged(TiersError):
    """The channel file cannot be trusted. It is set aside and a fresh one is begun."""


class ChannelUnavailable(TiersError):
    """The disk did not do what was asked (a failed commit). Nothing was acked; try again."""


class StoreUnavailable(TiersError):
    """The store did not answer, or not clearly. Whether the call was carried out is unknown:
    ask what became of it, and try again with back-off."""


class StoreRefused(TiersError):
    """The store answered clearly that it will not (permissions, quota, another tier's root).
    The person who runs the store must act; the agent shows it and tries again, more slowly."""
