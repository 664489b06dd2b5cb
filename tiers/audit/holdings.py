"""What the channel of an agent holds, and was not to give to its outputs, as its status says it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from tiers.core import runs
from tiers.core.change import NO_OUTPUT
from tiers.core.paths import day_name
from tiers.core.printable import printable
from tiers.core.runs import Runs
from tiers.errors import BatchError
from tiers.observe.client import Answer

NEWS_CHARS_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Queue:
    """What one output of one agent holds, by origin (hex)."""

    held: Mapping[str, Runs] = field(default_factory=dict)
    dead: Mapping[str, Runs] = field(default_factory=dict)
    dropped: Mapping[str, Runs] = field(default_factory=dict)  # by a person, for good
    skipped: Mapping[str, Runs] = field(default_factory=dict)  # that its route did not give it


class Own(NamedTuple):
    """An origin of an agent's own: one for each start of its channel in which it took events."""

    last: int  # the greatest number that it gave, as far as that agent knows
    begun_ms: int  # when that start was


@dataclass(frozen=True, slots=True)
class AgentHolding:
    """What one agent's channel holds, by output."""

    agent: str
    tier: str
    own: Mapping[str, Own]  # by origin
    present: str  # the origin that gives numbers now; empty where the agent is stopped
    outputs: Mapping[str, Queue]
    news: str = ""  # what happened to its disk lately
    since_ms: int = 0  # what it had kept from outputs before, its channel does not know

    def towards(self, outputs: Collection[str]) -> "AgentHolding":
        """The same agent as if it had these outputs alone. What none of them wants is on no way to
        any."""
        kept = {n: queue for n, queue in self.outputs.items() if n in (*outputs, NO_OUTPUT)}
        return replace(self, outputs=kept)

    def held(self, origin: str) -> Runs:
        return runs.union(*(queue.held.get(origin, []) for queue in self.outputs.values()))

    def dead(self, origin: str) -> Runs:
        return runs.union(*(queue.dead.get(origin, []) for queue in self.outputs.values()))

    def dropped(self, origin: str) -> Runs:
        return runs.union(*(queue.dropped.get(origin, []) for queue in self.outputs.values()))

    def skipped(self, origin: str) -> Runs:
        return runs.union(*(queue.skipped.get(origin, []) for queue in self.outputs.values()))

    def origins(self) -> set[str]:
        """All that it has batches of, or did not give to an output."""
        several = self.outputs.values()
        return {o for queue in several for o in (*queue.held, *queue.dead, *queue.skipped)}


def holding_of(agent: str, tier: str, answer: Answer) -> AgentHolding | str:
    """What an agent's status says of its channel; a text where it says nothing of use."""
    if isinstance(answer, str):
        return answer
    try:
        told = answer["audit"]
        outputs = {
            str(name): Queue(
                _by_origin(queue["held"]),
                _by_origin(queue["dead"]),
                _by_origin(queue.get("dropped", {})),  # an older agent has none
                _by_origin(queue.get("skipped", {})),
            )
            for name, queue in told["outputs"].items()
        }
        own = {bytes.fromhex(origin).hex(): _own(one) for origin, one in told["origins"].items()}
        news = printable(str(answer.get("channel", {}).get("news", "")), NEWS_CHARS_MAX)
        present = bytes.fromhex(told["present"]).hex()
        since_ms = int(told.get("withheld_since_ms", 0))
        return AgentHolding(agent, tier, own, present, outputs, news, since_ms)
    except (KeyError, TypeError, ValueError, AttributeError, BatchError) as error:
        return f"its answer is malformed: {type(error).__name__} {error}"


def _own(told: Any) -> Own:
    last = told["last"]
    if type(last) is not int or last < 0:
        raise ValueError(f"{last!r} is no number of a batch")
    begun_ms = int(told["begun_ms"])
    day_name(begun_ms)  # a day of some calendar
    return Own(last, begun_ms)


def _by_origin(told: Any) -> dict[str, Runs]:
    """Raises ValueError, TypeError or AttributeError for anything but runs by origin."""
    return {bytes.fromhex(origin).hex(): _runs(of) for origin, of in told.items()}


def _runs(told: Any) -> Runs:
    for first, last in told:
        # What another process says is compared and counted with: a text or a hole would not do.
        if not (type(first) is type(last) is int and 0 < first <= last):
            raise ValueError(f"{first!r} to {last!r} is no run")
    return runs.union(told)
