"""Bugs on purpose, as patches of shipped methods: the simulator must see each of them."""

from tests.simulation.planted.bugs import FIRST
from tests.simulation.planted.more import MORE

BUGS = (*FIRST, *MORE)

# A seed that shows the bug, for a test that cannot play so many: `scripts/simulate --planted` is
# how they were found, and finds them anew where runs have changed.
KNOWN: dict[str, int] = {
    "no dedupe on disk": 1,
    "no look": 8,
    "no fence": 12,
    "check before the intent": 6,
    "no check": 6,
    "check of flagged ones only": 5,
    "flag lost on restart": 8,
    "mark behind what was sent": 20,
    "rename's answer believed": 3,
    "peers rotated without a flag": 3,
    "positions outside the transaction": 60,
    "day taken from the local clock": 5,
    "restart asks nothing": 40,
    "void not asked": 14,
    "session not compared": 52,
    "flag dropped on the way": 3,
    "answers too soon": 24,
    "claims of others taken": 6,
    "channel id not compared": 34,
    "credit ignored": 9,
    "tmp removed, not voided": 14,
    "void asked before tmp": 73,
    "released at stored": 1,
    "stored told as published": 1,
    "closed day ignored": 22,
    "handed on unflagged": 1,
    "lost peer waited for": 13,
    "damaged one stays seen": 3,
}
