"""Tables of commands: fitted to the terminal's width there, plain lines elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

# Longer words are folded where the width requires it.
_WORD = 20
_GAP = 2
# In plain lines a longer cell moves the rest of its row and no other row.
_PLAIN_CELL = 40
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\dZ")
# By column, or name of a field, and the first word of the cell.
_COLOURS = {
    ("passed", "yes"): "green",
    ("passed", "no"): "red",
    ("passed", "no,"): "yellow",
    ("state", "held"): "yellow",
    ("state", "success"): "green",
    ("state", "failed"): "red",
    ("phase", "ready"): "green",
    ("phase", "backoff"): "red",
}


@dataclass(frozen=True)
class Table:
    """Rows of text, as they are shown to people.

    Attributes
    ----------
    columns : tuple of str
        Empty for a table of fields, whose rows are names and values.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def colour(self, row: Sequence[str], index: int) -> str:
        """The colour of a cell; empty for most."""
        name = self.columns[index] if self.columns else (row[0] if index else "")
        return _COLOURS.get((name, row[index].partition(" ")[0]), "")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table with a header."""
    return Table(title, tuple(columns), tuple(tuple(map(cell_text, row)) for row in rows))


def fields(title: str, values: Mapping[str, Any]) -> Table:
    """A table of names and values."""
    return Table(title, (), tuple((name, cell_text(value)) for name, value in values.items()))


def cell_text(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        value = [f"{name}: {cell_text(item)}" for name, item in value.items()]
    if isinstance(value, list | tuple):
        return "\n".join(cell_text(item) for item in value) or "-"
    return str(value)


def plain_lines(shown: Table) -> list[str]:
    """Lines without frames, padding at their ends or folded cells."""
    rows = [shown.columns, *shown.rows] if shown.columns else list(shown.rows)
    if not shown.columns:
        rows = [part for row in rows for part in _field_lines(row)]
    cells = [[cell.replace("\n", "; ") for cell in row] for row in rows]
    widths = [min(max(map(len, column)), _PLAIN_CELL) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    return [shown.title, *lines, *(["none"] if not shown.rows else []), ""]


def _field_lines(row: Sequence[str]) -> list[tuple[str, str]]:
    name, value = row
    first, *rest = value.split("\n")
    return [(name, first), *(("", line) for line in rest)]


def render(shown: Table, width: int) -> RenderableType:
    """A table for a terminal; rows become fields where columns would be too narrow to read."""
    from rich.console import Group
    from rich.text import Text

    rows = [tuple(_TIME.sub(_to_minute, cell) for cell in row) for row in shown.rows]
    if not shown.columns:
        rows = list(shown.rows)
    title = Text(shown.title, "bold")
    if not rows:
        return Group(title, Text("none\n"))
    widths = _widths([shown.columns, *rows] if shown.columns else rows, width)
    if widths:
        return Group(title, _grid(shown, rows, widths), Text())
    blocks = [fields("", dict(zip(shown.columns, row, strict=True))) for row in rows]
    return Group(title, *(render(block, width) for block in blocks))


def _to_minute(match: re.Match[str]) -> str:
    day, minute = match.groups()
    return day if minute == "00:00" else f"{day} {minute}"


def _widths(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Widths of the columns; empty where their words do not fit into the terminal's width."""
    columns = list(zip(*(row for row in rows if row), strict=True))
    widest = [max(len(line) for cell in cells for line in cell.split("\n")) for cells in columns]
    least = [
        min(max((len(word) for cell in cells for word in cell.split()), default=1), _WORD)
        for cells in columns
    ]
    room = width - _GAP * (len(columns) - 1) - sum(least)
    if room < 0 and len(columns) > 2:
        return []
    # The columns that need least get all of it, so that few cells are folded.
    for index in sorted(range(len(columns)), key=lambda i: widest[i] - least[i]):
        added = max(min(widest[index] - least[index], room), 0)
        least[index] += added
        room -= added
    return least


def _grid(shown: Table, rows: Sequence[Sequence[str]], widths: Sequence[int]) -> RenderableType:
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=bool(shown.columns))
    headers = shown.columns or ("",) * len(widths)
    for header, width in zip(headers, widths, strict=True):
        grid.add_column(Text(header, "bold"), width=width, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell, shown.colour(row, i)) for i, cell in enumerate(row)))
    return grid
