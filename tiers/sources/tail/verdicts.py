"""What a look says of the files that it found: data, which `following.py` acts on.

What `sure` does not say is acted on only when a second listing shows the same.
"""

from dataclasses import dataclass

from tiers.sources.tail.generation import Generation
from tiers.sources.tail.marks import Mark
from tiers.sources.tail.sightings import BEGINNING, Sighting, StartAt


@dataclass(frozen=True, slots=True)
class Same:
    """The sighting is the generation, which goes on there at its offset."""

    generation: Generation
    sighting: Sighting
    sure: bool = False
    more: bool = False  # it was done, and has grown
    start: StartAt | None = None  # marks of one that was blind, or could not be read
    doubt: int = 0  # bytes that may have been read before


@dataclass(frozen=True, slots=True)
class Copied:
    """Up to `end` its text is that of another (a sighting: of what that one becomes)."""

    sighting: Sighting
    of: Generation | Sighting
    start: StartAt
    sure: bool = True
    entry: Generation | None = None  # what is known of it already


@dataclass(frozen=True, slots=True)
class Fresh:
    """A new generation, from `start` on: what is before that was another's, or is not wanted."""

    sighting: Sighting
    sure: bool = False
    start: StartAt = BEGINNING
    doubt: int = 0  # bytes that may have been read before


@dataclass(frozen=True, slots=True)
class KnownText:
    """It lay beside a path before the source ever looked there, or is no text: not read, unless it
    grows."""

    sighting: Sighting
    start: StartAt
    sure: bool = True
    overwritten: bool = False  # a generation that was known, as `shred` leaves it


@dataclass(frozen=True, slots=True)
class Lost:
    """The generation is nowhere any more."""

    generation: Generation
    sure: bool = False


@dataclass(frozen=True, slots=True)
class Outgrown:
    """What was known of a copy is less than what its original is known by, which is found in it."""

    generation: Generation
    sure: bool = False


@dataclass(frozen=True, slots=True)
class Undecided:
    """There is a file that may be a copy of the generation, and is not acted on yet."""

    generation: Generation
    seam: Mark | None = None  # of what is there of that copy
    sure: bool = True


Verdict = Outgrown | Undecided | Same | Copied | Fresh | KnownText | Lost
