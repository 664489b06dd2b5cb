"""The descriptors of a process: as many as it may have, and shared out, so that no part of an agent
takes those of another. Its channel, stores, log and status keep theirs whatever comes.
"""

import resource
from dataclasses import dataclass
from typing import Any, Final

from tiers.core.hop.upstream import SENDERS_MAX
from tiers.core.hop.visitors import VisitorLimits
from tiers.topology import Topology

WANTED_MAX: Final = 65_536
_OWN: Final = 128  # channel, stores, log, status
_OF_A_PEER: Final = 8  # two sockets of libzmq with a monitor each
_OF_A_SENDER: Final = 2
# Options of sources that bound what they hold open, each with one descriptor.
_BOUNDS: Final = ("open_files_max", "connections_max")


@dataclass(frozen=True, slots=True)
class Shares:
    """What each part of an agent may have open."""

    limit: int  # of the process
    visitors: VisitorLimits
    senders_max: int
    of_a_source: int
    short: str  # what has less than it wants, for a person; mostly empty


def raise_limit() -> int:
    """The process may have open what the system lets it, up to WANTED_MAX. How many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_MAX if hard == resource.RLIM_INFINITY else min(WANTED_MAX, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return WANTED_MAX if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def shared_out(topology: Topology, agent: str, limit: int) -> Shares:
    """Of a process that may have `limit`."""
    peers = sum(len(topology.peers(tier)) for tier in topology.tier_of(agent).next)
    receives = topology.listen(agent) is not None
    wants = [want for options in topology.sources(agent) if (want := _wanted(options))]
    left = max(0, limit - _OWN - _OF_A_PEER * peers)
    strangers = max(8, min(VisitorLimits().strangers_max, limit // 4)) if receives else 0
    left = max(0, left - strangers)
    for_senders = min(left // 2 if wants else left, _OF_A_SENDER * SENDERS_MAX) if receives else 0
    senders = max(1, for_senders // _OF_A_SENDER)
    of_a_source = max(1, (left - for_senders) // max(1, len(wants)))
    short = []
    if peers and not left:
        short.append(f"less than {peers:,} peers")
    if receives and senders < SENDERS_MAX:
        short.append(f"{senders:,} senders")
    if wants and of_a_source < max(wants):
        short.append(f"{of_a_source:,} open files or connections of each source")
    said = f"{limit:,} descriptors (ulimit -Hn) are enough for {' and '.join(short)}"
    visitors = VisitorLimits(strangers)
    return Shares(limit, visitors, senders, of_a_source, said if short else "")


def scaled(options: Any, shares: Shares) -> Any:
    """A source's options, which may not hold open more than its share."""
    less = {
        key: shares.of_a_source for key in _BOUNDS if getattr(options, key, 0) > shares.of_a_source
    }
    return options.model_copy(update=less) if less else options


def _wanted(options: Any) -> int:
    return max(getattr(options, key, 0) for key in _BOUNDS)
