"""Bugs on purpose where disks go back in time or exist twice: each rule of delivery.md about that,
left out."""

from dataclasses import replace
from itertools import pairwise
from typing import Any, Final
from unittest import mock

from tests.simulation.planted.bugs import Bug, wrapped
from tiers.channel.living import ChannelLife, Starting
from tiers.core.hop.assigning import Assigning
from tiers.core.hop.holding import Holding
from tiers.core.hop.outbox import Outbox
from tiers.core.hop.peers import Peer
from tiers.core.hop.receiver import Receiver
from tiers.core.life import Life, Point


def _origin_kept() -> list[Any]:
    def make(begin: Any) -> Any:
        def keep(self: Starting, state: Any) -> Any:
            before = state.origin, state.next_seq
            known = begin(self, state)
            if before[1] > 1:
                state.origin, state.next_seq = before
            return known

        return keep

    return [wrapped(Starting, "_begin_origin", make)]


def _bundles_say_no_point() -> list[Any]:
    def make(received: Any) -> Any:
        return lambda self, bundle, *args: received(self, replace(bundle, point=None), *args)

    return [wrapped(Receiver, "received", make)]


def _opening_ignored() -> list[Any]:
    def has(self: Life, point: Point | None) -> bool:
        if point is None or not self.starts:
            return True
        if point.start == self.starts[-1].id:
            return point.number <= self.number
        return any(start.id == point.start for start, _ in pairwise(self.starts))

    return [mock.patch.object(Life, "has", has)]


def _start_not_listed() -> list[Any]:
    def make(has: Any) -> Any:
        def lax(self: Life, point: Point | None) -> bool:
            known = point is not None and any(start.id == point.start for start in self.starts)
            return not known or has(self, point)

        return lax

    return [wrapped(Life, "has", make)]


def _unknown_believed() -> list[Any]:
    def make(answer: Any) -> Any:
        def trusting(self: Holding, peer: Peer, *args: Any) -> None:
            for pending in (*peer.ambiguous.values(), *peer.handed.values()):
                pending.start = peer.start
            answer(self, peer, *args)

        return trusting

    return [wrapped(Holding, "answered", make)]


def _not_flagged_at_renewal() -> list[Any]:
    return [mock.patch.object(Starting, "_flag_all", lambda self: 0)]


def _met_in_memory_only() -> list[Any]:
    return [mock.patch.object(ChannelLife, "write", lambda *args: None)]


def _sums_not_compared() -> list[Any]:
    def make(compared: Any) -> Any:
        return lambda self, ids, sums: compared(self, ids, ())

    return [wrapped(Outbox, "compared", make)]


def _old_does_not_wait() -> list[Any]:
    return [mock.patch.object(Assigning, "_waits_for_word", lambda self: False)]


LIVES: Final = tuple(
    Bug(name, what, patches, lives=True)
    for name, what, patches in (
        ("origin kept over starts", "a start goes on with the numbers of the last", _origin_kept),
        ("bundles say no point", "points come with HELLO alone", _bundles_say_no_point),
        ("opening number ignored", "any point of an earlier start is right", _opening_ignored),
        ("unlisted start is right", "a start that is not known is believed", _start_not_listed),
        ("unknown believed", "over a restart of the peer", _unknown_believed),
        ("not flagged at renewal", "what waits in a renewed channel", _not_flagged_at_renewal),
        ("points in memory only", "what was met is not written down", _met_in_memory_only),
        ("sums not compared", "an ack of another content counts", _sums_not_compared),
        ("old ones do not wait", "they leave before all peers have spoken", _old_does_not_wait),
    )
)
