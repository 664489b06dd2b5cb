"""The registry of an agent's numbers (core/meters.py), read by `/metrics` and the status alike."""

from collections.abc import Iterable, Iterator, Mapping

from tiers.core.meters import Histogram, Meter, Metered, Sample


class Numbers:
    """All numbers of an agent at one moment."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._by_meter: dict[Meter, dict[tuple[str, ...], float | Histogram]] = {}
        for meter, labels, value in samples:
            self._by_meter.setdefault(meter, {})[labels] = value

    def families(self) -> Iterator[tuple[Meter, Mapping[tuple[str, ...], float | Histogram]]]:
        """Each meter with its samples, by the values of its labels."""
        yield from self._by_meter.items()

    def value(self, meter: Meter, *labels: str) -> float:
        """0 where nobody tells it: a part that is not here has done nothing. Of a histogram how
        many values there were."""
        found = self._by_meter.get(meter, {}).get(labels, 0)
        return found.count if isinstance(found, Histogram) else found

    def by_word(self, words: Mapping[str, Meter], *labels: str) -> dict[str, float]:
        """Those that are told, under other names."""
        return {
            word: self.value(meter, *labels)
            for word, meter in words.items()
            if labels in self._by_meter.get(meter, ())
        }

    def total(self, meter: Meter) -> float:
        """Over all labels."""
        return sum(self.value(meter, *labels) for labels in self._by_meter.get(meter, ()))


class Meters:
    """The registry of one agent: who is registered is read whenever somebody asks."""

    def __init__(self) -> None:
        self._parts: list[Metered] = []

    def register(self, *parts: Metered) -> None:
        self._parts.extend(parts)

    def forget(self, part: Metered) -> None:
        """It has ended: nothing is told of it any more."""
        self._parts.remove(part)

    def read(self) -> Numbers:
        return Numbers(sample for part in self._parts for sample in part.meters())
