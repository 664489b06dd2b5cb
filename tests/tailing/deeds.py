"""What writers, rotators, administrators and reboots do to a log, each as a tuple that can be
printed and played again: its name and its arguments."""

import bz2
import gzip
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import zstandard

from tests.tailing.disk import Inode, ModelDisk

Deed = tuple[Any, ...]
LOG: Final = "/logs/app.log"
GENERATIONS_MAX: Final = 4
_PACK: Final[dict[str, Callable[[bytes], bytes]]] = {
    ".gz": partial(gzip.compress, mtime=0),
    ".zst": zstandard.compress,
    ".bz2": bz2.compress,
}
PACKED: Final = tuple(_PACK)
SECTOR_BYTES: Final = 512
_MEANWHILE: Final = ("copytruncate", "lines", "banner", "half")  # while a log is copied
BANNERS: Final = (b"start\n", b"ok\n", b"# fields: " + b"x" * 600 + b"\n")


def _packed(text: bytes, how: str, streams: int) -> bytes:
    """In so many streams, with zeros behind all but the first."""
    size = len(text) // streams + 1
    parts = [_PACK[how](text[at : at + size]) for at in range(0, max(len(text), 1), size)]
    return parts[0] + b"".join(part + bytes(SECTOR_BYTES) for part in parts[1:])


def numbered(number: int) -> str:
    return f"{LOG}.{number}"


