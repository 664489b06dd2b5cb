"""What a search of the commit protocol is to find."""

from dataclasses import replace

from tests.search.commit import Search, World
from tests.search.explorer import Found, search


def holds(world: Search) -> Found[World]:
    """Everything was searched; nothing is wrong, and all can finish."""
    found = search(world)
    print(found)
    assert found.whole and not found.wrong and not found.stuck
    return found


def is_seen(world: Search, limit: int) -> None:
    """A rule that is left out does harm within so many states."""
    found = search(replace(world), limit=limit, live=False)
    print(found)
    assert found.wrong
