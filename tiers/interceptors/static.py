"""The `static` interceptor: headers that are the same for all events."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from tiers.contracts import InterceptorContext
from tiers.core.block import Block
from tiers.interceptors.interceptor import InterceptorOptions, with_headers


class StaticOptions(InterceptorOptions):
    """Keys of a `static` interceptor in the topology file."""

    headers: Mapping[str, str] = Field(
        min_length=1, description='Set on all events: `{ dc = "ams" }`'
    )
    overwrite: bool = True  # A header of that name that is there already

    def header_names(self, before: frozenset[str]) -> frozenset[str]:
        return before | self.headers.keys()


class Static:
    Options: ClassVar[type[InterceptorOptions]] = StaticOptions

    def __init__(self, options: StaticOptions, context: InterceptorContext) -> None:
        self._headers = dict(options.headers)
        self._overwrite = options.overwrite

    def apply(self, block: Block) -> Sequence[Block]:
        return [with_headers(block, self._headers, self._overwrite)]
