"""How rows of agents look: a table of rich's, or plain lines where there is no terminal."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tiers.observe.rows import HEADINGS, Row, cells, show_condition, show_peer

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_LEFT = 3  # columns of words; those after them are numbers


def agents_table(rows: Sequence[Row], title: str = "") -> "Table":
    """One line per agent, its peers and its error beneath each other in the last column."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, title_justify="left", expand=False)
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if number < _LEFT else "right", no_wrap=True)
    table.add_column("peers; last error", overflow="fold")
    for row in rows:
        last = Text("\n").join(_notes(row))
        # Text and not str: what an agent says must not be read as rich's markup.
        words = [Text(cell) for cell in cells(row)]
        words[2].stylize("green" if row.healthy else "red")
        table.add_row(*words, last)
    return table


def _notes(row: Row) -> "list[Text]":
    from rich.text import Text

    notes = [Text(show_peer(peer)) for peer in row.peers]
    notes += [Text(line) for line in _told(row)]
    notes += [Text(f"{name} {count:,}", "yellow") for name, count in row.dropped]
    notes += [Text(line, "yellow" if row.healthy else "red") for line in _matters(row)]
    return notes


def agents_lines(rows: Iterable[Row]) -> list[str]:
    """The same without colour or frames, columns aligned, for files and pipes."""
    rows = list(rows)
    grid = [HEADINGS, *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in grid) for column in range(len(HEADINGS))]
    lines = [_aligned(HEADINGS, widths)]
    for row in rows:
        lines.append(_aligned(cells(row), widths))
        lines += [f"    {show_peer(peer)}" for peer in row.peers]
        lines += [f"    {line}" for line in _told(row)]
        lines += [f"    {name} {count:,}" for name, count in row.dropped]
        lines += [f"    ! {line}" for line in _matters(row)]
    return lines


def _told(row: Row) -> list[str]:
    return [*row.flagged, *row.behind, *filter(None, (row.file,))]


def _matters(row: Row) -> list[str]:
    """What is the matter, a line each; where nothing is, the last thing that was."""
    told = [show_condition(one) for one in row.conditions] or [row.error]
    return [line for text in told for line in text.splitlines()]


def row_line(row: Row) -> str:
    """One agent in one line."""
    if row.state == "unreachable":
        return f"{row.agent}: {row.error}"
    error = f"; {row.error}" if row.error else ""
    return (
        f"{row.agent}: {row.state}, {row.events_in} events in, {row.events_out} out, "
        f"{row.queued_events} queued{error}"
    )


def row_object(row: Row) -> dict[str, Any]:
    """For `--json`."""
    from dataclasses import asdict

    return asdict(row)


def _aligned(words: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        word.ljust(width) if number < _LEFT else word.rjust(width)
        for number, (word, width) in enumerate(zip(words, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()
