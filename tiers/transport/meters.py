"""The numbers of hops: what sender groups and receivers have seen."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from tiers.channel.meters import BYTES_OUT, EVENTS_OUT, NEWEST, OUTPUT
from tiers.core.counts import Counts
from tiers.core.hop.peers import PeerState
from tiers.core.meters import Meter, MeterKind, Sample, seconds

if TYPE_CHECKING:
    from tiers.transport.receiving import ReceiverEnd
    from tiers.transport.sending import SenderGroup

COUNTER, GAUGE = MeterKind.COUNTER, MeterKind.GAUGE
_PEER: Final = ("output", "peer")

FLAGGED: Final = Meter(
    "sender_flagged_batches",
    "batches",
    COUNTER,
    "Batches flagged, since another peer may have a copy",
    OUTPUT,
)
HANDED: Final = Meter(
    "sender_handed_batches",
    "batches",
    GAUGE,
    'With `"end"`: batches that a peer has on disk, kept until they are published',
    OUTPUT,
)
PEER_UP: Final = Meter("peer_up", "", GAUGE, "1 where a peer takes batches, else 0", _PEER)
PEER_EVENTS: Final = Meter("peer_events", "events", COUNTER, "Events that a peer has acked", _PEER)
PEER_BATCHES: Final = Meter(
    "peer_batches", "batches", COUNTER, "Batches that a peer has acked", _PEER
)
PEER_CREDIT: Final = Meter(
    "peer_credit_bytes", "bytes", GAUGE, "What a peer still lets this agent send", _PEER
)
PEER_IN_FLIGHT: Final = Meter(
    "peer_in_flight_bytes", "bytes", GAUGE, "What a peer was sent and has not acked", _PEER
)
EVENTS_IN: Final = Meter("receiver_events", "events", COUNTER, "Events received, on disk")
BYTES_IN: Final = Meter("receiver_bytes", "bytes", COUNTER, "Bytes of these, as stored")
AGE: Final = Meter(
    "receiver_age_seconds",
    "seconds",
    MeterKind.HISTOGRAM,
    "How old batches were when they arrived: since their first agent had stored them",
    bounds=seconds(0.001, 86_400.0),
)
SENDERS: Final = Meter("receiver_senders", "senders", GAUGE, "Agents that send here")
MEMORY: Final = Meter("receiver_memory_bytes", "bytes", GAUGE, "Memory promised to senders")
HUNGRY: Final = Meter("receiver_waiting_senders", "senders", GAUGE, "Agents that wait for credit")
OWED: Final = Meter(
    "receiver_owed_batches",
    "batches",
    GAUGE,
    'With `"end"`: batches whose senders wait for the word that they are published',
)
DUPLICATES: Final = Meter(
    "receiver_duplicate_batches", "batches", COUNTER, "Batches that were here already"
)
REJECTED: Final = Meter(
    "receiver_rejected_batches", "batches", COUNTER, "Batches that can never be published"
)
DISCARDED: Final = Meter("receiver_discarded_bundles", "bundles", COUNTER, "Of old sessions")
MALFORMED: Final = Meter(
    "receiver_malformed_messages", "messages", COUNTER, "Messages that could not be read"
)
UNPAID: Final = Meter(
    "receiver_unpaid_messages", "messages", COUNTER, "Dropped unread: their sender says too much"
)
CONNECTIONS: Final = Meter(
    "receiver_connections", "connections", GAUGE, "Open connections to the receiver's two ports"
)
STRANGERS: Final = Meter(
    "receiver_stranger_connections", "connections", GAUGE, "Those without a session"
)
TURNED_AWAY: Final = Meter(
    "receiver_closed_connections", "connections", COUNTER, "Closed since they were beyond a limit"
)
METERS: Final = (
    *(FLAGGED, HANDED, PEER_UP, PEER_EVENTS, PEER_BATCHES, PEER_CREDIT, PEER_IN_FLIGHT),
    *(EVENTS_IN, BYTES_IN, AGE, SENDERS, MEMORY, HUNGRY, OWED, DUPLICATES, REJECTED, DISCARDED),
    *(MALFORMED, UNPAID, CONNECTIONS, STRANGERS, TURNED_AWAY),
)

# The words for them in the status.
WORDS_OF_SENDER: Final = {"flagged": FLAGGED, "handed": HANDED}
WORDS_OF_PEER: Final = {
    **{"credit_bytes": PEER_CREDIT, "in_flight_bytes": PEER_IN_FLIGHT},
    **{"events": PEER_EVENTS, "batches": PEER_BATCHES},
}
WORDS_OF_RECEIVER: Final = {
    **{"senders_in_all": SENDERS, "memory_bytes": MEMORY, "waiting_for_credit": HUNGRY},
    **{"owed": OWED, "rejected": REJECTED, "malformed": MALFORMED, "unpaid": UNPAID},
    **{"duplicates": DUPLICATES, "discarded": DISCARDED},
}
WORDS_OF_GATE: Final = {
    **{"connections": CONNECTIONS, "strangers": STRANGERS, "turned_away": TURNED_AWAY},
}


def of_group(group: "SenderGroup", counts: Counts) -> Iterator[Sample]:
    """Peers are those of the topology, at most PEERS_MAX."""
    output, peers = group.output, group.sender.peers.values()
    yield EVENTS_OUT.of(counts.events_out, output)
    yield BYTES_OUT.of(counts.bytes_out, output)
    yield NEWEST.of(max((peer.newest_ms for peer in peers), default=0) / 1000, output)
    yield FLAGGED.of(group.flagged, output)
    yield HANDED.of(sum(len(peer.handed) for peer in peers), output)
    for peer in peers:
        yield PEER_UP.of(int(peer.state is PeerState.UP), output, peer.name)
        yield PEER_EVENTS.of(peer.events, output, peer.name)
        yield PEER_BATCHES.of(peer.batches, output, peer.name)
        yield PEER_CREDIT.of(max(0, peer.limit - peer.sent), output, peer.name)
        yield PEER_IN_FLIGHT.of(peer.in_flight_bytes, output, peer.name)


def of_receiver(end: "ReceiverEnd") -> Iterator[Sample]:
    """Those that send are not told apart here: anybody may."""
    receiver, gate = end.receiver, end.gate.status()
    yield EVENTS_IN.of(end.events_in)
    yield BYTES_IN.of(end.bytes_in)
    yield AGE.of(end.ages)
    yield SENDERS.of(len(receiver.senders))
    yield MEMORY.of(receiver.credits.held)
    yield HUNGRY.of(receiver.credits.waiting())
    yield OWED.of(receiver.owed())
    yield DUPLICATES.of(receiver.duplicates)
    yield REJECTED.of(receiver.rejected)
    yield DISCARDED.of(receiver.discarded)
    yield MALFORMED.of(end.malformed)
    yield UNPAID.of(end.purses.unpaid)
    yield CONNECTIONS.of(gate["connections"])
    yield STRANGERS.of(gate["strangers"])
    yield TURNED_AWAY.of(gate["turned_away"])