@dataclass
class Site:
    """One log with its writer."""

    disk: ModelDisk
    appends: bool  # O_APPEND; else it writes where it was, whatever a truncation did
    written: list[bytes] = field(default_factory=list)  # unique lines, in order
    on_written: Callable[[Inode, bytes], None] = lambda inode, line: None
    writer: Inode | None = None
    at: int = 0
    rest: bytes = b""  # of a line that is half written
    compressing: tuple[Inode, Inode, bytes] | None = None  # what, into what, and what is to come
    copying: tuple[Inode, Inode, bool] | None = None  # what, into what, and whether all is there

    def do(self, deed: Deed) -> None:
        name, *arguments = deed
        if self.copying is not None and not name.startswith(_MEANWHILE):
            self.do_copytruncate()
        getattr(self, "do_" + name)(*arguments)

    # -- the writer --------------------------------------------------------------------------

    def do_lines(self, count: int, size: int) -> None:
        for _ in range(count):
            line = b"L%06d %s\n" % (len(self.written), b"." * size)
            self.written.append(line)
            self._write(line)

    def do_banner(self, which: int) -> None:
        self._write(BANNERS[which])

    def do_half(self, size: int) -> None:
        """A line of which the end comes with the next one."""
        line = b"H%06d %s\n" % (len(self.written), b"." * size)
        self.written.append(line)
        self._write(line, half=True)

    def do_reopen(self) -> None:
        old, self.rest = self.writer, b""
        self.writer = self.disk.names.get(LOG) or self.disk.make(LOG)
        text = bytes(self.writer.data).rstrip(b"\0")
        # A hole of less than a sector, within a line, is left by nobody.
        whole = len(self.writer.data) - len(text) >= SECTOR_BYTES
        self.at = len(self.writer.data) if whole or self.appends else len(text)
        self.writer.writers += 1
        if old is not None:
            old.writers -= 1
            self.disk.reap(old)

    def _write(self, data: bytes, half: bool = False) -> None:
        if self.writer is None:
            self.do_reopen()
        assert self.writer is not None
        data, self.rest = self.rest + data, b""
        if half:
            data, self.rest = data[:8], data[8:]
        end = len(self.writer.data)
        begin = end if self.appends else self.at
        self.disk.write(self.writer, data, begin)
        self.at = begin + len(data)
        self.on_written(self.writer, data)

    # -- rotation ----------------------------------------------------------------------------

    def _shift(self) -> None:
        for end in ("", *PACKED):
            self.disk.unlink(numbered(GENERATIONS_MAX) + end)
            for number in range(GENERATIONS_MAX - 1, 0, -1):
                self.disk.rename(numbered(number) + end, numbered(number + 1) + end)

    def do_rotate(self, reopens: bool) -> None:
        if LOG in self.disk.names:
            self._shift()
            self.disk.rename(LOG, numbered(1))
            if reopens:
                self.do_reopen()

    def do_rotate_dated(self, style: str) -> None:
        if LOG in self.disk.names:
            self.disk.rename(LOG, style.format(len(self.written)))
            self.do_reopen()

    def do_copytruncate(self) -> None:
        """Also what is left of one that is under way."""
        if self.copying is not None:
            of, copy, _ = self.copying
            self.copying = of, copy, True
            self.disk.write(copy, bytes(of.data[len(copy.data) :]))
            self.do_copytruncate_slowly(0)
        elif (inode := self.disk.names.get(LOG)) is not None:
            self._shift()
            self.disk.copy(inode, numbered(1))
            self._truncate(inode)

    def do_copytruncate_slowly(self, share: float) -> None:
        """So much of the copy is there when it is looked at; the rest of it comes with the next
        such deed, or the one after that, and then the truncation."""
        if self.copying is None:
            log = self.disk.names.get(LOG)
            # What is written where zeros were copied is in no copy.
            if log is not None and not log.data.endswith(b"\0"):
                self._shift()
                part = bytes(log.data[: int(len(log.data) * share)])
                self.disk.copy(log, numbered(1), part)
                self.copying = log, self.disk.names[numbered(1)], False
            return
        inode, copy, whole = self.copying
        if whole:
            self.copying = None
            self._truncate(inode)
            return
        rest = bytes(inode.data[len(copy.data) :])
        whole = share < 0.7
        self.disk.write(copy, rest if whole else rest[: int(len(rest) * share)])
        self.copying = inode, copy, whole

    def do_copy(self, number: int) -> None:
        if (inode := self.disk.names.get(LOG)) is not None:
            self.disk.copy(inode, numbered(number))

    def do_truncate(self) -> None:
        if (inode := self.disk.names.get(LOG)) is not None:
            self._truncate(inode)

    def do_rewrite(self) -> None:
        """In place, with other lines: as many bytes as before."""
        if (inode := self.disk.names.get(LOG)) is None or inode is not self.writer:
            return
        sizes = [len(line) for line in bytes(inode.data).split(b"\n")[:-1]]
        self._truncate(inode)
        self.at = 0
        for size in sizes:
            self.do_lines(1, max(size - len("L000000 "), 0))

    def _truncate(self, inode: Inode) -> None:
        self.disk.truncate(inode)
        if inode is self.writer:
            self.rest = b""

    def do_compress(self, number: int, how: str, keep: bool, streams: int = 1) -> None:
        old, new = numbered(number), numbered(number) + how
        if (inode := self.disk.names.get(old)) is None or new in self.disk.names:
            return
        self.disk.copy(inode, new, _packed(bytes(inode.data), how, streams))
        if not keep:
            self.disk.unlink(old)

    def do_compress_slowly(self, number: int, how: str, share: float) -> None:
        """So much of it is there when it is looked at; the rest comes with the next such deed."""
        if self.compressing is not None:
            old, packed, rest = self.compressing
            self.compressing = None
            self.disk.write(packed, rest)
            for path in [path for path, inode in self.disk.names.items() if inode is old]:
                if packed.links and path != LOG:
                    self.disk.unlink(path)
            return
        path, new = numbered(number), numbered(number) + how
        if (inode := self.disk.names.get(path)) is None or new in self.disk.names:
            return
        whole = _packed(bytes(inode.data), how, 2)
        at = int(len(whole) * share)
        self.disk.copy(inode, new, whole[:at])
        self.compressing = inode, self.disk.names[new], whole[at:]

    def do_decompress(self, number: int) -> None:
        old, new = numbered(number) + ".gz", numbered(number)
        if (inode := self.disk.names.get(old)) is not None and new not in self.disk.names:
            try:
                text = gzip.decompress(bytes(inode.data))
            except EOFError:  # it is still being written
                return
            self.disk.copy(inode, new, text)
            self.disk.unlink(old)

    def do_away(self, number: int) -> None:
        self.disk.rename(numbered(number), f"/logs/old/app.log.{number}")

    def do_back(self, number: int) -> None:
        if numbered(number) not in self.disk.names:
            self.disk.rename(f"/logs/old/app.log.{number}", numbered(number))

    # -- administrators ----------------------------------------------------------------------

    def do_delete(self, number: int) -> None:
        self.disk.unlink(numbered(number) if number else LOG)

    def do_delete_and_reopen(self) -> None:
        self.disk.unlink(LOG)
        self.do_reopen()

    def do_replace(self) -> None:
        """By a new empty one, renamed into place."""
        self.disk.link(LOG, self.disk.make())
        self.do_reopen()

    def do_edit(self) -> None:
        """As `sed -i`: the same text in another file."""
        if (inode := self.disk.names.get(LOG)) is not None:
            new = self.disk.make()
            new.data += inode.data
            self.disk.link(LOG, new)
            self.do_reopen()

    def do_put_back(self) -> None:
        self.disk.rename(numbered(1), LOG)

    def do_copy_back(self) -> None:
        if LOG not in self.disk.names and (inode := self.disk.names.get(numbered(1))) is not None:
            self.disk.copy(inode, LOG)

    def do_restore(self, among_the_same: bool) -> None:
        self.disk.renumber(among_the_same=among_the_same)
        if self.writer is not None:
            self.do_reopen()

    def do_reserve(self, size: int) -> None:
        """Preallocated: zeros that are not there yet. Only for a writer that then fills them."""
        if not self.appends and self.writer is not None:
            self.disk.write(self.writer, bytes(size), max(len(self.writer.data), self.at))

    def do_trim(self) -> None:
        if (inode := self.disk.names.get(LOG)) is not None:
            self.disk.truncate(inode, len(bytes(inode.data).rstrip(b"\0")))

    def do_derive(self, end: str) -> None:
        """`app.log.tail`, `app.log.all`: of other names, whatever is in them."""
        if (inode := self.disk.names.get(LOG)) is not None:
            self.disk.copy(inode, LOG + end)

    def do_deny(self, number: int) -> None:
        inode = self.disk.names.get(numbered(number) if number else LOG)
        if inode is not None:
            inode.readable = not inode.readable

    def do_clock(self, seconds: float) -> None:
        self.disk.passed(seconds)


