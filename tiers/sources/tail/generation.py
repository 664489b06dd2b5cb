"""One generation of a log: what is kept of it in the channel, in the transaction of its lines.

    key: 16 hex digits, growing with the age of the source: an elder has a lower one
    value: msgpack [version, offset, [begin, length, hash] of head, the same of seam, path,
                    real path, path now, inode, birth ns, device, done, blind, packed, size,
                    since s]

The offset comes before all that differs: of two values of one key, the furthest is the greater as
bytes too (see `salvage_index.scan`).
"""

from dataclasses import dataclass, field
from os import fsdecode, fsencode
from typing import Final

import msgpack

from tiers.errors import ChannelDamaged
from tiers.sources.tail.door import Status
from tiers.sources.tail.marks import NOTHING, STRONG_BYTES, Mark, Text
from tiers.sources.tail.texts import OpenText

VERSION: Final = 2


@dataclass(slots=True, eq=False)
class Generation:
    """Times in seconds. What follows `since_s` is not kept on disk."""

    key: bytes
    path: str  # of its log: where it was first found, under which its lines are known
    real: str  # the same without symbolic links: beside it rotated generations are looked for
    now: str  # where it was when last seen
    inode: int
    birth_ns: int
    device: int = 0
    offset: int = 0
    head: Mark = NOTHING
    seam: Mark = NOTHING
    done: bool = False  # rotated away, and read to its end
    blind: bool = False  # what is before the offset was there before us, and was not read
    packed: bool = False  # compressed
    size: int = 0  # of its text, as far as it was seen; blind and packed: of its file
    since_s: float = 0.0  # wall clock, when it was done
    begin: int = 0  # of its text: after a hole
    opened: OpenText | None = field(default=None, repr=False)
    current: bool = False  # at the path of its log
    gone: bool = False  # at no path that is known
    seen: Status | None = None  # when it was last compared; None: that may not be the last word
    extent: int = 0  # of its file when last looked at
    unfinished: int = 0  # bytes of a last line whose newline was not there yet
    suspect: bool = False  # not what it was when it was last read: to be looked at
    failed: bool = False  # could not be read
    damaged: bool = False  # by what is in it: not to be tried again before it changes
    cut_off: bool = False  # all that is there of a compressed file was read
    unpacks: bool = False  # its file was compressed when it was last opened
    quiet_since: float = 0.0
    looks: int = 0  # at all files, since it had something new
    elder: "Generation | None" = field(default=None, repr=False)
    looked: Mark | None = None  # its seam at the last look, or that of a copy that waits since
    first: bytes = field(default=b"", repr=False)  # its head, where that was nothing
    end: int | None = None  # draining: read to here and no further
    continuing: bool = False  # within a line of which pieces are out already

    @property
    def strong(self) -> bool:
        """Whether its marks cover enough to be believed by themselves."""
        return self.head.length >= STRONG_BYTES

    @property
    def behind(self) -> int:
        """Bytes that were there when last looked and are not put yet."""
        return 0 if self.blind else max(self.size - self.offset, self.extent - self.offset, 0)

    @property
    def unread(self) -> int:
        """Bytes that were there when last looked and could be put: no last line that is still
        being written."""
        return max(self.behind - self.unfinished, 0)

    def agrees(self, text: Text) -> bool:
        """Whether all that can be compared is as it was. An offset of 0 agrees with nothing."""
        if not self.offset or self.blind or (not text.packed and text.size < self.offset):
            return False
        return self.head.holds(text) and self.seam.holds(text)

    def begins_with(self, text: Text, end: int) -> bool:
        """Whether a text of `end` bytes, less than the offset, was copied of this since the last
        look: all that was read by then is in it."""
        if self.looked is None:
            return False
        if self.looked.length:
            was = self.looked.begin + self.looked.length <= end and self.looked.holds(text)
            return was and (self.head.length > end or self.head.holds(text))
        if end < STRONG_BYTES:
            part = text.read(self.begin, end - self.begin)
            return bool(part) and self.first.startswith(part)
        return self.strong and self.head.holds(text)

    @property
    def is_told(self) -> bool:
        """Whether `begins_with` can tell."""
        return self.looked is not None and bool(self.looked.length or self.first)

    def note_look(self) -> None:
        self.looked, self.first = self.seam, b""

    def is_at(self, status: Status) -> None:
        self.inode, self.birth_ns, self.device = status.inode, status.birth_ns, status.device

    def close(self) -> None:
        if self.opened is not None:
            self.opened.close()
            self.opened = None

    def pack(self) -> bytes:
        names = [fsencode(name) for name in (self.path, self.real, self.now)]
        packed: bytes = msgpack.packb(
            [
                VERSION,
                self.offset,
                self.head,
                self.seam,
                *names,
                self.inode,
                self.birth_ns,
                self.device,
                self.done,
                self.blind,
                self.packed,
                self.size,
                int(self.since_s),
            ]
        )
        return packed


def unpack(key: bytes, data: bytes) -> Generation:
    """Raises ChannelDamaged for what is no position, or one of another version."""
    try:
        version, offset, head, seam, *rest = msgpack.unpackb(data)
        if version != VERSION:
            raise ValueError(f"version {version}")
        path, real, now, inode, birth, device, done, blind, packed, size, since = rest
        return Generation(
            key=key,
            path=fsdecode(path),
            real=fsdecode(real),
            now=fsdecode(now),
            inode=inode,
            birth_ns=birth,
            device=device,
            offset=offset,
            head=Mark(*head),
            seam=Mark(*seam),
            done=done,
            blind=blind,
            packed=packed,
            size=size,
            since_s=since,
            begin=Mark(*head).begin,
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ChannelDamaged(f"position {key!r} cannot be read: {error}") from error
