"""The `remove` interceptor: takes headers away."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field, field_validator, model_validator

from tiers.contracts import InterceptorContext
from tiers.core.block import Block
from tiers.interceptors.interceptor import InterceptorOptions


class RemoveOptions(InterceptorOptions):
    """Keys of a `remove` interceptor in the topology file."""

    headers: tuple[str, ...] = Field(
        default=(), description="Names of the headers that are taken away"
    )
    matching: str = Field(default="", max_length=1000)  # Those too whose whole name this matches

    @field_validator("matching")
    @classmethod
    def _is_pattern(cls, matching: str) -> str:
        try:
            re.compile(matching)
        except re.error as error:
            raise ValueError(f"a regular expression ({error})") from error
        return matching

    @model_validator(mode="after")
    def _removes_something(self) -> "RemoveOptions":
        if not self.headers and not self.matching:
            raise ValueError("`headers`, `matching` or both")
        return self

    def keeps(self, name: str) -> bool:
        matched = self.matching and re.fullmatch(self.matching, name)
        return name not in self.headers and not matched

    def header_names(self, before: frozenset[str]) -> frozenset[str]:
        return frozenset(filter(self.keeps, before))


class Remove:
    Options: ClassVar[type[InterceptorOptions]] = RemoveOptions

    def __init__(self, options: RemoveOptions, context: InterceptorContext) -> None:
        self._keeps = options.keeps

    def apply(self, block: Block) -> Sequence[Block]:
        headers = {name: value for name, value in block.headers.items() if self._keeps(name)}
        return [replace(block, headers=headers)]
