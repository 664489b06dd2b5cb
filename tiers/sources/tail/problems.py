"""What cannot be read now, and since when."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

PROBLEMS_MAX: Final = 1000  # kept; more are only counted


@dataclass(slots=True)
class ReadProblem:
    text: str
    since_s: float  # wall clock
    harmless: bool = False  # a remark: nothing waits to be read


class ReadProblems:
    """One that cannot be read holds back no other. It is tried again at each look, and stands
    until it was read."""

    def __init__(self) -> None:
        self._standing: dict[str, ReadProblem] = {}  # by path; of files until they were read
        self._looking: dict[str, ReadProblem] = {}  # of the last look
        self._before: dict[str, ReadProblem] = {}  # of the look before
        self._dropped = 0

    def note_look(
        self,
        problems: Iterable[tuple[str, OSError | str]],
        remarks: Iterable[tuple[str, str]],
        now_s: float,
    ) -> None:
        """What a look has found wrong is found again by the next, or over."""
        self._before, self._looking, self._dropped = self._looking, {}, 0
        for path, why in problems:
            self._note(path, why, now_s, harmless=False)
        for path, text in remarks:
            self._note(path, text, now_s, harmless=True)

    def _note(self, path: str, why: OSError | str, now_s: float, *, harmless: bool) -> None:
        if len(self._looking) >= PROBLEMS_MAX:
            self._dropped += 1
            return
        text = why if isinstance(why, str) else _text(path, why)
        known = self._before.get(path)
        since_s = known.since_s if known else now_s
        self._looking.setdefault(path, ReadProblem(text, since_s, harmless))

    def stand(self, path: str, error: OSError, now_s: float) -> None:
        """Of a file, until `over`."""
        known = self._standing.get(path)
        if known is None and len(self._standing) >= PROBLEMS_MAX:
            self._dropped += 1
            return
        self._standing[path] = ReadProblem(_text(path, error), known.since_s if known else now_s)

    def over(self, path: str) -> None:
        self._standing.pop(path, None)

    def keep(self, paths: set[str]) -> None:
        """Files that are followed no more are no problem."""
        for path in self._standing.keys() - paths:
            del self._standing[path]

    def all(self) -> list[ReadProblem]:
        return list({**self._looking, **self._standing}.values())

    def line(self, *, harmless: bool = False) -> str:
        """One line about all that cannot be read now, or is worth a word; empty when there is
        nothing."""
        every = [problem for problem in self.all() if problem.harmless == harmless]
        if not every:
            return ""
        more = len(every) - 1 + (0 if harmless else self._dropped)
        return f"{every[0].text} (and {more} more)" if more else every[0].text


def _text(path: str, error: OSError) -> str:
    return f"cannot read {path}: {error.strerror or error}"
