"""Finds the class behind a `type`: our own by name, a third party's by entry point.

Modules are imported when a topology names them, not before: an edge never pays for HDFS.
"""

import importlib
from importlib.metadata import entry_points
from typing import Any

from tiers.errors import UsageError


def names(builtin: dict[str, str], group: str) -> list[str]:
    """Every `type` there is, sorted."""
    return sorted({*builtin, *(point.name for point in entry_points(group=group))})


def load(builtin: dict[str, str], group: str, name: str) -> Any:
    """The class registered as `name`. KeyError when there is none; UsageError when its
    package cannot be imported."""
    place = builtin.get(name)
    try:
        if place is not None:
            module, _, attribute = place.partition(":")
            return getattr(importlib.import_module(module), attribute)
        for point in entry_points(group=group, name=name):
            return point.load()
    except ImportError as error:
        raise UsageError(f"type {name!r} of {group} cannot be imported: {error}") from error
    raise KeyError(name)
