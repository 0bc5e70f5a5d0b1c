"""A CSV file as columns of text, read without pandas."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffgenz.core.counts import real
from diffgenz.core.errors import InputError

_EMPTY = {"", "nan", "na", "n/a", "null", "none"}
"""What stands, in small letters, where a cell is empty."""


@dataclass(frozen=True)
class CsvTable:
    """Rows of text under a header.

    Arguments:
        path: the file, for messages.
        columns: the cells of each column without blanks around them, "" where one is empty; texts
            of shape (rows,).
        lines: the number of each row in the file, counted from 1 below the header; (rows,).
    """

    path: Path
    columns: dict[str, np.ndarray]
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.lines)

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def words(self, name: str) -> np.ndarray:
        """A column as text; "" everywhere where there is no such column."""
        return self.columns.get(name, np.full(len(self), "", object))

    def where(self, which: np.ndarray) -> "CsvTable":
        """The rows where `which`, booleans (rows,), is true."""
        columns = {name: cells[which] for name, cells in self.columns.items()}
        return CsvTable(self.path, columns, self.lines[which])

    def filled(self, name: str, text: str) -> "CsvTable":
        """The table with `text` in the empty cells of a column, if it has that column."""
        if name not in self:
            return self
        cells = np.where(self.columns[name] == "", text, self.columns[name])
        return CsvTable(self.path, self.columns | {name: cells}, self.lines)

    def numbers(self, name: str) -> np.ndarray:
        """A column as float64.

        Raises:
            InputError: a value is empty or no finite number; the message names column, value and
                row.
        """
        found = np.empty(len(self))
        for index, cell in enumerate(self.words(name)):
            try:
                found[index] = real(cell)
            except ValueError:
                found[index] = np.nan
            if not np.isfinite(found[index]):
                what = f"{str(cell)!r} is no number" if cell else "it is empty"
                raise InputError(
                    f"{self.path}: column {name!r}, row {self.lines[index]}: {what}; "
                    "fill it in, or leave the row out"
                )
        return found


def read_csv(path: Path) -> CsvTable:
    """The table in a CSV file with a header, in UTF-8.

    Lines without any cell are left out, and rows may end early: their last cells are empty.

    Raises:
        InputError: it cannot be read, a column is there twice, or a row has more cells than the
            header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    header = [name.strip() for name in rows[0]] if rows else []
    for name in header:
        if header.count(name) > 1:
            raise InputError(f"{path}: column {name!r} is there twice; keep one of them")
    kept, lines = [], []
    for line, row in enumerate(rows[1:], 1):
        cells = [cell.strip() for cell in row]
        if any(cells[len(header) :]):
            raise InputError(
                f"{path}: row {line} has {len(cells)} cells under {len(header)} columns; "
                'put quotes around a cell with a comma: "1,024"'
            )
        if any(cells):
            cells += [""] * (len(header) - len(cells))
            kept.append(["" if cell.lower() in _EMPTY else cell for cell in cells])
            lines.append(line)
    columns = {
        name: np.array([row[index] for row in kept], object) for index, name in enumerate(header)
    }
    return CsvTable(path, columns, np.array(lines, int))
