"""What takes long between a source and its channel, in threads: interceptors and compression."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tiers.core.batch import Buffer, Envelope, Unnumbered
from tiers.core.block import Block
from tiers.core.codecs import PART_BYTES, compressor, joined
from tiers.core.entry.cutting import Cut
from tiers.interceptors.chain import Chain, Passed

T = TypeVar("T")


class Press:
    """One compressor for each thread; shared by an agent's sources."""

    def __init__(self, codec: str, level: int, threads: int = 2) -> None:
        self._by = (codec, level)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="press")
        self._local = threading.local()
        self._closed = False

    def work_by(self, codec: str, level: int) -> None:
        """From the next batch on."""
        self._by = (codec, level)

    def press(
        self, cuts: Sequence[Cut], origin: bytes, sealed_ms: int
    ) -> "asyncio.Future[list[Unnumbered]]":
        """A batch of each, sealed but for its number; cancelled once this is closed."""
        return self._run(lambda: self._press_all(cuts, origin, sealed_ms))

    def intercept(self, chain: Chain, blocks: Sequence[Block]) -> "asyncio.Future[list[Passed]]":
        """What becomes of each block, in order; cancelled once this is closed."""
        return self._run(lambda: [chain.apply(block) for block in blocks])

    def _run(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        loop = asyncio.get_running_loop()
        if self._closed:
            never: asyncio.Future[T] = loop.create_future()
            never.cancel()
            return never
        return loop.run_in_executor(self._pool, call)

    def _press_all(self, cuts: Sequence[Cut], origin: bytes, sealed_ms: int) -> list[Unnumbered]:
        return [self._press(cut, origin, sealed_ms) for cut in cuts]

    def _press(self, cut: Cut, origin: bytes, sealed_ms: int) -> Unnumbered:
        by = self._by
        if getattr(self._local, "by", None) != by:
            self._local.compress, self._local.by = compressor(*by), by
        compress: Callable[[Buffer], bytes] = self._local.compress
        envelope = Envelope(
            origin=origin,
            seq=0,
            count=cut.count,
            size=cut.size,
            headers=cut.headers,
            sealed=sealed_ms,
            time=cut.bucket_ms,
            framing=cut.framing,
            codec=by[0],
        )
        return Unnumbered(envelope, b"".join(map(compress, joined(cut.blocks, PART_BYTES))))

    def close(self) -> None:
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
