"""The `tail` source as an agent runs it: keys, thread, watch, the way into the intake.

What happens to files and what is done then is in `following.py` and `matching.py`. While a block is
put, the next one is read.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, Final, Literal

from pydantic import Field, field_validator

from tiers.contracts import Intake
from tiers.core.batch import HEADER_BYTES_MAX
from tiers.core.block import NOTHING, Block
from tiers.core.progress import Work
from tiers.errors import ChannelDamaged
from tiers.sources import globs
from tiers.sources.source import OwnHeader, SourceOptions
from tiers.sources.tail.following import Following
from tiers.sources.tail.generation import unpack
from tiers.sources.tail.ours import Identity
from tiers.sources.tail.step import Advance, FollowOptions
from tiers.sources.tail.walk import absolute
from tiers.sources.tail.watching import Watching
from tiers.units import Duration, show_size

_WATCHED_MAX: Final = 2000  # directories; more are looked at every `rescan` only
_SHOWN_MAX: Final = 20  # files in status
_WOKEN_MAX: Final = 10_000  # paths that changed; with more, all are looked at


class TailOptions(SourceOptions):
    """Keys of a `tail` source in the topology file."""

    paths: tuple[str, ...] = Field(min_length=1)  # globs; `**` for any directories
    start: Literal["beginning", "end"] = "beginning"  # of files there when the source is new
    # Time between looks at all files, beside the watch.
    rescan: Duration = Field(default=1.0, ge=0.001, le=3600)
    rotate_wait: Duration = 5.0  # a renamed or deleted file is done when quiet for so long
    open_files_max: int = Field(default=1000, ge=1, le=1_000_000)
    file_header: OwnHeader = None  # name of a header that carries the file's path
    follow_links: bool | None = None  # None: links whose owner is root, or owns the target too

    @field_validator("paths")
    @classmethod
    def _may_be_read(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        if told := [f"{path!r} {why}" for path in paths if (why := globs.wrong(path))]:
            raise ValueError(f"paths or globs of files ({'; '.join(told)})")
        return paths

    def reads(self) -> tuple[str, ...]:
        return tuple(os.path.abspath(path) for path in self.paths)  # noqa: PTH100

    def subject(self, position: bytes) -> str:
        try:
            path = unpack(b"", position).path
        except ChannelDamaged:
            return ""
        return path if any(absolute(pattern).matches(path) for pattern in self.paths) else ""

    def header_names(self) -> frozenset[str]:
        own = frozenset() if self.file_header is None else frozenset((self.file_header,))
        return frozenset(self.headers) | own


class Tail:
    """Puts whole lines as bytes, each block with the position that it ends at."""

    Options: ClassVar[type[SourceOptions]] = TailOptions

    def __init__(self, options: TailOptions) -> None:
        self._options = options
        self._following: Following | None = None
        self._draining = False
        self._wake = asyncio.Event()
        self._woken: set[str] = set()
        self._look = False
        self._watched: dict[str, Identity] = {}
        self._watch_anew = asyncio.Event()
        self._watching: Watching | None = None
        self._looks = 0  # at all files
        self._trouble = ""
        self._watch_trouble = ""
        self._said = self._remarked = ""

    def drain(self) -> None:
        self._draining = True
        self._wake.set()

    def status(self) -> dict[str, object]:
        following = self._following
        files = list(following.files.values()) if following else []
        behind = sorted(files, key=lambda file: -file.behind)[:_SHOWN_MAX]
        return {
            "files": len(files),
            "open": sum(file.opened is not None for file in files),
            "backlog_bytes": sum(file.behind for file in files),
            "watched_directories": len(self._watched),
            "behind": {_text(file.path): file.behind for file in behind},
            "problems": [
                {"text": _text(problem.text), "since": int(problem.since_s * 1000)}
                for problem in (following.problems.all() if following else [])[:_SHOWN_MAX]
            ],
        }

    def unread_bytes(self) -> int:
        following = self._following
        return sum(file.unread for file in list(following.files.values())) if following else 0

    def work(self) -> Mapping[str, Work]:
        following = self._following
        if following is None:
            return {"": Work("a first look at all files is due", 0)}
        due = {
            _text(file.now): Work(f"{show_size(unread)} unread", file.offset)
            for file in list(following.files.values())
            if (unread := file.unread)
        }
        if following.is_look_due(time.monotonic()):
            due[""] = Work("a look at all files is due", self._looks)
        return due

    async def run(self, intake: Intake) -> None:
        options = self._options
        self._following = Following(
            FollowOptions(
                patterns=options.paths,
                start_at_end=options.start == "end",
                rescan_s=options.rescan,
                rotate_wait_s=options.rotate_wait,
                open_files_max=options.open_files_max,
                block_size_max=intake.block_size_max,
                event_size_max=intake.event_size_max,
                follow_links=options.follow_links,
                not_below=intake.written,
                retention_s=intake.retention_s,
            ),
            intake.positions,
        )
        # One thread: files are worked on by nobody else, and in order.
        with_files = ThreadPoolExecutor(1, thread_name_prefix=f"tail {options.name}")
        watch = asyncio.create_task(self._watch())
        try:
            await self._follow(self._following, with_files, intake)
        finally:
            watch.cancel()
            self._following.stop()
            with_files.submit(self._following.close)
            with_files.shutdown(wait=False)
            await asyncio.gather(watch, return_exceptions=True)

    async def _follow(
        self, following: Following, thread: ThreadPoolExecutor, intake: Intake
    ) -> None:
        loop = asyncio.get_running_loop()

        def advance() -> asyncio.Future[tuple[Advance, dict[str, Identity] | None]]:
            woken, self._woken = self._woken, set()
            look, self._look = self._look, False
            self._wake.clear()
            draining = self._draining

            def work() -> tuple[Advance, dict[str, Identity] | None]:
                step = following.advance(time.monotonic(), woken, look, draining)
                return step, following.directories(_WATCHED_MAX) if step.looked else None

            return loop.run_in_executor(thread, work)

        ahead = advance()
        while True:
            step, directories = await ahead
            self._report(step, directories, intake)
            if step.block or step.positions:
                ahead = advance()
                await self._put(step, intake)
            elif step.finished:
                return
            else:
                await self._pause(step.wake_at)
                ahead = advance()

    async def _put(self, step: Advance, intake: Intake) -> None:
        headers, found = self._options.headers, step.block
        if found is None:
            await intake.put(NOTHING, step.positions)
            return
        if (name := self._options.file_header) is not None:
            headers = {**headers, name: _header(found.path)}
        block = Block(found.data, found.count, headers)
        await intake.put(block, {**step.positions, found.key: found.position})

    async def _pause(self, until: float) -> None:
        if self._draining:
            return
        try:
            async with asyncio.timeout(max(until - time.monotonic(), 0)):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _report(
        self, step: Advance, directories: dict[str, Identity] | None, intake: Intake
    ) -> None:
        for counter, by in step.counts.items():
            if by:
                intake.count(counter, by)
        lost = self._watching is not None and self._watching.lost
        if directories is not None and (lost or directories != self._watched):
            self._watched = directories
            self._watch_anew.set()
        self._looks += step.looked
        self._trouble = step.trouble
        said = self._trouble or self._watch_trouble
        if said != self._said:
            self._said = said
            intake.trouble(said)
        if step.remark != self._remarked:
            self._remarked = step.remark
            intake.remark(step.remark)

    async def _watch(self) -> None:
        """Wake up when something changes. Only to be quick: every `rescan` all is looked at."""
        self._watching = watching = Watching(self._changed)
        try:
            while True:
                await self._watch_anew.wait()
                self._watch_anew.clear()
                try:
                    await watching.watch(self._watched)
                    self._watch_trouble = ""
                except OSError as error:
                    self._watch_trouble = (
                        f"cannot watch directories (files are looked at every "
                        f"{self._options.rescan:g} s): {error}"
                    )
                # What changed before this watch stood is looked at.
                self._changed(set(), names=True)
        finally:
            watching.close()

    def _changed(self, paths: set[str], names: bool) -> None:
        """Files at `paths` were written to; with `names` there may be other files now."""
        self._woken |= paths
        if len(self._woken) > _WOKEN_MAX:
            self._woken.clear()
            names = True
        self._look |= names
        self._wake.set()


def _text(path: str) -> str:
    return os.fsencode(path).decode(errors="replace")


def _header(path: str) -> str:
    """A path as a header: UTF-8, and its last bytes if it is longer than a header may be."""
    text = _text(path).encode()
    if len(text) > HEADER_BYTES_MAX:
        text = text[-HEADER_BYTES_MAX:]
    return text.decode(errors="ignore")
