"""The machine that an agent runs on: its clock, its chance, its sockets, its threads, its disk.

Whatever an agent meets outside of itself comes through one `World` (contracts), so that a
simulation gives its own instead. Rooms are imported when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tiers.host.clock import Clock

if TYPE_CHECKING:
    import zmq

    from tiers.channel.channel import Channel
    from tiers.contracts import Link, Store
    from tiers.core.change import ChannelLimits
    from tiers.observe.status import StatusServer
    from tiers.sinks.workers import Workers
    from tiers.transport.sockets import Socket

TICK_S: Final = 0.05


class Machine(Clock):
    """This machine, for one agent: see `World` of the contracts."""

    tick_s = TICK_S

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]] | None = None) -> None:
        super().__init__()
        self._context = context

    def socket(
        self,
        kind: int,
        options: dict[int, int | bytes],
        receive: Callable[[list[Any]], None] | None = None,
        link: Callable[[Link], None] | None = None,
        *,
        parts_max: int = 1,
    ) -> Socket:
        from tiers.transport.sockets import Socket, new_context

        if self._context is None:
            self._context = new_context()
        return Socket(self._context, kind, options, receive, link, parts_max=parts_max)

    async def channel(
        self, directory: Path, limits: ChannelLimits, outputs: Sequence[str]
    ) -> Channel:
        from tiers.channel.channel import Channel

        return await Channel.open(directory, limits, outputs, self)

    def store(self, open_store: Callable[[Any], Store], options: Any) -> Store:
        return open_store(options)

    def workers(self, name: str, count: int) -> Workers:
        from tiers.sinks.workers import Workers

        return Workers(name, count)

    def status_server(self, *what: Any) -> StatusServer:
        from tiers.observe.status import StatusServer

        return StatusServer(*what)

    def close(self) -> None:
        if self._context is not None:
            self._context.destroy(linger=0)
