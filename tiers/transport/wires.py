"""The two sockets to one peer: batches go over one, and what is said over the other."""

from collections.abc import Callable
from dataclasses import dataclass, field

import zmq

from tiers.contracts import Link, Socket, World
from tiers.core.hop.messages import CONTROL_BYTES_MAX
from tiers.core.hop.peers import PeerLimits
from tiers.topology import Address
from tiers.transport.backlog import GREETING_BYTES, Backlog
from tiers.transport.gate import received
from tiers.transport.sockets import KEEPALIVE

# Whatever a peer says on the data connection stays unread, so there is little room for it.
NOTHING_COMES: dict[int, int | bytes] = {zmq.RCVHWM: 1, zmq.MAXMSGSIZE: 64}


@dataclass(slots=True)
class Wires:
    """Made by `wires_to`. Whether they are up is noted by who hears of it."""

    address: Address
    push: Socket
    dealer: Socket
    backlog: Backlog = field(default_factory=Backlog)
    data_up: bool = False
    control_up: bool = False

    @property
    def up(self) -> bool:
        return self.data_up and self.control_up

    def says_too_much(self) -> bool:
        """Whether the peer has said more than is read; over the data connection nothing is."""
        said = received(self.push.connection) if self.push.connection >= 0 else 0
        return said > GREETING_BYTES or self.backlog.is_too_much(self.dealer.connection)

    def connect(self) -> None:
        self.push.connect(self.address.data)
        self.dealer.connect(self.address.control)

    def close(self) -> None:
        self.push.close()
        self.dealer.close()


def wires_to(
    world: World,
    address: Address,
    limits: PeerLimits,
    route: bytes,
    *,
    receive: Callable[[list[zmq.Frame]], None],
    data_link: Callable[[Link], None],
    control_link: Callable[[Link], None],
) -> Wires:
    """Not connected yet. The peer knows us by `route`; `receive` gets what it says."""
    common: dict[int, int | bytes] = {
        zmq.IMMEDIATE: 1,
        zmq.RECONNECT_IVL: int(limits.retry_first_s * 1000),
        zmq.RECONNECT_IVL_MAX: int(limits.retry_max_s * 1000),
        zmq.CONNECT_TIMEOUT: 2000,
        zmq.IPV6: 1,
        **KEEPALIVE,
    }
    own: dict[int, int | bytes] = {
        zmq.ROUTING_ID: route,
        zmq.MAXMSGSIZE: CONTROL_BYTES_MAX,
        zmq.RCVHWM: 0,  # never full: see KEEPALIVE
        # What is said is always read: where it is not acked, the host is gone. Not so for
        # data, which a receiver without room leaves in TCP for as long as it likes.
        zmq.TCP_MAXRT: int(limits.heartbeat_s * 10_000),
    }
    push = world.socket(zmq.PUSH, common | NOTHING_COMES, link=data_link)
    dealer = world.socket(zmq.DEALER, common | own, receive, control_link)
    return Wires(address, push, dealer)
