"""An agent's receiving end: PULL for bundles on its port, ROUTER for words on the next.

Lets the core decide (core/receiver.py) and performs what it says. A batch is acked after the
commit that stores it, not after its arrival: the sender deletes on ack.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import zmq

from tiers.channel.change import Change, Put
from tiers.channel.channel import Channel
from tiers.core.batch import BatchId, Hop
from tiers.core.messages import (
    PROTOCOL,
    Guarantee,
    Identity,
    Refuse,
    decode,
    decode_bundle,
    encode,
)
from tiers.core.receiver import OWED_MAX, Arrived, Effects, Receiver, ReceiverLimits
from tiers.errors import ChannelUnavailable, PeerError
from tiers.topology import Address
from tiers.transport.sockets import KEEPALIVE, Socket

TICK_S = 0.05
COMPLAIN_EVERY_S = 1.0
PARTING_S = 10.0  # how long a draining agent waits for its senders to leave
_BUNDLES_WAITING_MAX = 8  # in ZeroMQ's pipe of one sender; the rest waits in TCP


class ReceiverEnd:
    """`run` runs until cancelled."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        me: Identity,
        address: Address,
        channel: Channel,
        limits: ReceiverLimits,
        outputs: Sequence[str],
        stores: Callable[[], Mapping[str, str]],
        *,
        guarantee: Guarantee = "hop",
        trouble: Callable[[str], None],
    ) -> None:
        self.address = address
        self.receiver = Receiver(me, limits, new_session=lambda: os.urandom(8), guarantee=guarantee)
        self.malformed = 0  # messages that could not be read
        self._complain_s = 0.0  # when the next of them may be told
        self.events_in = 0
        self.bytes_in = 0  # of records
        self._channel = channel
        self._outputs = tuple(outputs)
        self._stores = stores
        self._parting_s: float | None = None  # since when senders are asked to go
        self._trouble = trouble
        data_options: dict[int, int | bytes] = {
            zmq.RCVHWM: _BUNDLES_WAITING_MAX,
            zmq.MAXMSGSIZE: limits.message_size_max,
            zmq.IPV6: 1,
            **KEEPALIVE,
        }
        control_options: dict[int, int | bytes] = {
            zmq.ROUTER_HANDOVER: 1,
            zmq.MAXMSGSIZE: 1 << 20,
            zmq.IPV6: 1,
            **KEEPALIVE,
        }
        self._pull = Socket(context, zmq.PULL, data_options, self._bundle)
        self._router = Socket(context, zmq.ROUTER, control_options, self._control)

    def bind(self) -> None:
        """Raises TransportError when an address is taken."""
        self._router.bind(self.address.control)
        self._pull.bind(self.address.data)

    async def run(self) -> None:
        """Until cancelled."""
        self._channel.subscribe(self._tick)
        self._channel.tell_passed_on(self._passed_on)
        while True:
            self._tick()
            await asyncio.sleep(TICK_S)

    def _tick(self) -> None:
        self.receiver.stores = self._stores()
        self._pull.pause(self._channel.overfull())
        self._perform(self.receiver.tick(self._channel.free_bytes(), time.monotonic()))

    def _control(self, parts: list[zmq.Frame]) -> None:
        route = parts[0].bytes
        try:
            if len(parts) != 2:
                raise PeerError(f"a control message of {len(parts) - 1} parts")
            message = decode(parts[1].buffer)
        except PeerError as error:
            self._malformed(f"{route!r:.80}: {error}")
            refusal = Refuse(b"", f"{error} (this agent speaks protocol {PROTOCOL})")
            self._router.send(route, encode(refusal))
            return
        now, now_ms = time.monotonic(), time.time_ns() // 1_000_000
        with suppress(ChannelUnavailable):  # who asks, asks again
            heard = self.receiver.heard
            self._perform(heard(route, message, self._channel.seen, now, now_ms))

    def _bundle(self, parts: list[zmq.Frame]) -> None:
        try:
            if len(parts) != 1:
                raise PeerError(f"a bundle of {len(parts)} parts")
            bundle = decode_bundle(parts[0].buffer)
        except PeerError as error:
            self._malformed(str(error))
            return
        with suppress(ChannelUnavailable):  # the channel says so; what is not acked comes again
            self._perform(self.receiver.received(bundle, self._channel.seen, time.monotonic()))

    def _malformed(self, what: str) -> None:
        self.malformed += 1
        # Who sends garbage must not fill the log's disk with it.
        now = time.monotonic()
        if now >= self._complain_s:
            self._complain_s = now + COMPLAIN_EVERY_S
            self._trouble(f"a message that cannot be read was dropped: {what}")

    def _perform(self, effects: Effects) -> None:
        if effects.append:
            self._append(effects.append)
        for route, message in effects.say:
            # ROUTER drops what has no route any more; the sender asks again.
            self._router.send(route, encode(message))

    def _append(self, arrived: list[Arrived]) -> None:
        own = Hop(self.receiver.me.agent, time.time_ns() // 1_000_000)
        puts = [
            Put(
                batch.id,
                batch.record,
                batch.envelope.count,
                self._outputs,
                batch.flagged,
                (*batch.hops, own),
                arrived=True,
            )
            for batch in arrived
        ]
        ids = [batch.id for batch in arrived]
        events = sum(batch.envelope.count for batch in arrived)
        size = sum(len(batch.record) for batch in arrived)
        done = self._channel.submit(Change(puts=puts))
        self._pull.pause(self._channel.overfull())

        def stored(future: "asyncio.Future[tuple[int, ...]]") -> None:
            if not future.cancelled() and future.exception() is None:
                self.events_in += events
                self.bytes_in += size
                self._stored(ids)

        done.add_done_callback(stored)

    def _stored(self, ids: Iterable[BatchId]) -> None:
        with suppress(ChannelUnavailable):  # acks go out with what is done next
            self._perform(self.receiver.stored(ids, self._channel.seen))

    def _passed_on(self, ids: Sequence[BatchId]) -> None:
        if self._parting_s is not None:
            self._parting_s = time.monotonic()  # who waits for receipts stays for the last
        self._perform(self.receiver.passed_on(ids))

    def drain(self) -> None:
        """Tell the senders to send no more."""
        self._parting_s = time.monotonic()
        self._perform(self.receiver.drain())

    def settled(self, patience_s: float = PARTING_S) -> bool:
        """After `drain`: every sender has had its acks and left, or was waited for long enough,
        and nothing is on its way to disk."""
        assert self._parting_s is not None
        waited_s = time.monotonic() - self._parting_s
        gone = not self.receiver.senders or waited_s > patience_s
        return gone and not self.receiver.pending()

    def close(self) -> None:
        """Close both sockets."""
        self._pull.close()
        self._router.close()

    def status(self) -> dict[str, Any]:
        """For the status page."""
        receiver = self.receiver
        return {
            "address": str(self.address),
            "senders": [
                {
                    "agent": sender.agent,
                    "credit_bytes": sender.credit,
                    "events": sender.events,
                    "batches": sender.batches,
                    "error": sender.error,
                }
                for sender in receiver.senders.values()
            ],
            "owed": receiver.owed(),
            "owed_max": OWED_MAX,
            "rejected": receiver.rejected,
            "malformed": self.malformed,
            "duplicates": receiver.duplicates,
            "discarded": receiver.discarded,
        }
