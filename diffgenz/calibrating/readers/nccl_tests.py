"""Collectives as nccl-tests print them (NVIDIA/nccl-tests, BSD-3), and rccl-tests.

size is of the whole tensor, in bytes; time is in us. A file holds what one run of all_reduce_perf
or another test printed, with all ranks in one node: links between nodes are another level of the
network.
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
HEADER = re.compile(r"^#\s+(size\s+count\s+type\s.*\bbusbw\b.*)$", re.M)
ROW = re.compile(r"^\s*\d+\s+\d+\s+[a-z]\w*\s.*$", re.M)
RANK = re.compile(r"^#\s+Rank\s+\d+(?:\s+Group\s+(\d+))?\s+Pid\s+\d+\s+on\s+(\S+)", re.M)
LIBRARY = re.compile(r"nccl-library=(\d+)")


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
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    start = re.search(r"Collective test starting:(.*)", text)
    family = family_of(start[1] if start else path.stem, path)
    if family is None:
        return []
    ranks, cells = _ranks(text, path), _cells(text, path)
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


def _cells(text: str, path: Path) -> list[Cell]:
    headers = HEADER.findall(text)
    if len(headers) != 1:
        raise InputError(
            f"{path}: it has {len(headers)} table headers; give each run a file of its own"
        )
    columns = headers[0].split()
    times = [at for at, name in enumerate(columns) if name == "time"]
    if not times:
        raise InputError(
            f"{path}: it has no column 'time'; "
            "run the test without -C, which reports the host's time"
        )
    found = []
    for line in ROW.findall(text[text.index(headers[0]) :]):
        words = line.split()
        if words[2] not in FORMATS:
            raise InputError(
                f"{path}: type: {words[2]!r} is not known; it is one of {', '.join(FORMATS)} (-d)"
            )
        for place, at in zip(("out-of-place", "in-place"), times, strict=False):
            try:
                # earlier versions have the largest difference in this column
                counts = columns[at + 3] == "#wrong"
                wrong = counts and words[at + 3] not in ("0", "N/A")
                size, us = float(words[0]), float(words[at])
                found.append(Cell(FORMATS[words[2]], place, size, us, wrong))
            except (ValueError, IndexError):
                raise InputError(
                    f"{path}: {' '.join(words)!r} has no {place} time; is the file complete?"
                ) from None
    if not found:
        raise InputError(f"{path}: its table has no rows; did the test run to its end?")
    return found


LAYOUTS = (
    Layout(
        "nccl-tests (their output)",
        lambda path, beginning: HEADER.search(beginning) is not None,
        collectives,
    ),
)
