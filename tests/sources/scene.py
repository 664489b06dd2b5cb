"""Files and generations of one log, as a look finds them: on a disk in memory."""

from collections.abc import Sequence
from typing import Any

from tests.tailing.disk import ModelDisk
from tiers.sources.tail.generation import Generation
from tiers.sources.tail.likeness import Log
from tiers.sources.tail.marks import STRONG_BYTES, mark_of
from tiers.sources.tail.matching import Kin
from tiers.sources.tail.packed import OpeningMemory
from tiers.sources.tail.sightings import Sighting, StartAt, Texts
from tiers.sources.tail.texts import open_text
from tiers.sources.tail.verdicts import Same, Verdict

LOG = "/logs/app.log"


class Scene:
    def __init__(self) -> None:
        self.disk = ModelDisk(births=True)
        self.room = OpeningMemory(lambda: None)
        self.texts = Texts(self.disk, self.room)
        self._keys = 0

    def sees(self, name: str, data: bytes, *, added: bool = True, **keys: Any) -> Sighting:
        """A file: the log itself by its name, any other beside it (or with `paths`, at a glob)."""
        path = f"/logs/{name}"
        self.disk.make(path).data += data
        at = path == LOG
        given = {"paths": [path] if at else [], "rotated": not at, "added": added and not at}
        return Sighting(self.disk.stat(path), path, LOG, **{**given, **keys})

    def knows(
        self, data: bytes, offset: int | None = None, of: Sighting | None = None, **keys: Any
    ) -> Generation:
        """One that was read to the offset (to its end). Its file is `of`, or nowhere any more."""
        self._keys += 1
        offset = len(data) if offset is None else offset
        begin = max(0, offset - STRONG_BYTES)
        generation = Generation(
            key=b"%016x" % self._keys,
            path=LOG,
            real=LOG,
            now=of.where if of else LOG,
            inode=of.status.inode if of else 1_000_000 + self._keys,
            birth_ns=of.status.birth_ns if of else self._keys,
            offset=offset,
            head=mark_of(data[: min(offset, STRONG_BYTES)], 0),
            seam=mark_of(data[begin:offset], begin),
            size=offset,
        )
        for key, value in keys.items():
            setattr(generation, key, value)
        return generation

    def holds(self, generation: Generation, data: bytes) -> None:
        """Its file was deleted, and is still open."""
        inode = self.disk.make("/logs/held")
        inode.data += data
        status = self.disk.stat("/logs/held")
        generation.is_at(status)
        opened = open_text(self.disk, "/logs/held", status.inode, status.birth_ns, self.room)
        generation.opened = opened
        self.disk.unlink("/logs/held")

    def start(self, sighting: Sighting, offset: int) -> StartAt:
        return self.texts.start(sighting, offset)

    def decide(
        self,
        generations: Sequence[Generation],
        sightings: Sequence[Sighting],
        same: Sequence[tuple[Generation, Sighting]] = (),
        failed: Sequence[tuple[int, int]] = (),
        skip: bool = False,
        hidden: bool = False,
        first: bool = False,
        recent_ns: tuple[int, int] = (0, 0),
    ) -> list[Verdict]:
        """`same`: what row 1 has said."""
        log = Log(
            [each for each in generations if not each.done],
            [each for each in generations if each.done],
            sightings,
            [Same(generation, sighting, True) for generation, sighting in same],
            failed,
            self.texts,
            first,
            recent_ns,
        )
        return Kin(log, skip=skip, hidden=hidden).decide()
