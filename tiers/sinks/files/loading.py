"""What waits in a channel for a file sink: each batch's bucket, and those no file can take."""

from collections.abc import Sequence
from typing import NamedTuple

from tiers.contracts import Channel
from tiers.core import paths
from tiers.core.batch import Envelope
from tiers.core.change import Bad, Entry
from tiers.core.commit.filing import Bucket, Ref
from tiers.errors import BatchError, TiersError
from tiers.sinks.files.options import FileOptions
from tiers.sinks.files.writing import TRIES_MAX
from tiers.sinks.opening import Newer, check_known


class Loaded(NamedTuple):
    """Entries looked up in one go."""

    found: list[tuple[Bucket, Ref, int]]  # and when each was stored here, in ms; `came_s` is 0
    bad: list[Bad]  # that no file can take
    newer: list[str]  # for each that has to wait for a newer version, why


class Loading:
    """Of one output. Blocks: call it in a worker thread, one call at a time."""

    def __init__(self, channel: Channel, options: FileOptions) -> None:
        self._channel = channel
        self._path = options.path
        self._codec = options.codec

    def look_up(self, entries: Sequence[Entry]) -> Loaded:
        """Where these belong. ChannelUnavailable, as `Channel` raises it."""
        found: list[tuple[Bucket, Ref, int]] = []
        bad: list[Bad] = []
        newer: list[str] = []
        for entry in entries:
            try:
                envelope, bucket = self._look_at(entry.position)
            except (BatchError, Newer) as error:
                whole = self._is_whole(entry.position)
                if whole and isinstance(error, Newer):
                    newer.append(str(error))
                else:
                    bad.append(Bad(entry.position, str(error), whole))
                continue
            copied = self._codec != "none" or envelope.codec == self._codec
            size = entry.size if copied else envelope.size
            numbers = (entry.position, envelope.id, envelope.count, entry.flagged, size, 0.0)
            ref = Ref(*numbers, entry.agent, entry.begun_ms)
            found.append((bucket, ref, entry.stored_ms))
        return Loaded(found, bad, newer)

    def _look_at(self, position: int) -> tuple[Envelope, Bucket]:
        """Raises BatchError, also for a batch by which this fails twice: it is that one alone."""
        failed: Exception | None = None
        for _ in range(TRIES_MAX):
            try:
                envelope = self._channel.envelope(position)
                return envelope, self._bucket(envelope)
            except (TiersError, Newer, MemoryError):
                raise
            except Exception as error:
                failed = error
        raise BatchError(f"this sink fails by it alone: {failed!r:.200}") from failed

    def _is_whole(self, position: int) -> bool:
        try:
            self._channel.record(position)
        except BatchError:
            return False
        return True

    def _bucket(self, envelope: Envelope) -> Bucket:
        check_known(envelope)
        directory = paths.render(self._path, envelope.headers, envelope.time)
        return Bucket(paths.day_name(envelope.sealed), directory)
