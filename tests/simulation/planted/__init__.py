"""Bugs on purpose, as patches of shipped methods: the simulator must see each of them."""

from tests.simulation.planted.bugs import FIRST
from tests.simulation.planted.more import MORE

BUGS = (*FIRST, *MORE)

# A seed that shows the bug, for a test that cannot play so many: `scripts/simulate --planted` is
# how they were found, and finds them anew where runs have changed.
KNOWN: dict[str, int] = {
    "no dedupe on disk": 1,
    "no fence": 7,
    "check before the intent": 6,
    "mark behind what was sent": 10,
    "rename's answer believed": 3,
    "day taken from the local clock": 1,
    "restart asks nothing": 8,
    "pending file left": 8,
    "void not asked": 2,
    "session not compared": 36,
    "answers too soon": 10,
    "channel id not compared": 90,
    "credit ignored": 8,
    "tmp removed, not voided": 2,
    "void asked before tmp": 72,
    "released at stored": 1,
    "stored told as published": 1,
    "closed day ignored": 6,
    "handed on unflagged": 1,
    "lost peer waited for": 51,
    "damaged one stays seen": 1,
}
