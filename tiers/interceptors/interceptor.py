"""The keys that every interceptor has. One file in this room is one interceptor (`Interceptor` in
contracts); a line in `BUILTIN` (or an entry point in the group `tiers.interceptors`) registers
it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tiers.core.block import Block


class InterceptorOptions(BaseModel):
    """The keys that every interceptor has. `type` chooses the class."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    type: str
    name: str = ""  # default: the type; unique among those that a block comes through
    on_error: Literal["pass", "drop", "dead"] = "pass"

    def header_names(self, before: frozenset[str]) -> frozenset[str]:
        """Names of the headers that a block may have after it, of those that it may have before:
        for checking paths."""
        return before


def with_headers(block: Block, headers: Mapping[str, str], overwrite: bool) -> Block:
    """The block with these headers, too; `overwrite`: also where it has such already."""
    there = block.headers
    merged = {**there, **headers} if overwrite else {**headers, **there}
    return replace(block, headers=merged)
