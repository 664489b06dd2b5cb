"""Kinds of values on the command line."""

from pathlib import Path
from typing import Any, Final

import click

from tiers.host.path_names import parse_directory


class _Directory(click.ParamType[Path]):
    """As a topology file's: an empty variable in a unit file is not this directory."""

    name = "directory"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        try:
            return parse_directory(value)
        except ValueError as error:
            self.fail(f"wanted {error}", param, ctx)


DIRECTORY: Final = _Directory()
