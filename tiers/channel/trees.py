"""The trees of a channel's file as they lie in it, for checks that LMDB does not make itself."""

from pathlib import Path
from typing import NamedTuple

from tiers.channel.salvage.pages import PageFile, databases


def tree_entries(file: Path) -> dict[str, int]:
    """How many entries each tree of the last commit has."""
    pages = PageFile(file)
    try:
        metas = pages.metas()
        trees = databases(pages, metas[0]) if metas else {}
        return {name: tree.entries for name, tree in trees.items()}
    finally:
        pages.close()


def misplaced(file: Path) -> list[tuple[str, int]]:
    """Database and page of each leaf with keys that a search would miss."""
    pages = PageFile(file)
    try:
        trees = databases(pages, metas[0]) if (metas := pages.metas()) else {}
        return [(name, page) for name, tree in trees.items() for page in pages.misplaced(tree)]
    finally:
        pages.close()


def taken_for_trees(file: Path) -> list[str]:
    """Databases with values that are marked as trees."""
    pages = PageFile(file)
    try:
        trees = databases(pages, metas[0]) if (metas := pages.metas()) else {}
        return [name for name, tree in trees.items() if any(n.is_tree for n in pages.walk(tree))]
    finally:
        pages.close()


class FileEnd(NamedTuple):
    """Where a file ends, in bytes; `needed` is asked for only where it `is_short`."""

    size: int
    is_short: bool  # of what its meta page says, by free pages or by more
    needed: int = 0  # the end of the last value


def file_end(file: Path) -> FileEnd:
    """Where the file ends, and where its values do."""
    pages = PageFile(file)
    try:
        metas = pages.metas()
        if not metas or metas[0].end <= pages.size:
            return FileEnd(pages.size, is_short=False)
        trees = databases(pages, metas[0]).values()
        ends = (node.offset + node.size for tree in trees for node in pages.walk(tree))
        return FileEnd(pages.size, is_short=True, needed=max(ends, default=0))
    finally:
        pages.close()
