"""What waits in a channel for a file sink: each batch's bucket, and those no file can take."""

from typing import Final, NamedTuple

from tiers.channel.change import Change
from tiers.channel.channel import Channel
from tiers.core import paths
from tiers.core.batch import Envelope
from tiers.core.filing import Bucket, Ref
from tiers.errors import BatchError
from tiers.sinks.file_options import FileOptions

_LOAD_MAX: Final = 1000  # entries looked up in one go


class Loaded(NamedTuple):
    """Entries looked up in one go."""

    found: list[tuple[Bucket, Ref, int]]  # and when each was stored here, in ms; `came_s` is 0
    bad: Change  # what buries the others
    last: int  # their last position; 0 when there are none


class Loading:
    """Of one output. Blocks: call it in a worker thread, one call at a time."""

    def __init__(self, channel: Channel, output: str, options: FileOptions) -> None:
        self._channel = channel
        self._output = output
        self._path = options.path
        self._codec = options.codec

    def look_up(self, after: int) -> Loaded:
        """The next entries behind this position. ChannelUnavailable, as `Channel` raises it."""
        found: list[tuple[Bucket, Ref, int]] = []
        dead: list[tuple[str, int, str]] = []
        damaged: list[tuple[str, int, str]] = []
        last = 0
        for entry in self._channel.entries(self._output, after, _LOAD_MAX):
            last = entry.position
            try:
                envelope = self._channel.envelope(entry.position)
                bucket = self._bucket(envelope)
            except BatchError as error:
                whole = self._is_whole(entry.position)
                (dead if whole else damaged).append((self._output, entry.position, str(error)))
                continue
            copied = self._codec != "none" or envelope.codec == self._codec
            size = entry.size if copied else envelope.size
            ref = Ref(entry.position, envelope.id, envelope.count, entry.flagged, size, 0.0)
            found.append((bucket, ref, entry.stored_ms))
        return Loaded(found, Change(dead=dead, damaged=damaged), last)

    def _is_whole(self, position: int) -> bool:
        try:
            self._channel.record(position)
        except BatchError:
            return False
        return True

    def _bucket(self, envelope: Envelope) -> Bucket:
        if envelope.framing != "lines":
            raise BatchError(f"framing {envelope.framing!r}: this sink writes lines only")
        directory = paths.render(self._path, envelope.headers, envelope.time)
        return Bucket(paths.day_name(envelope.sealed), directory)
