"""A store in memory behind `Store`, and workers that carry its calls out in virtual time.

A call may be slow, refused by an outage, carried out although its answer is lost, or carried out
long after its caller was told that it failed, or has died. A function of several calls is run anew
from its beginning for each of them, with the answers so far, so that the world moves in between.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from tests.simulation.injecting import step_of
from tiers.core.batch import Buffer
from tiers.core.commit.answers import Listed, Moved
from tiers.errors import StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from tests.simulation.nodes import Boot

T = TypeVar("T")


def parent(path: str) -> str:
    return path.rpartition("/")[0]


class Files:
    """What every handle on the store sees. `watch` is told of each change before it is made."""

    def __init__(self, now_ms: Callable[[], int], watch: Callable[..., None]) -> None:
        self.files: dict[str, tuple[bytes, int]] = {}
        self.dirs: dict[str, int] = {}
        self._now_ms = now_ms
        self._watch = watch

    def make_parents(self, path: str) -> None:
        self._refuse_below_a_file(path)
        above = parent(path)
        while True:
            self.dirs.setdefault(above, self._now_ms())
            if not above:
                return
            above = parent(above)

    def _refuse_below_a_file(self, path: str) -> None:
        while path := parent(path):
            if path in self.files:
                raise StoreRefused(f"{path} is a file: simulated")

    def write(self, path: str, data: bytes) -> int:
        self._refuse_below_a_file(path)
        self._watch("write", path, data)
        self.make_parents(path)
        self.files[path] = (data, self._now_ms())
        self.dirs[parent(path)] = self._now_ms()
        return len(data)

    def move(self, source: str, target: str) -> Moved:
        if source not in self.files and source not in self.dirs:
            return Moved.SOURCE_GONE
        if target in self.files or target in self.dirs:
            return Moved.TARGET_THERE
        return self._moved(source, target)

    def replace(self, source: str, target: str) -> Moved:
        if source not in self.files:
            return Moved.SOURCE_GONE
        if target in self.dirs:
            raise StoreRefused(f"{target} is a directory: simulated")
        return self._moved(source, target)

    def _moved(self, source: str, target: str) -> Moved:
        self._refuse_below_a_file(target)
        if parent(target) not in self.dirs:
            return Moved.NO_PARENT
        if source in self.dirs:
            self._watch("move-tree", source, target)
            rooms: tuple[dict[str, Any], ...] = (self.files, self.dirs)
            for room in rooms:
                for path in [p for p in room if p == source or p.startswith(source + "/")]:
                    room[target + path[len(source) :]] = room.pop(path)
        else:
            self._watch("move", source, target)
            self.files[target] = self.files.pop(source)
        self.dirs[parent(source)] = self.dirs[parent(target)] = self._now_ms()
        return Moved.DONE

    def read(self, path: str, bytes_max: int | None = None) -> bytes | None:
        end = None if bytes_max is None else bytes_max + 1
        return self.files[path][0][:end] if path in self.files else None

    def length(self, path: str) -> int | None:
        return len(self.files[path][0]) if path in self.files else None

    def list(self, path: str) -> "list[Listed] | None":
        if path not in self.dirs:
            return None
        found = [
            Listed(p.rpartition("/")[2], len(data), at, False)
            for p, (data, at) in self.files.items()
            if parent(p) == path
        ]
        found += [
            Listed(p.rpartition("/")[2], 0, at, True)
            for p, at in self.dirs.items()
            if p and parent(p) == path
        ]
        return sorted(found)

    def delete(self, path: str) -> bool:
        gone = [p for p in self.files if p == path or p.startswith(path + "/")]
        dirs = [p for p in self.dirs if p == path or p.startswith(path + "/")]
        for one in gone:
            self._watch("delete", one)
            del self.files[one]
        for one in dirs:
            del self.dirs[one]
        return bool(gone or dirs)

    def now_ms(self) -> int:
        return self._now_ms()


@dataclass(frozen=True)
class Wanted(BaseException):
    """A store call that a function has come to, and whose answer is not known yet."""

    files: Files
    name: str
    args: tuple[Any, ...]


class Tape:
    """The answers that a function has had so far; None outside of `SimWorkers`."""

    def __init__(self) -> None:
        self.answers: list[Any] | None = None
        self.at = 0


class SimStore:
    """A sink's handle. Outside of `SimWorkers` its calls are carried out at once."""

    def __init__(self, files: Files, tape: Tape) -> None:
        self.files = files
        self._tape = tape

    def _call(self, name: str, *args: Any) -> Any:
        for path in args:
            if isinstance(path, str) and (path or name != "list"):
                parts = path.split("/")
                assert all(one not in ("", ".", "..") and "\0" not in one for one in parts), path
        if self._tape.answers is None:
            return getattr(self.files, name)(*args)
        if self._is_answered():
            answer = self._tape.answers[self._tape.at]
            self._tape.at += 1
            if isinstance(answer, Exception):
                raise answer
            return answer
        raise Wanted(self.files, name, args)

    def _is_answered(self) -> bool:
        return self._tape.answers is not None and self._tape.at < len(self._tape.answers)

    def write(self, path: str, chunks: Iterable[Buffer]) -> int:
        if self._is_answered():
            return int(self._call("write"))
        return int(self._call("write", path, b"".join(bytes(chunk) for chunk in chunks)))

    def move(self, source: str, target: str) -> Moved:
        return Moved(self._call("move", source, target))

    def replace(self, source: str, target: str) -> Moved:
        return Moved(self._call("replace", source, target))

    def make_parents(self, path: str) -> None:
        self._call("make_parents", path)

    def read(self, path: str, bytes_max: int | None = None) -> bytes | None:
        answer: bytes | None = self._call("read", path, bytes_max)
        return answer

    def length(self, path: str) -> int | None:
        answer: int | None = self._call("length", path)
        return answer

    def list(self, path: str) -> "list[Listed] | None":
        answer: list[Listed] | None = self._call("list", path)
        return answer

    def delete(self, path: str) -> bool:
        return bool(self._call("delete", path))

    def now_ms(self) -> int:
        return int(self._call("now_ms"))

    def where(self) -> str:
        return "simulated store"

    def close(self) -> None:
        pass


