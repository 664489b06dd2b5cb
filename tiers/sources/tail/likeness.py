"""What is like what: questions about the generations of one log and the files that may be some of
them. Each answer holds as long as no file is taken for another generation."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tiers.sources.tail.generation import Generation
from tiers.sources.tail.marks import STRONG_BYTES, Shifted, Text, content_end, is_noise, lines_end
from tiers.sources.tail.sightings import Sighting, StartAt, Texts
from tiers.sources.tail.verdicts import Same


class Log(NamedTuple):
    """What is known of one log at a look."""

    followed: Sequence[Generation]
    history: Sequence[Generation]
    sightings: Sequence[Sighting]
    identified: Sequence[Same]
    failed: Iterable[tuple[int, int]]  # inode and birth of files that cannot be read now
    texts: Texts
    first_look: bool
    recent_ns: tuple[int, int]  # by the clock on the wall: what changed then is being written


class Likeness:
    """Methods raise `Unreadable`, and OSError for descriptors that are held."""

    def __init__(self, log: Log) -> None:
        self._followed = list(log.followed)
        self._history = list(log.history)
        self._seen = list(log.sightings)
        self._texts = log.texts
        self._first_look = log.first_look
        self._recent_ns = log.recent_ns
        self._file: dict[int, Sighting] = {id(v.generation): v.sighting for v in log.identified}
        matched = {id(sighting) for sighting in self._file.values()}
        self._left = [one for one in self._seen if id(one) not in matched and one.named]
        self._failed = set(log.failed)
        self._there = {one.identity for one in self._seen} | self._failed
        self._held = {id(g) for g in self._followed if self._is_held(g)}

    def _is_matched(self, generation: Generation) -> bool:
        return id(generation) in self._file or id(generation) in self._held

    def _text_of(self, generation: Generation) -> Text | None:
        sighting = self._file.get(id(generation))
        if sighting is not None:
            return self._texts.of(sighting)
        if id(generation) not in self._held:
            return None
        assert generation.opened is not None
        return generation.opened.text

    def _is_held(self, generation: Generation) -> bool:
        """Whether it is at no path that is known, and its open descriptor still gives its text."""
        opened = generation.opened
        seen = {one.identity for one in self._seen}
        if opened is None or (generation.inode, generation.birth_ns) in seen:
            return False
        try:
            opened.look()
            return not generation.offset or generation.agrees(opened.text)
        except OSError:
            return True  # it cannot be asked now: nothing says that it is another

    def _is_truncated(self, generation: Generation) -> bool:
        """Its own inode is still there, with another text."""
        identity = (generation.inode, generation.birth_ns)
        return (
            not generation.done
            and not self._is_matched(generation)
            and any(one.identity == identity for one in self._seen)
        )

    def _is_overwritten(self, sighting: Sighting) -> bool:
        """Random bytes in place of a generation that was known. Its text may be another now: some
        copy over the same file again and again."""
        birth_ns = sighting.status.birth_ns
        known = {(g.inode, g.birth_ns) for g in (*self._followed, *self._history)}
        if not birth_ns or sighting.identity not in known:
            return False
        text = self._texts.of(sighting)
        return not text.packed and is_noise(text.read(0, STRONG_BYTES))

    def _original(
        self, sighting: Sighting, but: Generation | None = None
    ) -> tuple[Generation | Sighting, int] | None:
        """What it is a copy of, and to where: its end, or at least that of its last whole line."""
        likely = self._likely(sighting, but)
        if not likely:
            return None
        lines, end = self._texts.ends(sighting)
        for to in dict.fromkeys((end, lines)):
            for of in likely if to >= STRONG_BYTES else []:
                text = self._texts.of(of) if isinstance(of, Sighting) else self._text_of(of)
                if text is not None and self._same_to(sighting, text, to):
                    return of, to
        return None

    def _may_be_its_own(self, sighting: Sighting) -> bool:
        """At a glob, under a name that may be that of a log of its own."""
        return bool(sighting.paths) and not sighting.added

    def _made_of(self, sighting: Sighting) -> Generation | Sighting | None:
        """The log that begins with all that is there, which is too little to tell: perhaps a copy
        is being made. As long as it was changed lately: a log that is truncated once it was copied
        will tell."""
        begin_ns, end_ns = self._recent_ns
        _, end = self._texts.ends(sighting)
        if not begin_ns <= sighting.status.ctime_ns <= end_ns or end >= STRONG_BYTES:
            return None
        if self._may_be_its_own(sighting) or self._texts.of(sighting).packed:
            return None
        for generation in self._followed:
            if (generation.inode, generation.birth_ns) in self._failed:
                return generation  # it cannot be asked now
            of = self._file.get(id(generation))
            if of is not None and self._same_to(sighting, self._texts.of(of), end):
                return generation
        for other in self._left:
            if other.at_path and self._same_to(sighting, self._texts.of(other), end):
                return other
        return None

    def _is_cut_short(self, generation: Generation, sighting: Sighting) -> bool:
        """Whether it is a copy of a generation that is nowhere any more, and was read to beyond
        the copy's end."""
        _, end = self._texts.ends(sighting)
        beyond = not self._is_matched(generation) and 0 < end < generation.offset
        if end < STRONG_BYTES and self._may_be_its_own(sighting):
            return False
        return beyond and self._texts.are_begun(generation, sighting, end)

    def _likely(self, sighting: Sighting, but: Generation | None) -> list[Generation | Sighting]:
        """Those that begin alike."""
        head = self._texts.head(sighting)
        if len(head) < STRONG_BYTES:
            return []
        likely: list[Generation | Sighting] = [
            generation
            for generation in (*self._followed, *self._history)
            if generation is not but and self._head_of(generation) == head
        ]
        for other in self._left:
            if (other.paths or not self._first_look) and self._texts.head(other) == head:
                first = (other.at_path, self._texts.ends(other)[1], other.where)
                if first > (False, self._texts.ends(sighting)[1], sighting.where):
                    likely.append(other)
        return likely

    def _head_of(self, generation: Generation) -> bytes | None:
        """None: it has no text that can be read now."""
        sighting = self._file.get(id(generation))
        if sighting is not None:
            return self._texts.head(sighting)
        text = self._text_of(generation)
        return None if text is None else text.read(0, STRONG_BYTES)

    def _same_to(self, sighting: Sighting, text: Text, end: int) -> bool:
        return (text.packed or text.size >= end) and self._texts.same_to(sighting, text, end)

    def _is_all_of(self, generation: Generation, sighting: Sighting) -> bool:
        """Whether nothing is left elsewhere: in a descriptor that is held there may be more."""
        if not self._texts.agrees(generation, sighting):
            return False
        text = self._text_of(generation)
        return text is None or self._same_to(sighting, text, content_end(text))

    def _behind_original(self, sighting: Sighting) -> StartAt | None:
        """Where to go on in a copy of what was read."""
        found = [
            generation
            for generation in (*self._followed, *self._history)
            if generation.strong and self._texts.agrees(generation, sighting)
        ]
        if not found:
            return None
        best = max(found, key=lambda generation: generation.offset)
        return self._texts.start(sighting, self._common(best, sighting))

    def _common(self, generation: Generation, sighting: Sighting) -> int:
        """How far a copy goes together with a generation that it agrees with."""
        text = self._text_of(generation)
        if text is not None:
            of = lines_end(text, content_end(text))
            common = min(of, self._texts.ends(sighting)[0])
            if common > generation.offset and self._texts.same_to(sighting, text, common):
                return common
        return generation.offset

    def _added(self, generation: Generation, sighting: Sighting, offset: int, end: int) -> int:
        """Where the text ends that was added to this one from `offset` on, as far as it is that of
        other generations: some append each to an archive."""
        text = self._texts.of(sighting)
        others = [g for g in (*self._followed, *self._history) if g is not generation and g.offset]
        found = True
        while found and offset < end:
            part = Shifted(text, offset)
            whole = [g for g in others if g.strong or offset + g.offset == end]
            ends = [offset + g.offset for g in whole if g.agrees(part)]
            found = bool(ends)
            offset = max(ends, default=offset)
        return offset

    def _reach(self, sighting: Sighting) -> int:
        """How far its text goes; of a compressed one, no farther than is needed to be sure."""
        if self._texts.of(sighting).packed:
            return len(self._texts.head(sighting))
        return self._texts.ends(sighting)[1]

    def _may_be_cut_short(self, generation: Generation, sighting: Sighting, end: int) -> bool:
        """What `_is_cut_short` cannot tell, as after a restart."""
        if generation.done or generation.is_told or self._is_matched(generation):
            return False
        if not 0 < end < generation.offset:
            return False
        return end < STRONG_BYTES or generation.head.holds(self._texts.of(sighting))

    def _doubt(self, sighting: Sighting) -> int:
        """Bytes that may come twice: too few to tell whether they were read before."""
        doubt = 0
        end = self._reach(sighting)
        for generation in (*self._followed, *self._history):
            if self._may_be_cut_short(generation, sighting, end):
                doubt = max(doubt, end)
            if generation.strong and end >= STRONG_BYTES:
                continue
            if self._texts.agrees(generation, sighting):
                doubt = max(doubt, generation.offset)
            text = self._text_of(generation)
            if text is None:
                continue
            common = min(end, len(text.read(0, STRONG_BYTES)) if text.packed else text.size)
            if common > doubt and self._texts.same_to(sighting, text, common):
                doubt = common
        # Also of a copy that waits: it is read where its log goes before that was told.
        for other in self._left:
            if other is sighting or self._made_of(other):
                continue
            common = min(end, self._reach(other))
            if common > doubt and self._texts.same_to(sighting, self._texts.of(other), common):
                doubt = common
        return doubt
