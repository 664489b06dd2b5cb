"""Who changes or drops events before they are in any batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from tiers.core.block import Block


@dataclass(frozen=True, slots=True)
class InterceptorContext:
    """Where the events come in."""

    agent: str
    host: str  # name of the machine


class Interceptor(Protocol):
    """What changes or drops events before they are in any batch. It holds nothing back: what joins
    lines to one event is framing, and the source's. One is made for each source, at each start of
    that; it may keep counters."""

    Options: ClassVar[type[Any]]  # of InterceptorOptions

    def __init__(self, options: Any, context: InterceptorContext) -> None: ...

    def apply(self, block: Block) -> Sequence[Block]:
        """What becomes of it, in order; nothing where it is dropped. Blocks of one source come in
        turn, in a thread; their headers are not to be changed. Of what it raises see `on_error`."""
