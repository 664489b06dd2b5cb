"""What may be the matter with an agent: one table, with what it does about each and what a person
should do.

Codes are stable: alerts are built on them.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple


class ConditionKind(NamedTuple):
    """What all conditions of one code have in common."""

    unhealthy: bool  # a person should act; else it is told, and the agent deals with it
    doing: str  # what the agent does about it
    todo: str  # what a person should do; empty: nothing yet


KINDS: Final = {
    "topology_refused": ConditionKind(
        True, "the last accepted file stays in force", "mend the topology file"
    ),
    "restart_needed": ConditionKind(False, "goes on with the old settings", "restart the agent"),
    "directory_gone": ConditionKind(
        True,
        "goes on with the file that it has open, which ends with its process",
        "take it out of the topology file, so that it drains, and start it anew then",
    ),
    "channel_trouble": ConditionKind(
        True,
        "takes nothing in, acks nothing, tries again",
        "look at the data directory's disk",
    ),
    "disk_floor": ConditionKind(
        True, "takes nothing in until there is room", "free space on the data directory's disk"
    ),
    "disk_low": ConditionKind(
        False, "goes on until the floor is reached", "free space on the data directory's disk"
    ),
    "channel_full": ConditionKind(
        False, "sources and senders wait", "look at the output that holds most of it"
    ),
    "channel_set_aside": ConditionKind(
        True,
        "goes on with a fresh channel, and salvages the old one",
        "look into it: tiers channel info DIR/channel.damaged-...",
    ),
    "channel_salvaged": ConditionKind(
        False, "goes on with all of it", "remove DIR/channel.damaged-... once you have looked"
    ),
    "disk_went_back": ConditionKind(
        False, "has flagged what waited: sinks publish one copy of each", "run tiers audit"
    ),
    "dead_letters": ConditionKind(
        True, "keeps them in the channel", "see why, then retry or drop them: tiers dead list DIR"
    ),
    "undeliverable": ConditionKind(
        True,
        "keeps them in the queue, and takes nothing more of those agents",
        "retry or drop dead letters: tiers dead list DIR; then restart the agent",
    ),
    "over_share": ConditionKind(
        False, "takes batches of the others, and of these again when some have gone", "-"
    ),
    "output_orphan": ConditionKind(
        True, "keeps its batches", "put the output back until they are delivered"
    ),
    "output_leaving": ConditionKind(
        False, "delivers what waits for it, and ends it then", "wait: it takes no new batches"
    ),
    "output_error": ConditionKind(True, "keeps the batches and tries again", "see the reason"),
    "output_stalled": ConditionKind(
        True, "keeps the batches", "look at what it writes to or sends to; then restart the agent"
    ),
    "batches_stopped": ConditionKind(
        True, "the other batches flow on", "mend the file in the store, or take it away"
    ),
    "connecting": ConditionKind(True, "has just begun to", ""),
    "no_peer": ConditionKind(
        True, "keeps the batches and tries again", "start a peer, or look at the network"
    ),
    "peer_refused": ConditionKind(True, "other peers get the batches", "see the reason"),
    "peer_down": ConditionKind(
        False,
        "other peers get its batches, flagged: sinks publish one copy of each",
        "start it, or look at the network",
    ),
    "other_limits": ConditionKind(
        False, "offers it what it takes, and others the rest", "give both the same topology file"
    ),
    "batches_refused": ConditionKind(
        True,
        "keeps them for the peers that have not refused them; the other batches flow on",
        "see the reason",
    ),
    "held_back": ConditionKind(False, "waits: its peers take no more for now", "look at the peers"),
    "sender_error": ConditionKind(False, "goes on with the others", "see the reason"),
    "source_error": ConditionKind(True, "tries again", "see the reason"),
    "source_remark": ConditionKind(False, "goes on with the rest", "see whether that is meant"),
    "interceptor_failed": ConditionKind(
        True, "goes on with the other events; with these as `on_error` says", "see the reason"
    ),
    "source_failed": ConditionKind(
        True, "starts the source again, from what is stored", "report the error in the log"
    ),
    "part_failed": ConditionKind(
        True, "starts it again; the other parts go on", "report the error in the log"
    ),
    "source_stalled": ConditionKind(
        True, "waits", "restart the agent, and report it with the log and the status"
    ),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that is the matter now."""

    code: str  # a key of KINDS
    part: str  # the source, output or peer; or "channel", "topology"
    text: str  # what is seen
    at_risk: bool = False  # whether events may be lost while it lasts
    since_ms: int = 0  # ms since the epoch

    @property
    def key(self) -> tuple[str, str]:
        """The same thing at two looks, whatever its text says."""
        return self.code, self.part

    @property
    def unhealthy(self) -> bool:
        return KINDS[self.code].unhealthy

    def told(self) -> dict[str, object]:
        """For the status."""
        kind = KINDS[self.code]
        return {
            "code": self.code,
            "part": self.part,
            "text": self.text,
            "since_ms": self.since_ms,
            "unhealthy": kind.unhealthy,
            "at_risk": self.at_risk,
            "doing": kind.doing,
            "todo": kind.todo,
        }
