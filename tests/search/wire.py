"""A receiver with the wire to it: what may happen there without the sender.

A `Link` holds numbers alone: the receiver's shape (shapes.py), the shapes of the messages under
way, and for every name in them a number that counts in this link only. CURRENT is the session that
the sender has with this receiver, or had last; the others are numbered as they come. So links that
differ in the names of sessions alone are one.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from tests.search.below import Below, Told
from tests.search.edge import RECORDS
from tests.search.shapes import FRESH, Messages, Parts
from tiers.core.hop.messages import Ack, Bundle, Guarantee, Hello, Welcome

CURRENT: Final = 0
Sent = tuple[int, tuple[int, ...]]  # a message: its shape, and the numbers of its names


class Link(NamedTuple):
    below: int  # shape of the receiver
    names: tuple[int, ...]  # in it
    gone: bool  # it has crashed, and the sender has not noticed yet
    inbox: tuple[Sent, ...]
    outbox: tuple[Sent, ...]  # to the sender


class Deed(NamedTuple):
    """What may happen at a receiver: the link then, and what the world has to know."""

    label: str
    trouble: bool
    link: int
    told: Told | None  # None: nothing


SAME: Final = -1
NEW: Final = -2


class Change(NamedTuple):
    """What a step of the sender does to a link."""

    waiting: frozenset[int] | None  # batches that the sender has not let go of; None: no sender
    session: int = SAME  # that it has here from now on: NEW, or a name of the message it heard
    said: tuple[int, ...] = ()  # shapes of messages, all of that session
    noticed: bool = False  # that the receiver was gone
    hung_up: bool = False  # what was under way to it is nowhere


class Facts(NamedTuple):
    """What matters of a link at the sender's side."""

    seen: frozenset[int]  # batches on its disk
    gone: bool
    knows: bool  # the sender's session
    greeted: bool  # a HELLO or WELCOME of that session is under way
    outbox: tuple[tuple[int, str, Sent], ...]  # place, for people, message


