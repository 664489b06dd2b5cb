"""Row 1 of the table (`matching.py`): a file with the inode and birth of a generation."""

from collections.abc import Iterable, Sequence

from tiers.sources.tail.generation import Generation
from tiers.sources.tail.sightings import Sighting, Texts
from tiers.sources.tail.verdicts import Same


def strength(generation: Generation) -> tuple[int, int]:
    return generation.head.length, generation.offset


def is_unchanged(generation: Generation, sighting: Sighting) -> bool:
    """Inode, birth, size and ctime are as they were when it was last compared: not to be opened."""
    seen, status = generation.seen, sighting.status
    return (
        seen is not None
        and not generation.suspect
        and (seen.inode, seen.birth_ns, seen.size, seen.ctime_ns)
        == (status.inode, status.birth_ns, status.size, status.ctime_ns)
    )


def same(generation: Generation, sighting: Sighting, texts: Texts) -> bool:
    """Row 1, for a sighting with the inode and birth of the generation."""
    if is_unchanged(generation, sighting):
        return True
    if generation.blind:
        size = sighting.status.size
        if generation.packed or texts.of(sighting).packed:  # it could not be read at first
            return size == generation.size
        return size >= generation.offset
    if not generation.offset:
        return False
    by_number = generation.done and not generation.strong and not generation.birth_ns
    # It may be another file's by now: that is too little to read on by.
    if by_number and (sighting.at_path or sighting.status.size != generation.size):
        return False
    shrunk = not generation.packed and sighting.status.size < _size_seen(generation)
    # Zeros at its end may have been cut off: they were no text.
    if shrunk and sighting.paths and texts.ends(sighting)[1] < generation.size:
        return False
    return texts.agrees(generation, sighting)


def _size_seen(generation: Generation) -> int:
    return max(generation.size, generation.seen.size if generation.seen else 0)


def identify(
    generations: Iterable[Generation],
    sightings: Sequence[Sighting],
    texts: Texts,
) -> list[Same]:
    """Row 1, over all logs: a generation may have moved to where another log is."""
    by_identity: dict[tuple[int, int], list[Generation]] = {}
    for generation in generations:
        by_identity.setdefault((generation.inode, generation.birth_ns), []).append(generation)
    pairs = []
    for sighting in sightings:
        for generation in by_identity.get(sighting.identity, ()):
            if same(generation, sighting, texts):
                near = generation.device == sighting.status.device
                pairs.append((strength(generation), near, generation, sighting))
    pairs.sort(key=lambda pair: pair[:2], reverse=True)
    taken: set[int] = set()
    found = []
    for _, _, generation, sighting in pairs:
        if id(generation) not in taken and id(sighting) not in taken:
            taken |= {id(generation), id(sighting)}
            found.append(Same(generation, sighting, sure=True))
    return found
