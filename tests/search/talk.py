"""A step of a search of lives (lives.py): of one machine, with all that is said at once because of
it, and with what has been because of that."""

from typing import Any, Final

from tests.search.cast import ADDRESS, BELOWS, SENDERS, Cast, Flying, Now, Part
from tests.search.edge import RECEIVERS
from tests.search.shapes import FRESH, Outcome
from tiers.core.hop.messages import Ack, Bundle, Hello, Ping, Pong, Welcome

RENEWALS_MAX: Final = 3  # of one kind: more would be a loop


class Talk:
    """A step, with all that is said at once because of it."""

    def __init__(
        self,
        cast: Cast,
        now: Now,
        first: str = RECEIVERS[0],
        *,
        loses_welcome: bool = False,
        silent: bool = False,
    ) -> None:
        self.now = now
        self.label = ""  # what came of it, for people
        self.renewed = self.welcomed = self.answered = False
        self._cast = cast
        self._first = first  # at a renewal
        self._loses_welcome = loses_welcome
        self._silent = silent

    def hello(self, i: int, r: int) -> None:
        """A sender greets a receiver."""
        self.edge(i, "hello", RECEIVERS[ADDRESS[r]], to=r)
        part = self.now.belows[r]
        assert part is not None
        if self._cast.below(part).waiting:
            self.below(r, "waited")

    def edge(self, i: int, what: str, *args: Any, heard: Part | None = None, to: int = -1) -> None:
        """A step of a sender. Of its words, a HELLO is for receiver `to`."""
        now, cast = self.now, self._cast
        part = now.edges[i]
        assert part is not None
        now.edges[i], said, told = self._stepped(cast.edge_parts, part, what, args, heard)
        if told.released:
            self._released(told.released)
        if told.renews:
            self._renew_edge(i)
            return
        for whom, message in said:
            address = RECEIVERS.index(whom)
            kind = cast.kinds[message.shape]
            if isinstance(kind, Bundle):
                now.flying.append(Flying(True, i, address, message.shape, message.names[0]))
            elif isinstance(kind, Hello):
                self.below(to, "hears", f"e{i}", heard=message)
            elif (r := cast.who_knows(now, address, message.names[0])) is not None:
                self.answered = self.answered or isinstance(kind, Pong)
                self.below(r, "hears", f"e{i}", heard=message)

    def below(self, r: int, what: str, *args: Any, heard: Part | None = None) -> None:
        """A step of a receiver."""
        now, cast = self.now, self._cast
        part = now.belows[r]
        assert part is not None
        now.belows[r], said, told = self._stepped(cast.below_parts, part, what, args, heard)
        if told.stored or told.published:
            self._stored(told)
        if told.renews:
            self._renew_below(r)
            return
        for whom, message in said:
            i = int(whom[1])
            kind = cast.kinds[message.shape]
            if isinstance(kind, Ack):
                now.flying.append(Flying(False, i, ADDRESS[r], message.shape, message.names[0]))
                continue
            if isinstance(kind, Ping) and self._silent:
                continue
            if isinstance(kind, Welcome):
                self.welcomed = True
                if self._loses_welcome:
                    continue
            self.edge(i, "heard", RECEIVERS[ADDRESS[r]], heard=message)
            if isinstance(kind, Welcome):
                self._check_gap(i, r)

    def _stepped(
        self, parts: Any, part: Part, what: str, args: tuple[Any, ...], heard: Part | None
    ) -> tuple[Part, list[tuple[str, Part]], Any]:
        numbers = dict(enumerate(part.names))
        told = None
        if heard is not None:
            refs = {name: ref for ref, name in numbers.items()}
            places = tuple([refs.get(name, FRESH + n) for n, name in enumerate(heard.names)])
            numbers |= dict(zip(places, heard.names, strict=True))
            told = heard.shape, places
        outcome: Outcome = parts.step(part.shape, what, *args, heard=told)

        def named(ref: int) -> int:
            if ref not in numbers:
                numbers[ref] = next(self.now.names)
            return numbers[ref]

        after = Part(outcome.after, tuple([named(ref) for ref in outcome.names]))
        said = [
            (whom, Part(shape, tuple([named(ref) for ref in refs])))
            for whom, shape, refs in outcome.said
        ]
        return after, said, outcome.told

    # -- renewals, and what has been -------------------------------------------------------

    def _renew_edge(self, i: int) -> None:
        senders, belows = self.now.meta.channels
        self._renewal(senders + 1, belows)
        self.renewed = True
        self.label += f": {SENDERS[i]} renews, {self._first} first"
        words = self._first, self.now.meta.starts, self.now.meta.channels[0]
        self.edge(i, "renew", *words)

    def _renew_below(self, r: int) -> None:
        senders, belows = self.now.meta.channels
        self._renewal(senders, belows + 1)
        self.now.meta = self.now.meta._replace(noticed=True)
        self.label += f": {BELOWS[r]} renews"
        self.below(r, "renew", self.now.meta.starts, self.now.meta.channels[1])

    def _renewal(self, senders: int, belows: int) -> None:
        meta = self.now.meta
        self.now.meta = meta._replace(starts=meta.starts + 1, channels=(senders, belows))
        if max(senders, belows) > RENEWALS_MAX:
            self._wrong("renewed again and again")

    def _stored(self, told: Any) -> None:
        meta = self.now.meta
        unflagged = tuple(sorted((*meta.unflagged, *told.unflagged)))
        self.now.meta = meta._replace(
            unflagged=unflagged,
            stored=meta.stored.union(told.stored),
            published=meta.published.union(told.published),
        )
        if len(set(unflagged)) < len(unflagged) and self._cast.fault != "sender resumed":
            self._wrong(f"two unflagged copies: {unflagged}")

    def _released(self, lines: tuple[int, ...]) -> None:
        meta = self.now.meta
        if not self._cast.of_senders and self._cast.guarantee == "hop":
            self.now.meta = meta._replace(released=meta.released.union(lines))
        safe = meta.stored if self._cast.guarantee == "hop" else meta.published
        if nowhere := set(lines) - safe:
            self._wrong(f"lines {nowhere} released, and nowhere")

    def _check_gap(self, i: int, r: int) -> None:
        """They have a session: what the receiver's disk has lost must have been noticed."""
        now, cast = self.now, self._cast
        if cast.guarantee == "end" or now.meta.noticed or ADDRESS[r] or cast.of_senders:
            return
        there = [cast.below(part).lines for part in now.belows if part is not None]
        if gone := now.meta.released.difference(*there):
            self._wrong(f"lines {set(gone)} are gone, and {BELOWS[r]} does not know")

    def _wrong(self, why: str) -> None:
        self.now.meta = self.now.meta._replace(wrong=self.now.meta.wrong or why)