class Links:
    """All links that were met, and what may happen at each."""

    def __init__(self, messages: Messages, *, disks: bool, prune: bool) -> None:
        self._messages = messages
        self._parts: Parts[Below] = Parts(messages)
        self._disks = disks
        self._prune = prune
        self._numbers: dict[Link, int] = {}
        self._links: list[Link] = []
        self._deeds: dict[int, tuple[Deed, ...]] = {}
        self._facts: dict[int, Facts] = {}
        self._changes: list[Change] = []
        self._change_numbers: dict[Change, int] = {}
        self._changed: dict[tuple[int, int, int], int] = {}

    def __len__(self) -> int:
        return len(self._links)

    def start(self, guarantee: Guarantee) -> int:
        below, _ = self._parts.shapes.number(Below(guarantee))
        return self._number(Link(below, (), False, (), ()))

    def deeds(self, number: int) -> tuple[Deed, ...]:
        """Everything that may happen at the receiver."""
        known = self._deeds.get(number)
        if known is None:
            known = self._deeds[number] = tuple(self._all_deeds(self._links[number]))
        return known

    def _all_deeds(self, link: Link) -> Iterator[Deed]:
        below = self._parts.shapes.value(link.below)
        if below.commits:
            stored = [(one.id.seq, flagged) for one, flagged in below.commits[0]]
            yield self._deed(f"stores {stored}", link, "store")
        crashed = link._replace(gone=True)
        yield self._deed("crashes", crashed, "crash", trouble=True)
        if self._disks:
            yield self._deed("loses its disk", crashed, "lose_disk", trouble=True)
        if below.guarantee == "end":
            for seq in [key.seq for key, published in below.seen.items() if not published]:
                yield self._deed(f"publishes {seq}", link, "publish", seq)
        for place, sent in _distinct(link.inbox):
            rest = link._replace(inbox=_without(link.inbox, place))
            kind = self._messages.kinds[sent[0]]
            yield self._deed(f"hears {shown(kind)}", rest, "heard", sent=sent)
            if isinstance(kind, Hello):
                label = f"hears {shown(kind)}, not the last time"
                yield self._deed(label, link, "heard", sent=sent, trouble=True)

    def _deed(
        self,
        label: str,
        link: Link,
        what: str,
        *args: Any,
        sent: Sent | None = None,
        trouble: bool = False,
    ) -> Deed:
        numbers = dict(enumerate(link.names))
        heard = None
        if sent is not None:
            refs = {name: ref for ref, name in numbers.items()}
            places = tuple([refs.get(name, FRESH + at) for at, name in enumerate(sent[1])])
            heard = sent[0], places
            numbers |= dict(zip(places, sent[1], strict=True))
        outcome = self._parts.step(link.below, what, *args, heard=heard)
        said = [
            (shape, tuple([numbers.get(ref, ref) for ref in refs]))
            for _, shape, refs in outcome.said
        ]
        after = link._replace(
            below=outcome.after,
            names=tuple([numbers.get(ref, ref) for ref in outcome.names]),
            outbox=(*link.outbox, *said),
        )
        return Deed(
            label, trouble, self._number(after), outcome.told if any(outcome.told) else None
        )

    # -- the sender's side -----------------------------------------------------------------

    def facts(self, number: int) -> Facts:
        known = self._facts.get(number)
        if known is None:
            known = self._facts[number] = self._all_facts(self._links[number])
        return known

    def _all_facts(self, link: Link) -> Facts:
        below = self._parts.shapes.value(link.below)
        kinds = self._messages.kinds
        return Facts(
            frozenset(key.seq for key in below.seen),
            link.gone,
            CURRENT in self._sessions(link),
            any(
                names[0] == CURRENT and isinstance(kinds[shape], Hello | Welcome)
                for shape, names in (*link.inbox, *link.outbox)
            ),
            tuple([(at, shown(kinds[one[0]]), one) for at, one in _distinct(link.outbox)]),
        )

    def change(self, change: Change) -> int:
        """The number of a change."""
        number = self._change_numbers.setdefault(change, len(self._changes))
        if number == len(self._changes):
            self._changes.append(change)
        return number

    def changed(self, number: int, change: int, heard: int = -1) -> int:
        """The link after a step of the sender that changes it so, and for which a message of the
        outbox was `heard`, by place."""
        key = number, change, heard
        known = self._changed.get(key)
        if known is None:
            known = self._changed[key] = self._after(self._links[number], key[1], heard)
        return known

    def _after(self, link: Link, number: int, heard: int) -> int:
        change = self._changes[number]
        current = CURRENT
        if change.session == NEW:
            current = -1  # nothing in the link has that number
        elif change.session != SAME:
            current = link.outbox[heard][1][change.session]
        link = link._replace(
            gone=link.gone and not change.noticed,
            inbox=(*link.inbox, *[(shape, (current,)) for shape in change.said]),
            outbox=() if change.hung_up else _without(link.outbox, heard),
        )
        return self._number(link, current, change.waiting)

    # -- one number for all links that are the same ----------------------------------------

    def _number(
        self, link: Link, current: int = CURRENT, waiting: frozenset[int] | None = None
    ) -> int:
        if self._prune:
            link = self._pruned(link, current, waiting)
        numbers = {current: CURRENT}
        names = _renamed(link.names, numbers)
        inbox = _sorted(link.inbox, numbers)
        outbox = _sorted(link.outbox, numbers)
        link = link._replace(names=names, inbox=inbox, outbox=outbox)
        number = self._numbers.setdefault(link, len(self._links))
        if number == len(self._links):
            self._links.append(link)
        return number

    def _pruned(self, link: Link, current: int, waiting: frozenset[int] | None) -> Link:
        """Leaves out messages that will change nothing, whenever they come: a session that is
        over never comes back. (Searches that prune rely on sessions being compared.)"""
        known = self._sessions(link)
        inbox = [one for one in link.inbox if self._greets(one) or one[1][0] in known]
        outbox = [one for one in link.outbox if self._matters(one, current, waiting)]
        return link._replace(inbox=tuple(inbox), outbox=tuple(outbox))

    def _sessions(self, link: Link) -> set[int]:
        """Those that the receiver knows."""
        number = dict(zip(self._parts.shapes.names[link.below], link.names, strict=True))
        below = self._parts.shapes.value(link.below)
        return {number[one.session] for one in below.receiver.senders.values()}

    def _greets(self, sent: Sent) -> bool:
        return isinstance(self._messages.kinds[sent[0]], Hello)

    def _matters(self, sent: Sent, current: int, waiting: frozenset[int] | None) -> bool:
        shape, names = sent
        message = self._messages.kinds[shape]
        if isinstance(message, Ack):
            ids = (*message.stored, *message.published)
            return waiting is None or any(key.seq in waiting for key in ids)
        return names[0] == current


def _renamed(names: Iterable[int], numbers: dict[int, int]) -> tuple[int, ...]:
    return tuple([numbers.setdefault(name, len(numbers)) for name in names])


def _sorted(messages: tuple[Sent, ...], numbers: dict[int, int]) -> tuple[Sent, ...]:
    """In an order that does not depend on the numbers that names had, but for those that nothing
    else has: there two links that are the same may get two numbers, which costs time alone."""

    def place(sent: Sent) -> Sent:
        return sent[0], _renamed(sent[1], dict(numbers))

    ordered = sorted(messages, key=place)
    return tuple(sorted([(shape, _renamed(names, numbers)) for shape, names in ordered]))


def _distinct(messages: tuple[Sent, ...]) -> Iterator[tuple[int, Sent]]:
    """Sorted, so that equal ones are neighbours."""
    for place, message in enumerate(messages):
        if not place or message != messages[place - 1]:
            yield place, message


def _without(messages: tuple[Sent, ...], place: int) -> tuple[Sent, ...]:
    return messages if place < 0 else messages[:place] + messages[place + 1 :]


def shown(message: Any) -> str:
    """For people, without the sessions: their names mean nothing."""
    if isinstance(message, Bundle):
        seqs = [
            seq for seq, record in RECORDS.items() for c in message.carried if c.record == record
        ]
        return f"a bundle of {seqs}, flagged {[c.flagged for c in message.carried]}"
    lists = [
        f"{name} {[key.seq for key in getattr(message, name)]}"
        for name in ("ids", "stored", "held", "published", "unknown")
        if getattr(message, name, ())
    ]
    return " ".join([type(message).__name__.upper(), *lists])
