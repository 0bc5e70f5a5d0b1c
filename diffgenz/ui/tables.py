"""Text for people: aligned tables and bars. Times in ms, memory in GB, money in USD."""

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str = "") -> str:
    """Columns of text under a header.

    Arguments:
        header: what heads each column.
        rows: the cells, as many in each row as in the header.
        align: a letter for each of the first columns, "l" or "r"; the others go to the right.
    """
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        sides = align.ljust(len(cells), "r")
        return "  ".join(
            cell.ljust(width) if side == "l" else cell.rjust(width)
            for cell, width, side in zip(cells, widths, sides, strict=True)
        ).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, rows)])


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
