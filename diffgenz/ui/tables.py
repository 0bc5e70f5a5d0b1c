"""Tables, numbers and bars for people. Times in ms, memory in GB, money in USD.

A table that is wider than the screen is made narrower step by step, each where the one before it
does not do: headers are broken into lines; columns that say the same in every row become a line
below; text in cells is broken; and what is left over is a further table, under the same first
columns. So nothing is left out, and no line is wider than the screen.
"""

import re
import textwrap
from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

from diffgenz.ui.terminal import columns as columns_of_screen
from diffgenz.ui.terminal import wrapped

_GAP = 2
"""Columns of space between those of a table."""

_LONGEST_BAR = 30

_SHORT = 16
"""Columns of text that no cell is broken for: "compute, memory" stays on one line."""


class _Column(NamedTuple):
    """A column of a table: its header, its cells, and the side that they go to, "l" or "r"."""

    header: str
    cells: tuple[str, ...]
    side: str

    @property
    def widest(self) -> int:
        """The width of its widest cell."""
        return max((_length(cell) for cell in self.cells), default=0)

    @property
    def natural(self) -> int:
        """The width that breaks nothing."""
        return max(_length(self.header), self.widest)

    @property
    def snug(self) -> int:
        """The least width that breaks the header only."""
        return max(*map(_length, _breakable(self.header).split() or [""]), self.widest, 1)

    @property
    def least(self) -> int:
        """The least width: longer text, which is on the left, is broken into some two lines."""
        if self.side == "r" or self.widest <= _SHORT:
            return self.snug
        words = [_length(word) for cell in (self.header, *self.cells) for word in cell.split()]
        return max(*words, ceil(self.widest / 2), 1) if words else 1

    @property
    def same(self) -> bool:
        """Whether it says the same in every one of several rows."""
        return len(self.cells) > 1 and len(set(self.cells)) == 1 and bool(self.header)


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    align: str = "",
    keys: int = 1,
    bars: Sequence[tuple[float, str]] = (),
    within: int | None = None,
) -> str:
    """Columns of text under a header, no wider than the screen.

    Arguments:
        header: what heads each column.
        rows: the cells, as many in each row as in the header.
        align: a letter for each of the first columns, "l" or "r"; the others go to the right.
            What goes to the left is text, which may be broken at its words.
        keys: how many of the first columns say which row it is; where the table is split, each
            part has them.
        bars: for each row a share (0 to 1) that a bar beside it shows, and what is said after it.
        within: the columns that it may have; None for those of the screen.
    """
    within = within or columns_of_screen()
    sides = align.ljust(len(header), "r")
    cells = list(zip(*rows, strict=True)) if rows else [()] * len(header)
    every = [_Column(*each) for each in zip(header, cells, sides, strict=True)]
    if bars:
        room = within - _span([column.snug for column in every]) - _GAP
        every.append(_bars(bars, room))
    some = every[:keys] + [column for column in every[keys:] if not column.same]
    folded = [_said(column) for column in every[keys:] if column.same and column.cells[0]]
    below = [wrapped(f"all rows: {'; '.join(folded)}")] if folded else []
    if _span([column.snug for column in every]) <= within:
        return _block(every, within)
    if len(some) > keys and _span([column.snug for column in some]) <= within:
        return "\n".join([_block(some, within), *below])
    if _span([column.least for column in every]) <= within:
        return _block(every, within)
    if len(some) == keys:
        some, below = every, []
    parts = [_block(part, within) for part in _parts(some, keys, within)]
    return "\n".join(["\n\n".join(parts), *below])


def _said(column: _Column) -> str:
    """What a column says in every row: "memory 80 GB" for "80" under "memory, GB".

    Under "memory GB of 85.5" it is "memory 80 GB of 85.5".
    """
    name, _, unit = re.sub(r" (?=\w+ of \d)", ", ", column.header).partition(", ")
    return f"{name} {column.cells[0]} {unit}".rstrip()


def _bars(bars: Sequence[tuple[float, str]], room: int) -> _Column:
    """A column of bars that takes the room there is, within reason."""
    width = min(_LONGEST_BAR, max(8, room - max(len(note) + 1 for _, note in bars)))
    return _Column("", tuple(f"{bar(share, width)} {note}".strip() for share, note in bars), "l")


def _length(text: str) -> int:
    """The columns that a text takes on a screen."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _span(widths: Sequence[int]) -> int:
    """The width of a table with columns of these widths."""
    return sum(widths) + _GAP * (len(widths) - 1)


def _parts(some: Sequence[_Column], keys: int, within: int) -> list[list[_Column]]:
    """Columns shared out among tables that fit, each with the keys."""
    first, parts = list(some[:keys]), []
    for column in some[keys:]:
        last = parts[-1] if parts else None
        if last is None or _span([each.least for each in (*last, column)]) > within:
            last = list(first)
            parts.append(last)
        last.append(column)
    return parts


def _block(some: Sequence[_Column], within: int) -> str:
    """One table, as wide as it likes to be if that fits."""
    from io import StringIO

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    widths = _widths(some, within)
    headers = [_header_lines(c.header, width) for c, width in zip(some, widths, strict=True)]
    most = max(map(len, headers))
    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, _GAP, 0, 0))
    for column, width in zip(some, widths, strict=True):
        grid.add_column(width=width, justify="left" if column.side == "l" else "right")
    lines = ["\n".join([""] * (most - len(each)) + each) for each in headers]
    rules = ["-" * width for width in widths]
    for row in (lines, rules, *zip(*(column.cells for column in some), strict=True)):
        grid.add_row(*(Text(cell, overflow="fold") for cell in row))
    out = StringIO()
    Console(
        file=out, width=_span(widths) + _GAP, color_system=None, legacy_windows=False, _environ={}
    ).print(grid)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip("\n").split("\n"))


def _widths(some: Sequence[_Column], within: int) -> list[int]:
    """The width of each column: headers are broken before cells, and cells before words."""
    widths = [column.natural for column in some]
    for floors in (
        [column.snug for column in some],
        [column.least for column in some],
        [1] * len(some),
    ):
        while _span(widths) > within:
            slack = [width - floor for width, floor in zip(widths, floors, strict=True)]
            if max(slack) <= 0:
                break
            widths[slack.index(max(slack))] -= 1
    return [_taken(column, width) for column, width in zip(some, widths, strict=True)]


def _taken(column: _Column, width: int) -> int:
    """What a column takes of the width that it is given: broken headers take less."""
    header = max(map(_length, _header_lines(column.header, width)))
    return min(width, max(header, column.widest, 1))


def _breakable(header: str) -> str:
    """A header with a space wherever it may be broken: before what it is per, but for "/s"."""
    return re.sub(r"/(?=[^/\s]{2})", "/ ", header)


def _header_lines(header: str, width: int) -> list[str]:
    """A header in lines no wider than a column."""
    if _length(header) <= width:
        return [header]
    lines = textwrap.wrap(_breakable(header), width, break_on_hyphens=False)
    return [line.replace("/ ", "/") for line in lines]


def number(value: float | None, digits: int = 3) -> str:
    """`value` with `digits` significant figures: 12,345, 1.23, 0.00123, 1.2e-06; "-" for None."""
    if value is None:
        return "-"
    if round(abs(value)) >= 10**digits:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def bar(share: float, width: int = 30) -> str:
    """A bar of `share` (0 to 1) of `width` characters, to an eighth of one."""
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
