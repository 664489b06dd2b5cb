"""The machines of sinks, `Settlement` and `Publication`, numbered: each is stepped once."""

import copy

from tiers.core.commit.calls import CallAnswer
from tiers.core.commit.claims import Settlement, Step
from tiers.core.commit.publication import Publication, State

Machine = Settlement | Publication


class Machines:
    """All that were met. Number 0 is none."""

    def __init__(self) -> None:
        self.all: list[Machine | None] = [None]
        self._keys: dict[str, int] = {}
        self._calls: dict[tuple[int, int], tuple[int, object]] = {}
        self._answers: dict[tuple[int, object], int] = {}

    def number(self, machine: Machine) -> int:
        _plain(machine)
        number = self._keys.setdefault(repr(machine), len(self.all))
        if number == len(self.all):
            self.all.append(machine)
        return number

    def call(self, number: int, drawn: int) -> tuple[int, object]:
        """The machine then, for it notes what was drawn, and its call."""
        known = self._calls.get((number, drawn))
        if known is None:
            machine = self._copied(number)
            call = machine.call(drawn)
            known = self._calls[number, drawn] = self.number(machine), call
        return known

    def told(self, number: int, answer: object) -> int:
        """The machine after an answer."""
        told = self._answers.get((number, answer))
        if told is None:
            machine = self._copied(number)
            _tell(machine, answer)
            told = self._answers[number, answer] = self.number(machine)
        return told

    def draws(self, number: int) -> set[int] | None:
        """Where the number that it is about to draw matters, that of a claim: those it knows of."""
        machine = self.all[number]
        if not isinstance(machine, Settlement) or machine.step is not Step.STAGE:
            return None
        return {machine._number, *machine.numbers.values()}

    def _copied(self, number: int) -> Machine:
        machine = copy.deepcopy(self.all[number])
        assert machine is not None
        return machine


def _plain(machine: Machine) -> None:
    """Takes out what no further step depends on, so that equal futures are one state."""
    if isinstance(machine, Publication):
        machine.stopped = dict.fromkeys(machine.stopped, "")
        machine.yielded = dict.fromkeys(machine.yielded, "")
        if machine.state not in (State.STAGE, State.STAGE_EMPTY, State.INTEND, State.EMPTY):
            machine._small = ""
        return
    machine.why.clear()
    machine.fenced.clear()
    machine.taken_over.clear()
    if machine.step not in (Step.STAGE, Step.CLAIM, Step.READ_CLAIM, Step.REPLACE):
        machine._number = 0


def _tell(machine: Machine, answer: object) -> None:
    if isinstance(answer, CallAnswer):
        machine.answer(answer)
    elif isinstance(answer, tuple):
        machine.listed(answer)
    elif isinstance(answer, int):
        assert isinstance(machine, Settlement)
        machine.clock(answer)
    else:
        assert answer is None or isinstance(answer, bytes)
        machine.content(answer)
