"""What each file that a look found is: the table, asked in this order.

    1  inode and birth of a generation, head and seam agree     that generation, renamed or not
    2  agrees strongly with one that is nowhere any more        the same text, moved
    3  agrees with one that is elsewhere or finished            a copy, as far as that one goes
    4  beside a path, compressed                                the same, of its text
    5  at a path: shrunk, or disagrees, or born anew            replaced: what was unread is looked
                                                                for in copies beside it
    6  anything else at a path                                  a new generation
    7  anything else beside a path, by its name one of its      came and went unseen: a new one,
       generations                                              read before the one at the path

Each generation is matched once, the longest agreement first. What `sure` does not say is acted on
only when a second listing shows the same. Agreement over less than `STRONG_BYTES` is believed
together with inode and birth; or, beside the path, for a whole file of the same size, and then one
generation excuses one file; or where a log was truncated in place and its copy must be beside it.

A look may fall into the making of a copy, or between that and the truncation of its log. A text
too short to tell that is what its log begins with waits: nothing of it is unread. One that is less
than was read of a log that is gone by now is a copy of it if it has all that was read of it by the
last look.

No order, no state and no file system here: generations and sightings in, verdicts out.
"""

from tiers.sources.tail.generation import Generation
from tiers.sources.tail.identity import strength
from tiers.sources.tail.likeness import Likeness, Log
from tiers.sources.tail.marks import content_end
from tiers.sources.tail.sightings import Sighting, StartAt, unseen
from tiers.sources.tail.verdicts import (
    Copied,
    Fresh,
    KnownText,
    Lost,
    Outgrown,
    Same,
    Undecided,
    Verdict,
)


