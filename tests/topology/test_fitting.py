"""What follows from other settings where the file does not say it."""

import pytest

from tiers.topology.fitting import fitted, record_bytes_max
from tiers.topology.settings import MIB, BatchSettings, ChannelSettings, DeliverySettings

KIB = 1024
DELIVERY = {"window": "1GiB", "message_size": "1GiB"}


@pytest.mark.parametrize(
    ("size", "grown"),
    [
        ("2B", 8),
        ("64KiB", 256 * KIB),
        ("1MiB", 4 * MIB),
        ("3MiB", 4 * MIB),
        ("5MiB", 5 * MIB),
        ("16MiB", 16 * MIB),
    ],
)
def test_batches_grow_with_their_size(size: str, grown: int) -> None:
    batch = BatchSettings.model_validate({"size": size})
    found = fitted(batch, ChannelSettings(), DeliverySettings.model_validate(DELIVERY))
    assert found.grown_bytes_max == grown
    assert found.event_bytes_max == min(MIB, batch.size_bytes_max)


@pytest.mark.parametrize(
    ("channel", "delivery", "record"),
    [
        ({"size": "8MiB"}, {}, 2 * MIB),
        ({}, {"window": "3MiB"}, 3 * MIB),
        ({}, {"message_size": "4MiB"}, 3 * MIB),
        ({}, {"message_size": "4MiB", "bundle_size": "2MiB"}, 2 * MIB),
        ({"size": "1MiB"}, {}, 0),  # no room for any: told by `check`
    ],
)
def test_they_do_not_outgrow_what_takes_them(
    channel: dict[str, str], delivery: dict[str, str], record: int
) -> None:
    found = fitted(
        BatchSettings(),
        ChannelSettings.model_validate(channel),
        DeliverySettings.model_validate(delivery),
    )
    grown = found.grown_bytes_max
    assert grown >= MIB
    assert grown == MIB or record - 65 < record_bytes_max(grown) <= record


def test_what_the_file_says_holds() -> None:
    batch = BatchSettings.model_validate({"size": "64KiB", "size_max": "16MiB"})
    small = ChannelSettings.model_validate({"size": "1MiB"})
    assert fitted(batch, small, DeliverySettings()).grown_bytes_max == 16 * MIB
    events = BatchSettings.model_validate({"size": "64KiB", "event_size": "1MiB"})
    assert fitted(events, small, DeliverySettings()).event_bytes_max == MIB
