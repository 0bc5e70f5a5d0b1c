"""What a layout is: how its files begin, and the reader of them."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from diffgenz.calibrating.samples import Samples

BEGINNING = 65536
"""Characters of a file that tell its layout: logs may begin with a page of other output."""


class Layout(NamedTuple):
    """One kind of file.

    Arguments:
        name: for people. knows: whether a file of that path and beginning is one. read: its samples, in s and B.
    """

    name: str
    knows: Callable[[Path, str], bool]
    read: Callable[[Path], list[Samples]]


def has(*columns: str) -> Callable[[Path, str], bool]:
    """Knows a CSV file by columns in its header."""

    def knows(path: Path, beginning: str) -> bool:
        header = next(csv.reader(beginning.splitlines()[:1]), [])
        return set(columns) <= {name.strip() for name in header}

    return knows


def beginning(path: Path) -> str:
    """The first characters of a file; of one that is no text, whatever they are."""
    with path.open(encoding="utf-8-sig", errors="replace", newline=None) as file:
        return file.read(BEGINNING)
