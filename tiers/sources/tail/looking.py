"""One look at all files: the walk, what lies beside, and what each of it is.

What lies beside a log: files in its directory, or in one where a generation of it was seen to go,
under names that rotation may have given; and wherever a generation was last, the file with its
inode, whatever it is called now.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tiers.sources.tail.door import Door, Status
from tiers.sources.tail.generation import Generation
from tiers.sources.tail.identity import identify
from tiers.sources.tail.likeness import Log
from tiers.sources.tail.logs import Logs
from tiers.sources.tail.matching import Kin
from tiers.sources.tail.names import is_added, is_compressed, is_readable
from tiers.sources.tail.packed import OpeningMemory
from tiers.sources.tail.sightings import Sighting, Texts, Unreadable
from tiers.sources.tail.streams import NotRead
from tiers.sources.tail.texts import Changed
from tiers.sources.tail.verdicts import Lost, Same, Undecided, Verdict
from tiers.sources.tail.walk import Found, Listing, Listings, Walked

_NOT_READ = "is compressed in a way that is not read: what of it was not read before is missing"


@dataclass(slots=True)
class Looked:
    """What one look found."""

    verdicts: list[Verdict] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)
    unreadable: list[tuple[Sighting, OSError]] = field(default_factory=list)
    failed: set[tuple[int, int]] = field(default_factory=set)  # inode, birth of what is unreadable
    unread: dict[str, OSError] = field(default_factory=dict)  # directories
    again: bool = False  # something changed under our eyes: look again soon
    first_kins: set[str] = field(default_factory=set)  # logs that were never looked at before
    remarks: list[tuple[str, str]] = field(default_factory=list)  # what is worth a word, no more

    def problems(self) -> list[tuple[str, OSError | str]]:
        """What could not be read, each with why."""
        files = [(sighting.where, error) for sighting, error in self.unreadable]
        return [*self.unread.items(), *files]


class Look:
    """Raises only `Stopped` (from `room.go_on`). What did not change since `quiet_ns`, by the clock
    on the wall, is not being written any more."""

    def __init__(
        self,
        door: Door,
        walked: Walked,
        generations: Sequence[Generation],
        dormant: Sequence[Generation],
        skip: bool,
        room: OpeningMemory,
        quiet_ns: int,
        recent_ns: tuple[int, int],
    ) -> None:
        self._door = door
        self._walked = walked
        self._generations = generations
        self._dormant = dormant
        self._asleep = {id(generation) for generation in dormant}
        self._skip = skip
        held = [g.opened for g in generations if g.opened is not None]
        self._texts = Texts(door, room, held)
        self._looked = Looked()
        self._listings = Listings(door, self._unread)
        self._logs = Logs()
        self._quiet_ns = quiet_ns
        self._recent_ns = recent_ns
        self._failed = self._looked.failed
        self._unasked: set[tuple[int, int]] = set()  # in directories that cannot be read now
        self._hidden: set[str] = set()  # logs of which a file at the path could not be read
        self._replaced: set[str] = set()  # logs of which a file was another by the time it was open
        self._unknown: set[str] = set()  # directories that are missing or cannot be read
        self._since_ns: dict[str, int] = {}  # log -> when it was first looked at
        self._been_in: set[tuple[str, str]] = set()  # log, directory: looked into before

    def run(self) -> Looked:
        try:
            self._find()
            self._match()
            return self._looked
        finally:
            self._texts.close()

    def _unread(self, directory: str, error: OSError) -> None:
        self._looked.unread[directory] = error

    # -- what is there -----------------------------------------------------------------------

    def _find(self) -> None:
        known = {(g.path, g.inode): g.real for g in self._generations}
        at_globs = list(self._walked.files.values())
        for found in at_globs:
            path = found.paths[0]
            real = known.get((path, found.status.inode)) or self._door.real(path)
            self._logs.add(path, real)
        for generation in self._generations:
            self._logs.add(generation.path, generation.real)
        for generation in self._generations:
            if generation.now != generation.real:
                self._logs.learn(_parent(generation.now), generation.path, generation.real)
        self._logs.settle()
        self._remember()
        seen = {(f.status.device, f.status.inode) for f in at_globs}
        self._looked.sightings += map(self._at_glob, at_globs)
        for status, path in self._beside():
            if (status.device, status.inode) not in seen:
                seen.add((status.device, status.inode))
                self._looked.sightings += self._by_name(status, path)
        inodes = {inode for _, inode in seen}
        for generation in self._generations:
            if generation.inode not in inodes:
                self._looked.sightings += self._by_inode(generation)
        unread = {path for path, _ in self._walked.problems} | self._looked.unread.keys()
        for generation in self._generations:
            if generation.path in unread or generation.now in unread:
                self._failed.add((generation.inode, generation.birth_ns))
            elif unread & {_parent(generation.path), _parent(generation.now)}:
                self._unasked.add((generation.inode, generation.birth_ns))

    def _at_glob(self, found: Found) -> Sighting:
        path = found.paths[0]
        kin = self._logs.kin(path)
        rotated = kin not in found.paths
        added = rotated and is_added(_name(path), _name(kin))
        return Sighting(found.status, path, kin, list(found.paths), rotated, added)

    def _beside(self) -> Iterator[tuple[Status, str]]:
        for directory in self._logs.directories():
            listing = self._listings.of(directory)
            if listing is None or listing.missing:
                self._unknown.add(directory)
                continue
            for name in listing.names:
                if self._logs.of(directory, name) is None:
                    continue
                path = f"{directory.rstrip('/')}/{name}"
                status = self._status(path)
                if status is not None and status.is_regular:
                    yield status, path

    def _status(self, path: str) -> Status | None:
        try:
            return self._door.lstat(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._looked.unread[path] = error
            return None

    def _by_name(self, status: Status, path: str) -> Iterator[Sighting]:
        name = _name(path)
        of = self._logs.of(_parent(path), name)
        if of is not None:
            kin, base = of
            sighting = Sighting(status, path, kin, [], rotated=True, added=is_added(name, base))
            sighting.elder = self._is_elder(sighting)
            yield sighting

    def _remember(self) -> None:
        for generation in self._generations:
            kin, key_ns = self._logs.kin(generation.path), int(generation.key, 16)
            self._since_ns[kin] = min(self._since_ns.get(kin, key_ns), key_ns)
            if generation.done:
                self._been_in.add((kin, _parent(generation.now)))

    def _is_elder(self, sighting: Sighting) -> bool:
        """In a directory that a rotation has just led to there are generations from before the log
        was first looked at, as there are beside a log that is new."""
        kin, directory = sighting.kin, _parent(sighting.where)
        new = self._logs.is_learned(directory) and (kin, directory) not in self._been_in
        return new and sighting.status.mtime_ns < self._since_ns[kin]

    def _by_inode(self, generation: Generation) -> Iterator[Sighting]:
        for directory in dict.fromkeys((_parent(generation.now), _parent(generation.real))):
            listing = self._listings.of(directory)
            name = listing.by_inode.get(generation.inode) if listing is not None else None
            if name is None:
                continue
            path = f"{directory.rstrip('/')}/{name}"
            status = self._status(path)
            if status is not None and status.is_regular and status.inode == generation.inode:
                kin = self._logs.kin(generation.path)
                # Where the walk was given up, what it did not come to is where it was.
                stays = not self._walked.complete and path == generation.real
                paths = [generation.path] if stays else []
                yield Sighting(status, path, kin, paths, rotated=not stays, named=False)
                return

    # -- what it is --------------------------------------------------------------------------

    def _match(self) -> None:
        identified = self._identify()
        kin_of = {id(found.sighting): self._kin_of(found) for found in identified}
        sightings: dict[str, list[Sighting]] = {}
        for sighting in self._looked.sightings:
            kin = kin_of.get(id(sighting), sighting.kin)
            sightings.setdefault(kin, []).append(sighting)
        generations: dict[str, list[Generation]] = {}
        for generation in self._generations:
            generations.setdefault(self._logs.kin(generation.path), []).append(generation)
        for found in identified:
            if id(found.generation) in self._asleep:
                generations.setdefault(found.sighting.kin, []).append(found.generation)
        same: dict[str, list[Same]] = {}
        for found in identified:
            same.setdefault(kin_of[id(found.sighting)], []).append(found)
        for kin in {**sightings, **generations}:
            self._match_kin(
                kin, generations.get(kin, []), sightings.get(kin, []), same.get(kin, [])
            )

    def _kin_of(self, found: Same) -> str:
        """A generation that went elsewhere is still its log's; one that slept is where it woke."""
        if id(found.generation) in self._asleep:
            return found.sighting.kin
        return self._logs.kin(found.generation.path)

    def _identify(self) -> list[Same]:
        everything = [*self._generations, *self._dormant]
        while True:
            try:
                return identify(everything, self._looked.sightings, self._texts)
            except Unreadable as unreadable:
                self._set_aside(unreadable)

    def _set_aside(self, unreadable: Unreadable) -> None:
        """A file that cannot be read is no answer to anything, but it is there."""
        sighting, error = unreadable.sighting, unreadable.error
        self._looked.sightings.remove(sighting)
        self._failed.add(sighting.identity)
        if isinstance(error, Changed | FileNotFoundError):
            self._looked.again = True
            self._replaced.add(sighting.kin)
            return
        if sighting.paths:
            self._hidden.add(sighting.kin)
        self._looked.unreadable.append((sighting, error))

    def _match_kin(
        self,
        name: str,
        generations: Sequence[Generation],
        sightings: list[Sighting],
        same: list[Same],
    ) -> None:
        first = not generations
        known = {id(found.sighting) for found in same}
        while True:
            try:
                log = Log(
                    [g for g in generations if not g.done],
                    [g for g in generations if g.done],
                    [s for s in sightings if id(s) in known or not self._is_no_log(s)],
                    same,
                    self._failed | self._unasked,
                    self._texts,
                    first,
                    self._recent_ns,
                )
                kin = Kin(log, skip=self._skip, hidden=name in self._hidden)
                verdicts = kin.decide()
                break
            except Unreadable as unreadable:
                self._set_aside(unreadable)
                sightings.remove(unreadable.sighting)
                same = [found for found in same if found.sighting is not unreadable.sighting]
            except OSError:  # of a descriptor that is held: its own turn will tell
                self._looked.again = True
                verdicts = list(same)
                break
        if first and name in self._replaced:
            return  # what was there before is what is there when nothing changes meanwhile
        if first:
            self._looked.first_kins.add(name)
        sure = all(verdict.sure for verdict in verdicts)
        if not sure and (name in self._replaced or not self._is_as_seen(name, sightings, same)):
            self._looked.again = True
            verdicts = [verdict for verdict in verdicts if verdict.sure]
            verdicts += [Undecided(generation) for generation in generations]
        self._looked.verdicts += [one for one in verdicts if self._can_be_told(one)]

    def _can_be_told(self, verdict: Verdict) -> bool:
        """Of a place that could not be looked at, nothing says what is not there."""
        if not isinstance(verdict, Lost):
            return True
        generation = verdict.generation
        places = {_parent(generation.now), _parent(generation.real)}
        return self._walked.complete and not places & self._unknown

    def _is_no_log(self, sighting: Sighting) -> bool:
        """Beside a log: nothing in it can be read, or not yet. What stays so is told."""
        if sighting.paths:
            return False
        where, fault = sighting.where, self._texts.fault(sighting)
        quiet = sighting.status.ctime_ns < self._quiet_ns
        if isinstance(fault, NotRead):
            self._looked.remarks.append((where, f"{where} {_NOT_READ}: {fault.strerror}"))
        elif fault is not None and quiet:
            self._looked.unread[where] = fault
        elif fault is None and not self._texts.of(sighting).packed:
            if not is_compressed(_name(where)):
                return False
            if sighting.status.size and (quiet or not is_readable(_name(where))):
                self._looked.remarks.append((where, f"{where} {_NOT_READ}"))
            return True
        return fault is not None

    def _is_as_seen(self, kin: str, sightings: Iterable[Sighting], same: Iterable[Same]) -> bool:
        """A second listing, of one log: the same files under the same names, and the log the same
        generation."""
        for sighting in sightings:
            for path in (sighting.where, *sighting.paths):
                try:
                    status = self._door.stat(path)
                except OSError:
                    return False
                if (status.inode, status.birth_ns) != sighting.identity:
                    return False
                grown = status.size - sighting.status.size
                if grown < 0 or (grown and not sighting.at_path):
                    return False
        if not all(self._is_still(found) for found in same if found.sighting.at_path):
            return False
        for directory in self._logs.directories():
            before = self._listings.of(directory)
            if before is None or not self._logs.is_in(kin, directory):
                continue
            try:
                now = Listing(self._door, directory)
            except OSError:
                return False
            if self._names(kin, now) != self._names(kin, before):
                return False
        return True

    def _is_still(self, found: Same) -> bool:
        generation = found.generation
        try:
            told = generation.offset and not generation.blind
            return not told or self._texts.agrees(generation, found.sighting)
        except Unreadable:
            return False

    def _names(self, kin: str, listing: Listing) -> set[str]:
        directory = listing.directory
        found = ((name, self._logs.of(directory, name)) for name in listing.names)
        return {name for name, of in found if of is not None and of[0] == kin}


def _parent(path: str) -> str:
    return os.path.dirname(path)  # noqa: PTH120


def _name(path: str) -> str:
    return os.path.basename(path)  # noqa: PTH119
