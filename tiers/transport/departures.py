"""Bundles on their way to the wires of their peers: their records are read, and not kept.

What was stored lately is in memory still, and is read on the loop: a thread would cost each batch
more than the reading does. Anything older may have to come from the disk. That takes as long as
the disk takes, so it is read in a thread, while the loop has its turns; whatever is to leave after
it waits behind it, so that the bundles of a session are in order.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from tiers.contracts import Outlet
from tiers.core.hop.assigning import SenderEffects, Sending
from tiers.core.hop.messages import Bundle, Carried, encode_bundle
from tiers.core.hop.peers import Pending
from tiers.core.hop.sender import Sender
from tiers.errors import BatchError, ChannelUnavailable
from tiers.transport.wires import Wires

_log = logging.getLogger("tiers")
Record = bytes | BatchError


class Departures:
    """Of one sender group. `perform` carries out what the core says to what became of them."""

    def __init__(
        self,
        outlet: Outlet,
        sender: Sender,
        wires: Mapping[str, Wires],
        perform: Callable[[SenderEffects], None],
        now_s: Callable[[], float],
    ) -> None:
        self._outlet = outlet
        self._sender = sender
        self._wires = wires
        self._perform = perform
        self._now_s = now_s
        self._cold: deque[Sending] = deque()  # the first one is being read
        self._more = asyncio.Event()
        self._mute = False

    def send(self, sending: Sending) -> None:
        """Now, or in its turn."""
        if self._cold or any(self._outlet.is_cold(_stored_ms(one)) for one in sending.batches):
            self._cold.append(sending)
            self._more.set()
            return
        try:
            records = [self._read(pending) for pending in sending.batches]
        except ChannelUnavailable as error:
            self._lose(sending, str(error))
        else:
            self._leave(sending, records)

    def mute(self) -> None:
        """From now on nothing leaves."""
        self._mute = True

    async def run(self) -> None:
        """Until cancelled: what waits for the disk leaves once it was read."""
        while True:
            await self._more.wait()
            self._more.clear()
            while self._cold:
                await self._send_first()

    async def _send_first(self) -> None:
        sending = self._cold[0]
        try:
            records = await self._outlet.in_thread(
                lambda: [self._read(pending) for pending in sending.batches]
            )
        except ChannelUnavailable as error:
            self._cold.popleft()
            self._lose(sending, str(error))
            return
        self._cold.popleft()
        if self._is_current(sending):  # else the bundle was lost on its way
            self._leave(sending, records)

    def _is_current(self, sending: Sending) -> bool:
        peer = self._sender.peers.get(sending.peer)
        return (
            not self._mute
            and peer is not None
            and peer.in_session
            and peer.session == sending.session
        )

    def _read(self, pending: Pending) -> Record:
        try:
            return self._outlet.record(pending.position)
        except BatchError as error:
            return error

    def _leave(self, sending: Sending, records: Sequence[Record]) -> None:
        carried = []
        damaged = []
        for pending, record in zip(sending.batches, records, strict=True):
            if isinstance(record, BatchError):
                damaged.append((pending, str(record)))
                continue
            carried.append(Carried(record, pending.flagged, pending.hops))
            self._outlet.counts.delivered(pending.count, len(record))
        if not all(self._sender.is_with(sending.peer, pending.id) for pending, _ in damaged):
            # Released meanwhile, and gone from its place in the bundle.
            self._lose(sending, "a batch was released on its way")
            return
        if carried:
            me = self._sender.me
            to = (sending.session, me.channel, sending.receiver, sending.number)
            frame = encode_bundle(Bundle(*to, carried, sending.point))
            wires = self._wires.get(sending.peer)
            if wires is None or not wires.push.send(frame):
                self._perform(self._sender.lost(sending.peer, self._now_s()))
        for pending, reason in damaged:
            self._perform(self._sender.unreadable(pending, reason))

    def _lose(self, sending: Sending, why: str) -> None:
        """As if the bundle was lost on its way: the rest of what is to be done is done."""
        _log.debug("%s: %s", self._outlet.output, why)
        self._perform(self._sender.lost(sending.peer, self._now_s()))


def _stored_ms(pending: Pending) -> int:
    """When this agent stored a batch: its own hop is the last."""
    return pending.hops[-1].stored_ms if pending.hops else 0