def random_deed(r: random.Random) -> Deed:
    """Writers most of the time."""
    if r.random() < 0.5:
        size = r.choice([0, 0, 300, 700])
        return r.choice(
            [
                ("lines", r.randint(1, 4), size),
                ("lines", r.randint(1, 4), size),
                ("banner", r.randrange(len(BANNERS))),
                ("half", size),
                ("reopen",),
            ]
        )
    number = r.randint(1, 3)
    deeds: list[Deed] = [
        ("rotate", True),
        ("rotate", True),
        ("rotate", False),
        ("rotate_dated", r.choice(["/logs/app-{:06d}1.log", "/logs/app.log.2026-11-2{}"])),
        ("copytruncate",),
        ("copytruncate_slowly", r.random()),
        ("copytruncate_slowly", r.random()),
        ("copy", r.choice([9, 8])),
        ("truncate",),
        ("rewrite",),
        ("compress", number, r.choice(PACKED), r.random() < 0.2, r.randint(1, 3)),
        ("compress", number, ".gz", False, r.randint(1, 3)),
        ("compress_slowly", number, r.choice(PACKED), r.random()),
        ("decompress", number),
        ("away", number),
        ("back", number),
        ("delete", r.randint(0, 4)),
        ("delete_and_reopen",),
        ("replace",),
        ("edit",),
        ("put_back",),
        ("copy_back",),
        ("restore", r.random() < 0.5),
        ("reserve", r.choice([600, 5000])),
        ("trim",),
        ("derive", r.choice([".tail", ".all"])),
        ("deny", r.randint(0, 2)),
        ("clock", r.choice([-7200.0, -1.0, 0.001, 3600.0])),
    ]
    return r.choice(deeds)
