"""Whose session is on: a receiver's senders, found by agent, session, route and channel.

An agent has one session, the newest that it was given; what came before is forgotten whole.
"""

from collections import OrderedDict
from itertools import islice
from typing import Final

from tiers.core.hop.upstream import Upstream

TURNS_MAX: Final = 256  # senders looked at in one tick: the others have their turn in the next


class Sessions:
    """Senders that have a session."""

    def __init__(self) -> None:
        # Where not all are looked at in one tick: those that have waited longest come first.
        self.senders: OrderedDict[str, Upstream] = OrderedDict()
        self._by_session: dict[bytes, str] = {}
        self._by_route: dict[bytes, str] = {}
        self._by_channel: dict[bytes, str] = {}  # whose session is the newest of a channel

    def of(self, session: bytes) -> Upstream | None:
        """The sender whose session that is."""
        return self.senders.get(self._by_session.get(session, ""))

    def at(self, route: bytes) -> Upstream | None:
        """Who speaks from there."""
        return self.senders.get(self._by_route.get(route, ""))

    def of_channel(self, channel: bytes) -> Upstream | None:
        """Who has the newest session of a channel."""
        sender = self.senders.get(self._by_channel.get(channel, ""))
        return sender if sender is not None and sender.channel == channel else None

    def begin(self, sender: Upstream) -> None:
        """Its agent has no session by now."""
        self.senders[sender.agent] = sender
        self._by_session[sender.session] = sender.agent
        self._by_channel[sender.channel] = sender.agent

    def came_from(self, sender: Upstream, route: bytes) -> None:
        """A DEALER that reconnects may come under another identity."""
        if route != sender.route:
            self._leave_route(sender)
            sender.route = route
        self._by_route[route] = sender.agent

    def _leave_route(self, sender: Upstream) -> None:
        if self._by_route.get(sender.route) == sender.agent:
            del self._by_route[sender.route]

    def end(self, sender: Upstream) -> None:
        """Nothing is known of it any more."""
        self._by_session.pop(sender.session, None)
        self._leave_route(sender)
        if self._by_channel.get(sender.channel) == sender.agent:
            del self._by_channel[sender.channel]
        del self.senders[sender.agent]

    def turn(self) -> list[Upstream]:
        """So many senders that a tick costs the same however many there are."""
        turn = list(islice(self.senders.values(), TURNS_MAX))
        if len(turn) < len(self.senders):
            for sender in turn:
                self.senders.move_to_end(sender.agent)
        return turn
