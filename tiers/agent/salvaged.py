"""What became of a channel that was set aside."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(slots=True)
class Salvaged:
    """What became of one channel that was set aside. Batches, but for `lost_events`, `events`."""

    state: str = "reading"  # "done": its mark says so; "failed": tried again at the next start
    salvaged: int = 0
    events: int = 0
    known: int = 0  # that were here already
    dead: int = 0  # dead letters
    lost: int = 0
    lost_events: int = 0
    old: int = 0  # sealed too long ago, and perhaps passed on long ago
    stranded: int = 0  # that wait only for outputs which the topology no longer has
    missing: int = 0  # beyond the lost: known by number only
    exact: bool = True  # what it held is known
    again: str = ""  # what sources read from the beginning
    trouble: str = ""

    @property
    def whole(self) -> bool:
        """Everything is back, and nobody need look."""
        left = self.lost or self.old or self.stranded or self.missing or self.again
        return self.state == "done" and self.exact and not left

    def text(self) -> str:
        """For a person."""
        parts = [f"{self.salvaged + self.known} batches ({self.events} events) salvaged"]
        if self.state == "reading":
            parts[0] += " so far"
        for count, what in (
            (self.dead, "dead letters salvaged"),
            (self.lost, f"batches lost ({self.lost_events} events)"),
            (self.missing, "batches missing"),
            (self.old, "batches sealed too long ago to tell whether they were delivered"),
            (self.stranded, "batches left for outputs that the topology no longer has"),
        ):
            if count:
                parts.append(f"{count} {what}")
        if not self.exact:
            parts.append("what else it held cannot be told")
        return ", ".join(part for part in (*parts, self.again, self.trouble) if part)


def outcome_of(mark: dict[str, Any]) -> Salvaged:
    """What a mark says, as far as this version knows its words."""
    known = {name: mark[name] for name in asdict(Salvaged()) if name in mark}
    return Salvaged(**{**known, "state": "done"})
