"""What a layout is: how its files begin, and the function that reads them."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from diffgenz.calibrating.samples import Samples

BEGINNING = 65536
"""Characters of a file that tell its layout; logs may begin with a page of other output."""


class Layout(NamedTuple):
    """One kind of file.

    Arguments:
        name: what people call it.
        knows: whether a file of a path and a beginning is of this kind.
        read: the samples of a file, in s and bytes.
    """

    name: str
    knows: Callable[[Path, str], bool]
    read: Callable[[Path], list[Samples]]


def has(*columns: str) -> Callable[[Path, str], bool]:
    """A test for `Layout.knows`: whether the header of a CSV file has these columns."""

    def knows(path: Path, beginning: str) -> bool:
        header = next(csv.reader(beginning.splitlines()[:1]), [])
        return set(columns) <= {name.strip() for name in header}

    return knows


def beginning(path: Path) -> str:
    """The first `BEGINNING` characters of a file, which need not be text."""
    with path.open(encoding="utf-8-sig", errors="replace", newline=None) as file:
        return file.read(BEGINNING)