class Kin(Likeness):
    """Rows 2 to 7 for one log: its generations, and the files that may be some of them."""

    def __init__(
        self,
        log: Log,
        *,
        skip: bool,  # what is there now
        hidden: bool,  # a file at the path cannot be read now
    ) -> None:
        super().__init__(log)
        self._skip = skip
        self._hidden = hidden
        self._rest_in: dict[int, list[Sighting]] = {}  # copies of what was replaced
        self._now_at = {path for one in self._seen for path in one.paths}
        self.verdicts: list[Verdict] = [v for v in log.identified if not v.generation.done]
        for found in log.identified:
            if found.generation.done:
                self._finished(found)

    def decide(self) -> list[Verdict]:
        if self._first_look:
            self._first()
            return self.verdicts
        self._copies_of_what_is_there()
        self._moved()
        for sighting in list(self._left):
            if not sighting.at_path:
                self._beside(sighting)
        self._cut_short()
        self._unread_so_far()
        self._copies_at_the_path()
        self._gone()
        self._new()
        return self.verdicts

    # -- the rows ----------------------------------------------------------------------------

    def _finished(self, found: Same) -> None:
        """One that was done may have grown; or it is a copy that is still being made."""
        generation, sighting = found.generation, found.sighting
        seen = generation.seen
        unchanged = seen is not None and seen == sighting.status
        known = generation.packed and generation.blind
        if known or unchanged or (generation.blind and self._hidden):
            self.verdicts.append(found)
            return
        if generation.blind and self._texts.of(sighting).packed:
            self.verdicts.append(
                Same(generation, sighting, True, start=self._texts.known(sighting))
            )
            return
        lines, end = self._texts.ends(sighting)
        offset, start = generation.offset, None
        if generation.blind:
            start = self._texts.start(sighting, min(self._texts.line_at(sighting, offset), lines))
            offset = start.offset
        if end > offset and not sighting.at_path:
            if self._is_copied_on(generation, sighting):
                return
            original = self._original(sighting, but=generation)
            if original is not None:
                self.verdicts.append(self._copy(sighting, *original, entry=generation))
                return
            added = self._added(generation, sighting, offset, end)
            if added > offset:
                offset, start = added, self._texts.start(sighting, added)
            elif self._is_waiting(sighting):
                return
        more = end > max(offset, generation.size)
        moved = more and not generation.strong and generation.now != sighting.where
        doubt = self._doubt(sighting) if moved else 0
        self.verdicts.append(Same(generation, sighting, not more, more, start, doubt))

    def _is_copied_on(self, entry: Generation, sighting: Sighting) -> bool:
        """The rest of a copy came, and its log was truncated before anyone looked again."""
        for of in self._followed:
            if self._is_cut_short(of, sighting):
                end = self._texts.ends(sighting)[1]
                self.verdicts.append(self._copy(sighting, of, end, entry=entry))
                return True
            if self._is_matched(of) or not self._texts.agrees(of, sighting):
                continue
            if of.strong or self._is_believed(of, sighting, self._texts.ends(sighting)):
                del self._file[id(entry)]
                self._left.append(sighting)
                self.verdicts.append(Outgrown(entry))
                return True
        return False

    def _copy(
        self,
        sighting: Sighting,
        of: Generation | Sighting,
        end: int,
        sure: bool = True,
        entry: Generation | None = None,
    ) -> Copied:
        return Copied(sighting, of, self._texts.start(sighting, end), sure, entry)

    def _first(self) -> None:
        self._copies_of_what_is_there()
        for sighting in self._left:
            if sighting.paths:
                self.verdicts.append(self._begin(sighting))
            else:
                self.verdicts.append(self._beside_at_first(sighting))

    def _beside_at_first(self, sighting: Sighting) -> KnownText | Copied:
        """It was there before. A copy of the log waits until that was read; where the log cannot be
        asked, nothing beside it may be taken for what was read of it."""
        if self._hidden and not self._texts.of(sighting).packed:
            return KnownText(sighting, unseen(sighting))
        original = None if self._texts.of(sighting).packed else self._original(sighting)
        if original is not None:
            return self._copy(sighting, *original)
        return KnownText(sighting, self._texts.known(sighting))

    def _begin(self, sighting: Sighting) -> Fresh:
        """At a path, as a new log."""
        if self._skip:
            return Fresh(sighting, True, self._texts.known(sighting))
        sure = self._first_look or not sighting.rotated
        return Fresh(sighting, sure, doubt=self._doubt(sighting))

    def _copies_of_what_is_there(self) -> None:
        """Row 3, where the original is in this very look: text is compared with text."""
        unread = {(g.inode, g.birth_ns) for g in self._followed if g.failed and not g.offset}
        for sighting in [one for one in self._left if not one.at_path]:
            if sighting.identity in unread or (self._first_look and not sighting.paths):
                continue
            original = self._original(sighting)
            if original is not None:
                self._left.remove(sighting)
                self.verdicts.append(self._copy(sighting, *original))

    def _moved(self) -> None:
        """Row 2."""
        for generation in sorted(self._followed, key=strength, reverse=True):
            if id(generation) in self._file or not generation.strong:
                continue
            if (generation.inode, generation.birth_ns) in self._there:
                continue
            found = [one for one in self._left if self._is_all_of(generation, one)]
            if found:
                best = max(found, key=lambda one: (self._texts.ends(one)[1], one.at_path))
                self._take(generation, best)

    def _beside(self, sighting: Sighting) -> None:
        """Rows 3 and 4, and what row 5 will want."""
        lines, end = self._texts.ends(sighting)
        everything = sorted((*self._followed, *self._history), key=strength, reverse=True)
        for best in everything:
            if self._texts.agrees(best, sighting) and (
                best.strong or self._is_believed(best, sighting, (lines, end))
            ):
                break
        else:
            return
        if self._is_matched(best):
            self._beside_another(best, sighting, lines)
        elif not best.done:
            self._left.remove(sighting)
            self._rest_in.setdefault(id(best), []).append(sighting)
        else:  # of a finished one, whose file is gone, this is what is left
            self._take(best, sighting)

    def _is_believed(
        self, generation: Generation, sighting: Sighting, ends: tuple[int, int]
    ) -> bool:
        """A weak agreement."""
        if self._is_matched(generation):
            return False
        if self._may_be_its_own(sighting):
            return False
        return self._is_truncated(generation) or generation.offset in ends

    def _beside_another(self, generation: Generation, sighting: Sighting, lines: int) -> None:
        """It agrees strongly with a generation that has its file."""
        of = self._file.get(id(generation))
        text = self._text_of(generation)
        assert text is not None
        end = content_end(text) if of is None else self._texts.ends(of)[1]
        if of is not None and not of.at_path and self._texts.ends(sighting)[1] > end:
            self._take(generation, sighting)
            self.verdicts.append(self._copy(of, generation, self._texts.ends(of)[0], False))
        elif of is not None and of.at_path and lines > generation.offset:
            common = min(lines, end)
            if not self._texts.same_to(sighting, text, common):
                # The log was truncated and began with the same text: this is what it was.
                self._take(generation, sighting)
                self._left.append(of)
            elif lines > end:
                at, _ = self._texts.ends(of)
                self._left.remove(sighting)
                self.verdicts.append(Fresh(sighting, start=self._texts.start(sighting, at)))
            else:
                self._copied(sighting, generation, lines)
        else:
            self._copied(sighting, generation, lines)

    def _copied(self, sighting: Sighting, of: Generation, end: int) -> None:
        self._left.remove(sighting)
        self.verdicts.append(self._copy(sighting, of, end, False))

    def _cut_short(self) -> None:
        """Copies that their log went on after, before it was truncated."""
        for sighting in [one for one in self._left if not one.at_path]:
            for generation in self._followed:
                whole = id(generation) in self._rest_in
                if not whole and self._is_cut_short(generation, sighting):
                    self._copied(sighting, generation, self._texts.ends(sighting)[1])
                    break

    def _unread_so_far(self) -> None:
        """An offset of 0 agrees with nothing: inode and birth have to do, after all that agrees.
        Of one that could not be read so far, a copy may have been; and what is elsewhere may be
        another's that has its inode."""
        for generation in self._followed:
            if generation.offset:
                continue
            for sighting in self._left:
                if sighting.identity == (generation.inode, generation.birth_ns):
                    new = generation.failed or generation.now != sighting.where
                    start = self._behind_original(sighting) if new else None
                    doubt = self._doubt(sighting) if new and start is None else 0
                    self._take(generation, sighting, sure=True, start=start, doubt=doubt)
                    break

    def _copies_at_the_path(self) -> None:
        """Row 3 at the path: a finished generation put back, or the log written anew up to where
        it was read."""
        for sighting in [one for one in self._left if one.at_path]:
            start = self._behind_original(sighting)
            if start is not None:
                self._left.remove(sighting)
                self.verdicts.append(Fresh(sighting, start=start))

    def _gone(self) -> None:
        """Row 5, and generations that are nowhere."""
        for generation in self._followed:
            if self._is_matched(generation):
                continue
            identity = (generation.inode, generation.birth_ns)
            rest = self._rest_in.pop(id(generation), None)
            if identity in self._failed:
                continue  # and what may be a copy of it waits with it
            if rest:
                self._rest(generation, rest)
            elif not generation.current or generation.path in self._now_at:
                self.verdicts.append(Lost(generation))

    def _rest(self, generation: Generation, found: list[Sighting]) -> None:
        if generation.strong:
            best = max(found, key=lambda one: self._texts.ends(one)[1])
        else:
            best = max(found, key=lambda one: (one.status.birth_ns, one.status.mtime_ns))
        self.verdicts.append(Same(generation, best, more=generation.done))
        self._file[id(generation)] = best
        for other in found:
            if other is not best:
                if generation.strong:
                    end = self._texts.ends(other)[0]
                    self.verdicts.append(self._copy(other, generation, end, False))
                else:
                    self._left.append(other)

    def _new(self) -> None:
        """Rows 6 and 7, elder ones first."""
        beside = [one for one in self._left if not one.paths and self._texts.ends(one)[1]]
        beside.sort(key=lambda one: (one.status.birth_ns, one.status.mtime_ns))
        for one in beside:
            if self._is_waiting(one):
                continue
            if one.elder:
                self.verdicts.append(KnownText(one, self._texts.known(one)))
            elif self._is_overwritten(one):
                self.verdicts.append(KnownText(one, unseen(one), overwritten=True))
            else:
                self.verdicts.append(Fresh(one, doubt=self._doubt(one)))
        self.verdicts += [
            self._begin(one) for one in self._left if one.paths and not self._is_waiting(one)
        ]

    def _is_waiting(self, sighting: Sighting) -> bool:
        of = self._made_of(sighting)
        if isinstance(of, Generation):
            compared = id(of) in self._file
            start = self._texts.start(sighting, self._texts.ends(sighting)[1])
            self.verdicts.append(Undecided(of, start.seam if compared else None))
        return of is not None

    # -- words ---------------------------------------------------------------------------------

    def _take(
        self,
        generation: Generation,
        sighting: Sighting,
        sure: bool = False,
        start: StartAt | None = None,
        doubt: int = 0,
    ) -> None:
        self._left.remove(sighting)
        self._drop_same(generation)
        self._file[id(generation)] = sighting
        seen = max(generation.offset, generation.size)
        more = generation.done and self._texts.ends(sighting)[1] > seen
        self.verdicts.append(Same(generation, sighting, sure, more, start, doubt))

    def _drop_same(self, generation: Generation) -> None:
        self._file.pop(id(generation), None)
        self.verdicts = [
            one
            for one in self.verdicts
            if not (isinstance(one, Same) and one.generation is generation)
        ]
