"""The shortest sequence that still goes wrong in the same way."""

from collections.abc import Callable, Iterator
from typing import Final

from tests.tailing.deeds import Deed
from tests.tailing.play import Outcome, Play, Setting

PLAYS_MAX: Final = 3000


def played(setting: Setting, deeds: list[Deed]) -> Outcome:
    """An exception of the source is a violation, too."""
    try:
        return Play(setting, deeds).run()
    except Exception as error:  # whatever it is, it is a finding
        return Outcome(f"raised: {error!r}")


def violation(setting: Setting, deeds: list[Deed]) -> str:
    """What goes wrong; empty when nothing does."""
    return played(setting, deeds).violation


def shrink(
    setting: Setting, deeds: list[Deed], fails: Callable[[Setting, list[Deed]], str] = violation
) -> list[Deed]:
    """Fewer deeds, and simpler looks, as long as the same kind of thing goes wrong."""
    kind = _kind(fails(setting, deeds))
    plays = 0
    shorter = True
    while shorter and plays < PLAYS_MAX:
        shorter = False
        for simpler in _simpler(deeds):
            plays += 1
            if _kind(fails(setting, simpler)) == kind:
                deeds, shorter = simpler, True
                break
    return deeds


def _kind(found: str) -> str:
    return found.partition(":")[0]


def _simpler(deeds: list[Deed]) -> Iterator[list[Deed]]:
    for at in range(len(deeds) - 1, -1, -1):
        yield deeds[:at] + deeds[at + 1 :]
    for at, deed in enumerate(deeds):
        for other in _simpler_deed(deed):
            yield [*deeds[:at], other, *deeds[at + 1 :]]


def _simpler_deed(deed: Deed) -> Iterator[Deed]:
    match deed:
        case ("look", steps, seconds, within, dies_at):
            for each in range(len(within)):
                yield ("look", steps, seconds, within[:each] + within[each + 1 :], dies_at)
            if dies_at >= 0:
                yield ("look", steps, seconds, within, -1)
            if steps < 1000:
                yield ("look", 1000, seconds, within, dies_at)
            if seconds != 2.0:
                yield ("look", steps, 2.0, within, dies_at)
        case ("lines", count, size):
            if count > 1:
                yield ("lines", count - 1, size)
            if size:
                yield ("lines", count, 0)
