"""What waits in a channel for a file sink: each batch's bucket, and those no file can take."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from tiers.contracts import Channel
from tiers.core import paths
from tiers.core.batch import CODECS, Envelope
from tiers.core.change import Change, Entry
from tiers.core.filing import Bucket, Ref
from tiers.errors import BatchError, TiersError
from tiers.sinks.file_options import FileOptions
from tiers.sinks.formats import FRAMINGS
from tiers.sinks.writing import TRIES_MAX

_LOAD_MAX: Final = 1000  # entries looked up in one go


class Loaded(NamedTuple):
    """Entries looked up in one go."""

    found: list[tuple[Bucket, Ref, int]]  # and when each was stored here, in ms; `came_s` is 0
    bad: Change  # what buries those that no file can take
    newer: list[tuple[Entry, str]]  # what has to wait for a newer version, and why


class Newer(Exception):
    """Whole, and sealed by a version that knows more than this one."""


class Loading:
    """Of one output. Blocks: call it in a worker thread, one call at a time."""

    def __init__(self, channel: Channel, output: str, options: FileOptions) -> None:
        self._channel = channel
        self._output = output
        self._path = options.path
        self._codec = options.codec

    def entries(self, after: int) -> list[Entry]:
        """The next of the queue. ChannelUnavailable, as `Channel` raises it."""
        return self._channel.entries(self._output, after, _LOAD_MAX)

    def look_up(self, entries: Sequence[Entry]) -> Loaded:
        """Where these belong. ChannelUnavailable, as `Channel` raises it."""
        found: list[tuple[Bucket, Ref, int]] = []
        dead: list[tuple[str, int, str]] = []
        damaged: list[tuple[str, int, str]] = []
        newer: list[tuple[Entry, str]] = []
        for entry in entries:
            try:
                envelope, bucket = self._look_at(entry.position)
            except (BatchError, Newer) as error:
                letter = (self._output, entry.position, str(error))
                if not self._is_whole(entry.position):
                    damaged.append(letter)
                elif isinstance(error, Newer):
                    newer.append((entry, str(error)))
                else:
                    dead.append(letter)
                continue
            copied = self._codec != "none" or envelope.codec == self._codec
            size = entry.size if copied else envelope.size
            numbers = (entry.position, envelope.id, envelope.count, entry.flagged, size, 0.0)
            ref = Ref(*numbers, entry.agent, entry.begun_ms)
            found.append((bucket, ref, entry.stored_ms))
        return Loaded(found, Change(dead=dead, damaged=damaged), newer)

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
        if envelope.framing not in FRAMINGS:
            raise Newer(f"framing {envelope.framing!r}")
        if envelope.codec not in CODECS:
            raise Newer(f"codec {envelope.codec!r}")
        directory = paths.render(self._path, envelope.headers, envelope.time)
        return Bucket(paths.day_name(envelope.sealed), directory)
