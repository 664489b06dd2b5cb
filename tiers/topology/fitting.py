"""Settings that follow others where the file does not say them."""

from typing import Final

from tiers.core.batch import ENVELOPE_BYTES_MAX
from tiers.topology.settings import BatchSettings, ChannelSettings, DeliverySettings

BATCHES_IN_CHANNEL: Final = 4  # for which there is room at least
_GROWTH: Final = 4  # times `size`


def record_bytes_max(raw_bytes: int) -> int:
    """The largest record of a batch: what does not compress grows a little, and an envelope comes
    on top."""
    return raw_bytes * 65 // 64 + 2 * ENVELOPE_BYTES_MAX


def fitted(
    batch: BatchSettings, channel: ChannelSettings, delivery: DeliverySettings
) -> BatchSettings:
    """Whoever only makes batches smaller than the default `event_size` means events as well, and
    whoever makes batches, windows or messages small means no batch that grows beyond them.
    Those of a set are one change of the channel."""
    said, size = batch.model_fields_set, batch.size_bytes_max
    update: dict[str, int] = {}
    if "event_bytes_max" not in said and batch.event_bytes_max > size:
        update["event_bytes_max"] = size
    if "grown_bytes_max" not in said:
        record = min(
            channel.size_bytes_max // BATCHES_IN_CHANNEL,
            delivery.window_bytes_max,
            delivery.message_bytes_max - delivery.bundle_bytes_max,
        )
        raw = (record - 2 * ENVELOPE_BYTES_MAX) * 64 // 65
        update["grown_bytes_max"] = max(size, min(batch.grown_bytes_max, _GROWTH * size, raw))
    if "set_bytes_max" not in said:
        grown = update.get("grown_bytes_max", batch.grown_bytes_max)
        room = channel.size_bytes_max // BATCHES_IN_CHANNEL
        update["set_bytes_max"] = max(grown, min(batch.set_bytes_max, room))
    return batch.model_copy(update=update)
