"""A part that is made without a topology has the limits of one that says nothing."""

from dataclasses import asdict

import pytest

from tiers.core.change import ChannelLimits
from tiers.core.entry.cutting import CuttingRules
from tiers.core.hop.hosting import ReceiverLimits
from tiers.core.hop.peers import PeerLimits
from tiers.topology.settings import BatchSettings, ChannelSettings, DeliverySettings

BATCH, CHANNEL, DELIVERY = BatchSettings(), ChannelSettings(), DeliverySettings()
SAID = {
    **BATCH.__dict__,
    **CHANNEL.__dict__,
    **DELIVERY.__dict__,
    "size_bytes": BATCH.size_bytes_max,
    "grown_bytes_max": BATCH.grown_bytes_max,
    "set_bytes_max": BATCH.set_bytes_max,
    "open_max": BATCH.open_max,
    "batch_size_max": BATCH.size_bytes_max,
    "retry_max_s": DELIVERY.reconnect_max_s,
    "silence_s": 3 * DELIVERY.heartbeat_s,
    "message_size_max": DELIVERY.message_bytes_max,
    "memory_bytes_max": DELIVERY.receive_memory_bytes_max,
}
# For these there is no setting.
OWN = {
    "window_batches_max": 4096,
    "window_start_bytes": 2 << 20,
    "ack_timeout_s": 10.0,
    "retry_first_s": 0.1,
    "ask_again_s": 30.0,
    "senders_max": 10_000,
    "ask_again": False,
}


@pytest.mark.parametrize("part", [PeerLimits, ReceiverLimits, CuttingRules, ChannelLimits])
def test_defaults_are_those_of_the_topology(
    part: type[PeerLimits | ReceiverLimits | CuttingRules | ChannelLimits],
) -> None:
    limits = asdict(part())
    assert limits == {name: (SAID | OWN)[name] for name in limits}