class SimWorkers:
    """In place of `tiers.sinks.workers.Workers`."""

    def __init__(self, boot: "Boot") -> None:
        self.boot = boot
        self.world = boot.node.world

    async def run(self, call: Callable[[], T]) -> T:
        answers: list[Any] = []
        seed = self.world.random.getrandbits(64)
        while True:
            try:
                return self._try(call, answers, seed)
            except Wanted as wanted:
                try:
                    answers.append(await self._perform(wanted))
                except (StoreUnavailable, StoreRefused) as error:
                    answers.append(error)

    def _try(self, call: Callable[[], T], answers: list[Any], seed: int) -> T:
        world, tape = self.world, self.boot.tape
        tape.answers, tape.at = answers, 0
        outer, world.chance_of_calls = world.chance_of_calls, random.Random(seed)
        try:
            return call()
        finally:
            tape.answers = None
            world.chance_of_calls = outer

    async def _perform(self, wanted: Wanted) -> Any:
        world, boot = self.world, self.boot
        weather = world.injector.of(boot.name)
        await asyncio.sleep(world.delay() * (100 if world.chance(weather.slow) else 1))
        if (left_s := weather.hangs_until_s - world.loop.time()) > 0:
            await self._hang(wanted, left_s)
        failing = weather.publish_fails and step_of(wanted) == "publish"
        if failing or weather.down or world.chance(weather.fails):
            weather.publish_fails = weather.publish_fails and not failing
            world.count("store call failed")
            raise StoreUnavailable("the simulated store is away")
        world.injector.stop_before(boot.node, wanted)
        await asyncio.sleep(0)
        late_publish = weather.late_publish and step_of(wanted) == "publish"
        if late_publish or world.chance(weather.late):
            weather.late_publish = weather.late_publish and not late_publish
            world.count("store call late")
            world.later(world.random.uniform(0.0, 12.0), world.carry_out, boot, wanted)
            raise StoreUnavailable("no answer yet")
        answer = world.carry_out(boot, wanted)
        if world.chance(weather.loses):
            world.count("store answer lost")
            raise StoreUnavailable("the answer was lost")
        await asyncio.sleep(world.delay())
        return answer

    async def _hang(self, wanted: Wanted, left_s: float) -> None:
        """The store is about to fail over: the call is carried out or not, and nobody tells."""
        world = self.world
        carried = world.chance(0.5)
        if carried:
            world.carry_out(self.boot, wanted)
        await asyncio.sleep(left_s)
        world.count("store answer lost" if carried else "store call failed")
        raise StoreUnavailable("the simulated store has failed over")

    def close(self, timeout_s: float) -> bool:
        return True
