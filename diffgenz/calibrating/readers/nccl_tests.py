"""Collectives as nccl-tests print them (NVIDIA/nccl-tests, BSD-3), and rccl-tests.

size is of the whole tensor, in bytes; time is in us. A file holds what one run of all_reduce_perf
or another test printed, with all ranks in one node: links between nodes are another level of the
network. What launchers and logs put before each line (ranks, hosts, times, colours) is passed over.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffgenz.calibrating.readers.collective_names import family_of
from diffgenz.calibrating.readers.reader import Layout
from diffgenz.calibrating.samples import Samples
from diffgenz.core.errors import InputError
from diffgenz.kernels.shapes import CollectiveShape

FORMATS = {
    "half": "fp16",
    "float": "fp32",
    "bfloat16": "bf16",
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8",
    "int8": "int8",
    "uint8": "int8",
}
"""Our formats by its type."""

HEADER = re.compile(r"^(.*?)#\s+(size\s+count\s+type\s.*\bbusbw\b.*)$", re.M)
"""The line that names the columns, and what a launcher put before it."""

REDUCTIONS = "sum|prod|max|min|avg|mulsum|none|all"
"""Words of the column redop, which no type is called."""

ROW = re.compile(
    rf"(?<![^\s:>|\])])\d+\s+\d+\s+(?!(?:{REDUCTIONS})\b)[a-z]\w*\s+(?:[a-z]+\s+)?-?\d.*$"
)
"""A row of the table, after what a launcher put before it: size, count, type, then times."""

BROKEN = re.compile(r"\s*\d+(?:\s+\d+(?:\s+[a-z]\w*(?:\s.*)?)?)?\s*")
"""What a row leaves that was cut off."""

RANK = re.compile(r"#\s+Rank\s+\d+(?:\s+Group\s+(\d+))?\s+Pid\s+\d+\s+on\s+(\S+)")
"""A line that says where a rank runs: its group of split ranks, if any, and its host."""

PROCESS = re.compile(r"^\s*(\d+:(?!\d)|\[(?:\S+@)?\d{1,5}(?:,\d+)?\]|\[pod/\S+\]|[A-Za-z]\S*\s+\|)")
"""What launchers put before a line of a process: "0:", "[1,0]", "[pod/name]", "host |"."""

COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""A code that colours text on a screen."""

FAILED = re.compile(r"Out of bounds values\s*:\s*(\d+)\s+FAILED")
"""The line that says how many results were wrong."""

LIBRARY = re.compile(r"nccl-library=(\d+)")
"""The library's version as one number: 22903 of 2.29.3."""


class Cell(NamedTuple):
    """One time of a row.

    Arguments:
        format: of the elements.
        place: "out-of-place" or "in-place".
        size: bytes of the whole tensor.
        us: time, in us.
        wrong: whether the test found wrong results.
    """

    format: str
    place: str
    size: float
    us: float
    wrong: bool


def collectives(path: Path) -> list[Samples]:
    """The samples of one run, by type, out of place and in place."""
    text = _plain(path.read_text(encoding="utf-8-sig", errors="replace"))
    start = re.search(r"Collective test starting:(.*)", text)
    family = family_of(start[1] if start else path.stem, path)
    if family is None:
        return []
    columns, rows = _table(text, path)
    ranks, cells = _ranks(text, path), _cells(columns, rows, path)
    failed = FAILED.search(text)
    if failed and not any(cell.wrong for cell in cells):
        raise InputError(
            f"{path}: 'Out of bounds values : {failed[1]} FAILED', and no row says which are "
            "wrong; run the test again, with a version that prints #wrong"
        )
    library = LIBRARY.search(text)
    version = int(library[1]) if library else 0
    numbers = f"{version // 10000}.{version // 100 % 100}.{version % 100}"
    source = f"nccl-{numbers}" if library else "nccl"
    found = []
    for format, place in dict.fromkeys((cell.format, cell.place) for cell in cells):
        those = [cell for cell in cells if (cell.format, cell.place) == (format, place)]
        size, us = np.array([cell.size for cell in those]), np.array([cell.us for cell in those])
        shape = CollectiveShape(np.full(len(those), float(ranks)), size)
        samples = Samples.of(family, format, source, place, shape, us * 1e-6)
        right = samples.only(~np.array([cell.wrong for cell in those]), "wrong results")
        found.append(right.only(right.shape.volume > 0, "no bytes"))
    return found


