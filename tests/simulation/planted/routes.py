"""Bugs on purpose: of batches that not all outputs are to have."""

from dataclasses import replace
from typing import Any, Final
from unittest import mock

from tests.simulation.planted.bugs import Bug, wrapped
from tiers.channel.applying import Applying
from tiers.channel.environment import Environment, Transaction
from tiers.channel.held import Held
from tiers.channel.layout import QUEUE_KEY, ChannelState, guard, unguard, unpack_item
from tiers.channel.living import Begun, Starting
from tiers.core.withheld import Withheld

TOPOLOGY: Final = "routes"


def _to_all(environment: Environment, txn: Transaction, state: ChannelState) -> None:
    """What waits for any output waits for every one, as if a new topology said so."""
    waiting = {}
    for key, stored in txn.cursor(environment.db["queue"]):
        waiting[QUEUE_KEY.unpack(key)[1]] = unpack_item(unguard("queue", key, stored))
    for position, item in waiting.items():
        for totals in state.outputs.values():
            key = QUEUE_KEY.pack(totals.id, position)
            if txn.get(key, db=environment.db["queue"]) is None:
                txn.put(key, guard(key, item.pack()), db=environment.db["queue"])
                totals.batches += 1
                totals.events += item.count
                totals.size_bytes += item.size


def _decided_anew() -> list[Any]:
    def make(begin: Any) -> Any:
        def anew(self: Starting, identity: Any, state: ChannelState) -> Begun:
            _to_all(self.environment, self.txn, state)
            begun: Begun = begin(self, identity, state)
            return begun

        return anew

    return [wrapped(Starting, "begin", make)]


def _run_forgotten() -> list[Any]:
    """What was known of a block is written over by the next of it."""

    def make(withheld_of: Any) -> Any:
        def short(self: Held, output: str, batch: Any) -> tuple[bytes, Withheld]:
            key, _ = withheld_of(self, output, batch)
            return key, self._withheld.get(key, Withheld())

        return short

    return [wrapped(Held, "_withheld_of", make)]


def _unrouted_not_passed_on() -> list[Any]:
    """What no output wants is stored, and nobody is told."""

    def make(put_unrouted: Any) -> Any:
        def silent(self: Applying, put: Any, position: int) -> int:
            return int(put_unrouted(self, replace(put, arrived=False), position))

        return silent

    return [wrapped(Applying, "_put_unrouted", make)]


def _skipped_by_all() -> list[Any]:
    return [mock.patch.object(Held, "_skip", lambda self, outputs, batch: None)]


OF_ROUTES: Final = (
    Bug(
        "route decided anew",
        "what waits at a start waits for every output, as by a new route",
        _decided_anew,
        topology=TOPOLOGY,
    ),
    Bug(
        "run of skipped ids forgotten",
        "a commit writes over what earlier ones knew of a block",
        _run_forgotten,
        topology=TOPOLOGY,
    ),
    Bug(
        "skipped ids not noted",
        "what an output was not to have is not written down",
        _skipped_by_all,
        topology=TOPOLOGY,
    ),
    Bug(
        "unrouted not passed on",
        "who sent what no output wants is not told that it is done",
        _unrouted_not_passed_on,
        topology=TOPOLOGY,
    ),
)
