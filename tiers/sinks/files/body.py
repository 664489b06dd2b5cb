"""The content of a file: the bodies of its batches, one after the other, straight from the channel.

Where the file's codec and format are the batch's, a body is copied as it is: zstd frames (RFC 8878
section 3) and gzip members (RFC 1952 section 2.2) may follow one another. Small ones are joined to
about 1 MiB and compressed anew, since a file of ten thousand tiny frames is larger and slower to
read. What goes out are chunks of about 1 MiB, whatever came in. Never more than one batch and one
chunk are in memory.

Every body is opened here, the copied ones too, and must hold the events that its envelope says: a
right checksum proves who made the mistake, not that there is none, and one body that does not open
takes all that follow it in the file from its readers.
"""

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Protocol

from tiers.core.batch import Buffer, Envelope, open_envelope, split
from tiers.core.change import Bad
from tiers.core.codecs import compressor, joined
from tiers.core.commit.filing import Ref
from tiers.core.commit.planned import Plan
from tiers.errors import BatchError, ChannelUnavailable, StoreUnavailable, TiersError
from tiers.sinks.files.openings import Opening
from tiers.sinks.formats import FORMATS, proven

CHUNK_BYTES = 1 << 20
SMALL_BYTES = 64 << 10


class Records(Protocol):
    """What this needs of a channel."""

    def record(self, position: int) -> bytes: ...


class Body:
    """Iterated once, in a worker thread. After a BatchError `bad` says which batches cannot
    be in the file: all of them, so that it is written once more and not once for each."""

    def __init__(
        self,
        channel: Records,
        plan: Plan,
        level: int,
        stop: threading.Event,
        opening: Opening = nullcontext,
    ) -> None:
        self.bad: list[Bad] = []
        self.failed: Ref | None = None  # at which batch, where this ended by no error of the world
        self._channel = channel
        self._plan = plan
        self._compress = compressor(plan.codec, level)
        self._format = FORMATS[plan.format]
        self._stop = stop
        self._opening = opening

    def __iter__(self) -> Iterator[Buffer]:
        return joined(self._pieces(), CHUNK_BYTES)

    def _pieces(self) -> Iterator[Buffer]:
        """Bodies in the file's codec."""
        small: list[Buffer] = []  # raw, to be compressed together
        alone: Buffer = b""  # the one in `small` as it is stored, if it may be copied
        size = 0
        for envelope, body, raw in self._opened():
            if self._is_copied(envelope, body):
                if small:
                    yield alone or self._compress(b"".join(small))
                    small, alone, size = [], b"", 0
                yield body
                continue
            if self._plan.codec == "none":
                yield from raw
                continue
            alone = body if self._is_kept(envelope) and not small else b""
            small += raw
            size += envelope.size
            if size >= CHUNK_BYTES:
                yield alone or self._compress(b"".join(small))
                small, alone, size = [], b"", 0
        if small:
            yield alone or self._compress(b"".join(small))

    def _is_copied(self, envelope: Envelope, body: Buffer) -> bool:
        return self._is_kept(envelope) and len(body) >= SMALL_BYTES

    def _is_kept(self, envelope: Envelope) -> bool:
        same = envelope.codec == self._plan.codec
        return same and envelope.framing == self._format.framing

    def _opened(self) -> Iterator[tuple[Envelope, memoryview, list[Buffer]]]:
        """Each batch with its lines, where its body is not copied. After a bad one only the others
        that are bad are looked for; then BatchError."""
        for ref in self._plan.refs:
            if self._stop.is_set():
                # The sink is gone, and soon the channel: end this call; its tmp will be voided.
                raise StoreUnavailable("the sink has stopped")
            whole = False
            try:
                with self._opening(ref.position):
                    record = self._record(ref)
                    whole = True
                    envelope, body = open_envelope(record), split(record)[1]
                    strictly = envelope.codec == self._plan.codec
                    opened = proven(envelope, body, strictly=strictly)
                    copied = self._is_copied(envelope, body)
                    pieces: Iterator[Buffer] = (
                        opened if copied else self._format.encode(envelope, opened)
                    )
                    raw = [piece for piece in pieces if not copied]
            except BatchError as error:
                self.bad.append(Bad(ref.position, str(error), whole))
                continue
            except TiersError:
                raise
            except Exception:
                self.failed = ref
                raise
            if not self.bad:
                yield envelope, body, raw
        if self.bad:
            raise BatchError(f"{len(self.bad)} batches cannot be in the file")

    def _record(self, ref: Ref) -> bytes:
        """The record of a batch, whole and the one that was planned. Raises BatchError."""
        try:
            record = self._channel.record(ref.position)
        except ChannelUnavailable as error:
            # The file ends here, and whatever there is of it is a prefix: as with a broken upload.
            raise StoreUnavailable(f"the channel cannot be read: {error}") from error
        envelope = open_envelope(record)
        if envelope.id != ref.id or envelope.count != ref.events:
            raise BatchError(f"batch {envelope.id} lies where {ref.id} was planned")
        return record