def _ranks(text: str, path: Path) -> int:
    ranks = RANK.findall(text)
    if not ranks:
        raise InputError(
            f"{path}: it has no lines '#  Rank  0 ...', which say how many ranks there are; "
            "keep all of what the test printed"
        )
    first = [host for group, host in ranks if group == ranks[0][0]]
    if len(set(first)) > 1:
        raise InputError(
            f"{path}: its ranks are on {len(set(first))} hosts; fits are of one node: "
            "run it within one (NCCL_TESTS_SPLIT, or one host)"
        )
    return len(first)


def _table(text: str, path: Path) -> tuple[list[str], list[list[str]]]:
    """The names of the columns of a log's one table, and the words of each row."""
    headers = list(HEADER.finditer(text))
    if len(headers) != 1:
        raise InputError(
            f"{path}: it has {len(headers)} table headers; give each run a file of its own"
        )
    before, names = headers[0].groups()
    # the same label with other numbers, such as a later time
    label = re.compile(re.sub(r"\d+", r"\\d+", re.escape(before)))
    rows, processes = [], set(PROCESS.findall(before))
    for line in text[headers[0].end() :].splitlines():
        row, start = ROW.search(line), label.match(line)
        if row:
            rows.append(row[0].split())
            processes |= set(PROCESS.findall(line[: row.start()]))
        elif start and BROKEN.fullmatch(line, start.end()):
            rows.append(line[start.end() :].split())
    if len(processes) > 1:
        raise InputError(
            f"{path}: its rows are of several processes ({', '.join(sorted(processes))}); "
            "give each process a file of its own"
        )
    if not rows:
        raise InputError(f"{path}: its table has no rows; did the test run to its end?")
    return names.split(), rows


def _plain(text: str) -> str:
    """A log without the codes that colour it on a screen."""
    return COLOUR.sub("", text)


def _cells(columns: list[str], rows: list[list[str]], path: Path) -> list[Cell]:
    """The times of all rows, which are the last columns of each.

    Versions differ in what stands between type and time (redop, root, blanks).
    """
    times = [at for at, name in enumerate(columns) if name == "time"]
    if not times:
        raise InputError(
            f"{path}: it has no column 'time'; "
            "run the test without -C, which reports the host's time"
        )
    found, measured = [], len(columns) - times[0]
    for words in rows:
        if len(words) > 2 and words[2] not in FORMATS:
            raise InputError(
                f"{path}: type: {words[2]!r} is not known; it is one of {', '.join(FORMATS)} (-d)"
            )
        blank = len(words) == 3 + measured and not words[3].isalpha()
        if len(words) != len(columns) and not blank:
            raise InputError(
                f"{path}: {' '.join(words)!r} has {len(words)} of the {len(columns)} columns of "
                "its table; is the file complete, and of one process?"
            )
        cells = words[-measured:]
        for place, at in zip(("out-of-place", "in-place"), times, strict=False):
            # earlier versions have the largest difference in this column
            error = at + 3
            counts = error < len(columns) and columns[error] == "#wrong"
            wrong = counts and cells[error - times[0]] not in ("0", "N/A")
            try:
                size, us = float(words[0]), float(cells[at - times[0]])
            except ValueError:
                raise InputError(
                    f"{path}: {' '.join(words)!r} has no {place} time; is the file complete?"
                ) from None
            found.append(Cell(FORMATS[words[2]], place, size, us, wrong))
    return found


LAYOUTS = (
    Layout(
        "nccl-tests (their output)",
        lambda path, beginning: HEADER.search(_plain(beginning)) is not None,
        collectives,
    ),
)
