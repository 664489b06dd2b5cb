"""What this agent's own sinks write: a source that read it would publish it again, for ever.

A topology that says so in plain words is refused. Links, and file systems that are mounted at two
places, are found here, by real paths: the walk asks of each directory that it is about to list.
"""

from collections.abc import Sequence

from tiers.sources.tail.door import Door

Identity = tuple[int, int]  # device, inode


class Ours:
    """`directories`: those below which sinks write, absolute."""

    def __init__(self, door: Door, directories: Sequence[str]) -> None:
        self._door = door
        self._directories = directories
        self._roots: dict[str, str] = {}  # by real path
        self._before: dict[tuple[str, Identity], str] = {}
        self._known: dict[tuple[str, Identity], str] = {}

    def look_begins(self) -> None:
        """What was found out in the last look is kept for this one."""
        roots = {self._door.real(one): one for one in self._directories}
        self._before, self._known = (self._known if roots == self._roots else {}), {}
        self._roots = roots

    def root_of(self, directory: str, identity: Identity) -> str:
        """The sink's directory that this one is, or lies in; empty where there is none."""
        if not self._roots:
            return ""
        key = directory, identity
        root = self._before.get(key)
        if root is None:
            root = self._find(directory, identity)
        self._known[key] = root
        return root

    def _find(self, directory: str, identity: Identity) -> str:
        real = self._door.real(directory)
        for root, named in self._roots.items():
            if real == root or real.startswith(root.rstrip("/") + "/"):
                return named
            try:
                status = self._door.stat(root)
            except OSError:
                continue
            if (status.device, status.inode) == identity:
                return named
        return ""
