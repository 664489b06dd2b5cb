"""The content of a file: the bodies of its batches, one after the other, straight from the channel.

Where the file's codec is the batch's, a body is copied as it is: zstd frames (RFC 8878 section 3)
and gzip members (RFC 1952 section 2.2) may follow one another. Small ones are opened, joined to
about 1 MiB and compressed anew, since a file of ten thousand tiny frames is larger and slower to
read. What goes out are chunks of about 1 MiB, whatever came in. Never more than one batch and one
chunk are in memory.
"""

import threading
from collections.abc import Iterator
from typing import Protocol

from tiers.core.batch import Buffer, Envelope, open_envelope, split
from tiers.core.codecs import compressor, decompress
from tiers.core.commit import Plan
from tiers.core.filing import Ref
from tiers.errors import BatchError, ChannelUnavailable, StoreUnavailable

CHUNK_BYTES = 1 << 20
SMALL_BYTES = 64 << 10


class Records(Protocol):
    """What this needs of a channel."""

    def record(self, position: int) -> bytes: ...


class Body:
    """Iterated once, in a worker thread. After a BatchError `damaged` says which batch it was."""

    def __init__(self, channel: Records, plan: Plan, level: int, stop: threading.Event) -> None:
        self.damaged: tuple[int, str] | None = None
        self._channel = channel
        self._plan = plan
        self._compress = compressor(plan.codec, level)
        self._stop = stop

    def __iter__(self) -> Iterator[Buffer]:
        pending: list[Buffer] = []
        size = 0
        for piece in self._pieces():
            pending.append(piece)
            size += len(piece)
            if size >= CHUNK_BYTES:
                yield pending[0] if len(pending) == 1 else b"".join(pending)
                pending, size = [], 0
        if pending:
            yield b"".join(pending)

    def _pieces(self) -> Iterator[Buffer]:
        """Bodies in the file's codec."""
        joined: list[Buffer] = []  # raw, to be compressed together
        alone: Buffer = b""  # the one in `joined` as it is stored, if it may be copied
        size = 0
        for ref in self._plan.refs:
            envelope, body = self._open(ref)
            same = envelope.codec == self._plan.codec
            if self._plan.codec == "none":
                yield body if same else self._raw(ref, envelope, body)
                continue
            if same and len(body) >= SMALL_BYTES:
                if joined:
                    yield alone or self._compress(b"".join(joined))
                    joined, alone, size = [], b"", 0
                yield body
                continue
            alone = body if same and not joined else b""
            joined.append(self._raw(ref, envelope, body))
            size += envelope.size
            if size >= CHUNK_BYTES:
                yield alone or self._compress(b"".join(joined))
                joined, alone, size = [], b"", 0
        if joined:
            yield alone or self._compress(b"".join(joined))

    def _open(self, ref: Ref) -> tuple[Envelope, memoryview]:
        if self._stop.is_set():
            # The sink is gone, and soon the channel: end this call; its tmp will be voided.
            raise StoreUnavailable("the sink has stopped")
        try:
            record = self._channel.record(ref.position)
            envelope = open_envelope(record)
            if envelope.id != ref.id or envelope.count != ref.events:
                raise BatchError(f"batch {envelope.id} lies where {ref.id} was planned")
            return envelope, split(record)[1]
        except BatchError as error:
            self.damaged = (ref.position, str(error))
            raise
        except ChannelUnavailable as error:
            # The file ends here, and whatever there is of it is a prefix: as with a broken upload.
            raise StoreUnavailable(f"the channel cannot be read: {error}") from error

    def _raw(self, ref: Ref, envelope: Envelope, body: memoryview) -> bytes:
        try:
            return decompress(envelope.codec, body, envelope.size)
        except BatchError as error:
            self.damaged = (ref.position, str(error))
            raise
