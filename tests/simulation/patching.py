"""What is real is taken away from the agents of a world, and the simulated put in its place."""

import contextlib
import logging
import os
import random
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

from tests.simulation.disk import SimEnvironment, SimWriter, blinding, damaging
from tests.simulation.network import SimSocket
from tests.simulation.store import SimStore, SimWorkers
from tests.simulation.topology import ROOT
from tiers import sources
from tiers.agent import Agent
from tiers.channel.home import Home
from tiers.channel.reader import Reader
from tiers.core.receiver import ReceiverLimits

if TYPE_CHECKING:
    from tests.simulation.world import World

CREDIT_BYTES = 500  # of one sender


@contextlib.contextmanager
def patched(world: "World") -> Iterator[None]:
    """Nothing real is left of time, chance, threads, sockets and stores."""

    def rng() -> random.Random:
        return world.chance_of_calls or world.random

    SimSocket.world = SimWorkers.world = SimWriter.world = SimEnvironment.world = world
    lock = os.open("/dev/null", os.O_RDONLY)
    made = SimpleNamespace(destroy=lambda linger: None, set=lambda option, value: None)
    context = SimpleNamespace(Context=lambda: made, MAX_SOCKETS=None)
    patches: list[Any] = [
        mock.patch.object(time, "monotonic", world.loop.time),
        mock.patch.object(time, "perf_counter", world.loop.time),
        mock.patch.object(time, "time_ns", world.time_ns),
        mock.patch.object(time, "time", lambda: world.time_ns() / 1e9),
        mock.patch.object(os, "urandom", lambda size: rng().randbytes(size)),
        mock.patch.object(random, "random", lambda: rng().random()),
        mock.patch.object(secrets, "randbits", lambda bits: rng().getrandbits(bits)),
        mock.patch.object(secrets, "token_hex", lambda size=32: rng().randbytes(size).hex()),
        mock.patch("tiers.transport.wires.Socket", SimSocket),
        mock.patch("tiers.transport.receiving.Socket", SimSocket),
        mock.patch("tiers.transport.sending.TICK_S", 0.2),
        mock.patch("tiers.transport.receiving.TICK_S", 0.2),
        mock.patch("tiers.sinks.file_sink.Workers", SimWorkers),
        mock.patch("tiers.channel.channel.Writer", SimWriter),
        mock.patch("tiers.channel.opening.home_of", _home),
        mock.patch.object(Agent, "renew", _saying(Agent.renew)),
        mock.patch("tiers.channel.opening.Environment", SimEnvironment),
        mock.patch("tiers.channel.channel.lock_directory", lambda directory: os.dup(lock)),
        mock.patch("tiers.sinks.directory.LocalStore", _store),
        mock.patch("tiers.reloading.LEAVE_AFTER_S", 2.0),
        mock.patch("tiers.agent.StatusServer", _NoStatus),
        mock.patch.object(Reader, "record", damaging(Reader.record)),
        mock.patch.object(Reader, "envelope", blinding(Reader.envelope)),
        mock.patch("tiers.composing.ReceiverLimits", _small_credit),
        mock.patch("tiers.agent.zmq", context),
        mock.patch.dict(sources.BUILTIN, {"numbers": "tests.simulation.source:Numbers"}),
        mock.patch.object(sys, "unraisablehook", lambda _: None),
    ]
    logging.disable(logging.CRITICAL)
    world.loop.set_exception_handler(world.unhandled)
    try:
        with contextlib.ExitStack() as stack:
            for patch in patches:
                stack.enter_context(patch)
            yield
    finally:
        os.close(lock)
        logging.disable(logging.NOTSET)


class _NoStatus:
    """In place of the status server."""

    def __init__(self, *args: object) -> None:
        pass

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass


def _home(_: Path) -> Home:
    node = SimSocket.world.current().node
    return Home("simulated", node.place, 0)


def _saying(renew: Callable[[Agent, str], None]) -> Callable[[Agent, str], None]:
    def say(self: Agent, why: str) -> None:
        world = SimSocket.world
        world.say(f"{world.current().machine} is to be renewed: {why}")
        world.count("renewed")
        renew(self, why)

    return say


def _store(root: Path) -> SimStore:
    return SimSocket.world.current().store(str(root.relative_to(ROOT)))


def _small_credit(_: int, *others: int) -> ReceiverLimits:
    return ReceiverLimits(CREDIT_BYTES, *others)
