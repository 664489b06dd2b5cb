"""Bugs on purpose, as patches of shipped methods: the simulator must see each of them."""

from tests.simulation.planted.bugs import FIRST
from tests.simulation.planted.more import MORE

BUGS = (*FIRST, *MORE)
