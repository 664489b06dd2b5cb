"""The `host` interceptor: on which machine events came in."""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from tiers.contracts import InterceptorContext
from tiers.core.block import Block
from tiers.interceptors.interceptor import InterceptorOptions, with_headers


class HostOptions(InterceptorOptions):
    """Keys of a `host` interceptor in the topology file."""

    header: str = Field(default="host", min_length=1)  # The header that is set
    overwrite: bool = True  # A header of that name that is there already

    def header_names(self, before: frozenset[str]) -> frozenset[str]:
        return before | {self.header}


class Host:
    Options: ClassVar[type[InterceptorOptions]] = HostOptions

    def __init__(self, options: HostOptions, context: InterceptorContext) -> None:
        self._header = {options.header: context.host}
        self._overwrite = options.overwrite

    def apply(self, block: Block) -> Sequence[Block]:
        return [with_headers(block, self._header, self._overwrite)]
