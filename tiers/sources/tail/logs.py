"""Which logs there are, and whose generation a name may be."""

import os

from tiers.sources.tail.names import candidates, is_rotated


class Logs:
    """Where the logs of this look are: for each directory the names of logs, and whose they are."""

    def __init__(self) -> None:
        self._bases: dict[str, dict[str, str]] = {}  # directory -> name -> path of the log
        self._learned: dict[str, set[tuple[str, str]]] = {}  # directory -> (name, path of the log)
        self._kin: dict[str, str] = {}

    def add(self, path: str, real: str) -> None:
        directory, name = os.path.split(real)
        names = self._bases.setdefault(directory, {})
        names.setdefault(name, path)
        self._kin.setdefault(path, names[name])
        if path != real and directory == os.path.dirname(path):  # noqa: PTH120
            # A link to the newest of its own generations, all of which have dates in their names.
            names.setdefault(os.path.basename(path), path)  # noqa: PTH119

    def learn(self, directory: str, path: str, real: str) -> None:
        """A generation of this log was seen to go there."""
        if directory != os.path.dirname(real):  # noqa: PTH120 thousands of times a second
            self._learned.setdefault(directory, set()).add((os.path.basename(real), path))  # noqa: PTH119

    def is_learned(self, directory: str) -> bool:
        """Not a log's own."""
        return directory not in self._bases

    def directories(self) -> list[str]:
        return [*self._bases, *(each for each in self._learned if each not in self._bases)]

    def kin(self, path: str) -> str:
        """The log that this one is a rotated generation of, or itself."""
        return self._kin.get(path, path)

    def is_in(self, kin: str, directory: str) -> bool:
        """Whether generations of the log may be in this directory."""
        paths = [*self._bases.get(directory, {}).values()]
        paths += [path for _, path in self._learned.get(directory, ())]
        return any(self.kin(path) == kin for path in paths)

    def settle(self) -> None:
        """Logs whose names rotation may have made of another's belong to that one."""
        for directory, names in self._bases.items():
            for name, path in names.items():
                base = self._base(directory, name)
                if base is not None:
                    self._kin[path] = names[base]
        for path in self._kin:
            while (further := self._kin.get(self._kin[path], self._kin[path])) != self._kin[path]:
                self._kin[path] = further

    def of(self, directory: str, name: str) -> tuple[str, str] | None:
        """The log that a file beside may be a generation of, and that log's name."""
        base = self._base(directory, name)
        if base is not None:
            return self.kin(self._bases[directory][base]), base
        for base, path in self._learned.get(directory, ()):
            if name == base or is_rotated(name, base):
                return self.kin(path), base
        return None

    def _base(self, directory: str, name: str) -> str | None:
        """The shortest: of app.log and app.log.1, app.log.1.gz is the former's."""
        names = self._bases.get(directory, {})
        found = [base for base in candidates(name) if base in names and is_rotated(name, base)]
        return min(found, key=len, default=None)
