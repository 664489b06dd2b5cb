"""The log has one line for each change of an agent's conditions: begun, otherwise, over. What
comes and goes is summed: at most a line a minute for each."""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tiers.observe.conditions import KINDS, Condition
from tiers.units import show_duration

QUIET_S: Final = 60.0  # what comes again sooner after its last line is counted
OTHERWISE_S: Final = 10.0  # how long a line stands before another reason is told
_log = logging.getLogger("tiers")
_NUMBER: Final = re.compile(r"\d[\d.,:]*")


@dataclass(slots=True)
class _Told:
    """What the log knows of one condition."""

    condition: Condition
    since_s: float  # of its present life
    said_s: float  # when it had its last line
    said: str  # the text of that line
    on: bool = True
    silent: bool = False  # this life had no line
    more: int = 0  # such lives


class Journal:
    """`look` at all conditions every second or so; `now_s` is monotonic."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], _Told] = {}

    def look(self, conditions: Iterable[Condition], now_s: float) -> None:
        """These hold now, and no others."""
        now = {condition.key: condition for condition in conditions}
        for condition in now.values():
            self.begin(condition, now_s)
        for key, told in list(self._told.items()):
            if told.on and key not in now:
                self._end(told, now_s)
            if now_s - told.said_s >= QUIET_S:
                self._sum_up(key, told, now_s)

    def begin(self, condition: Condition, now_s: float) -> None:
        """It holds now, perhaps since before."""
        told = self._told.get(condition.key)
        if told is None:
            self._told[condition.key] = _Told(condition, now_s, now_s, condition.text)
            _say(condition)
            return
        told.condition = condition
        if not told.on:  # within QUIET_S, else it would be forgotten
            told.on, told.silent, told.since_s = True, True, now_s
            told.more += 1
        elif _shape(told.said) != _shape(condition.text) and now_s - told.said_s >= OTHERWISE_S:
            told.said, told.said_s = condition.text, now_s
            _say(condition)

    def _end(self, told: _Told, now_s: float) -> None:
        told.on = False
        if not told.silent:
            lasted = show_duration(now_s - told.since_s)
            _log.info("%s %s: over after %s", *told.condition.key, lasted)

    def _sum_up(self, key: tuple[str, str], told: _Told, now_s: float) -> None:
        if told.more:
            state = "it lasts" if told.on else "over for now"
            ago, text = show_duration(now_s - told.said_s), told.condition.text
            _log.info("%s %s: %d times more in %s, %s: %s", *key, told.more, ago, state, text)
            told.more, told.said, told.said_s, told.silent = 0, text, now_s, False
        elif not told.on:
            del self._told[key]


def _say(condition: Condition) -> None:
    kind = KINDS[condition.code]
    risk = "; events are at risk" if condition.at_risk else ""
    todo = f"; to do: {kind.todo}" if kind.todo else ""
    level = logging.WARNING if kind.unhealthy and kind.todo else logging.INFO
    _log.log(level, "%s %s: %s (%s%s%s)", *condition.key, condition.text, kind.doing, risk, todo)


def _shape(text: str) -> str:
    """A text without its numbers: those change all the time."""
    return _NUMBER.sub("#", text)
