"""CSV files and .npy arrays.

A CSV with a header has a row for each token and layer: `layer`, `token`, and `experts` ("3 17 60"),
or `expert_0`, `expert_1`, ...; or a row for each choice, with `expert`. `request`, `phase`,
`domain`, `step` and `weights` may stand beside. With `count` instead of `token`, it counts
(layer, expert, count), as SGLang's older recorder did. Without a header, or with one that only
numbers the experts, it is a matrix of counts [layers, experts]; a first column may number the
layers. An array in .npy holds counts [layers, experts] or [steps, layers, experts], or
chosen experts [tokens, layers, k].
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.routing.readers.archive import BROKEN, broken
from diffgenz.routing.readers.reader import Asked, Reader, experts_of, routed
from diffgenz.routing.readers.recorder import counts_of
from diffgenz.routing.readers.rows import Rows
from diffgenz.routing.trace import PREFILL, Counts, Trace

COLUMNS = {
    "layer": ("layer", "layer_id", "layer_idx"),
    "token": ("token", "token_id", "token_idx", "position"),
    "experts": ("experts", "expert_ids", "topk_ids", "chosen"),
    "expert": ("expert", "expert_id"),
    "count": ("count", "counts", "tokens", "load"),
    "request": ("request", "request_id", "req_id"),
    "phase": ("phase",),
    "domain": ("domain", "category", "task"),
    "step": ("step", "forward_pass_id"),
    "weights": ("weights", "topk_weights"),
}
"""How columns are called."""


def knows_csv(path: Path) -> bool:
    """Whether it is text with commas or tabs."""
    return path.suffix in (".csv", ".tsv", ".txt")


def read_csv(path: Path, asked: Asked) -> Iterator[Trace | Counts]:
    """The tokens, or the counts, of a CSV file.

    Raises:
        InputError: columns are missing, or a cell is not a number.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            sample = file.readline()
            file.seek(0)
            split = max(",;\t", key=sample.count)
            cells = csv.reader(file, delimiter=split, skipinitialspace=True)
            header = [cell.strip().lower() for cell in next(cells, [])]
            if not header:
                raise InputError(f"{path}: is empty; give rows of layer, token, experts")
            named = re.fullmatch("|layer(s|_id|_idx)?|index", header[0]) is not None
            if _numbered(header[named:]):
                yield _matrix(path, cells, asked, named)
            elif all(_is_number(cell) for cell in header):
                file.seek(0)
                yield _matrix(path, cells, asked)
            elif _place(header, "count") is not None and _place(header, "token") is None:
                yield _long(path, header, cells, asked)
            else:
                yield from _tokens(path, header, cells, asked)
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not text in UTF-8; save it as CSV") from None


def _place(header: list[str], field: str) -> int | None:
    """Where a column stands."""
    return next((header.index(name) for name in COLUMNS[field] if name in header), None)


def _cells(cell: str) -> list[str]:
    """The numbers in a cell such as "3 17", "3;17" or "[3, 17]"."""
    return re.split(r"[^\w.+-]+", cell.strip("[]() "))


def _is_number(cell: str) -> bool:
    """Whether a cell is a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbered(header: list[str]) -> bool:
    """Whether cells number experts: 0, 1, 2, ..., or expert_0, expert_1, ..."""
    numbers = [re.fullmatch(r"(?:e|expert)?[_ ]?(\d+)", cell) for cell in header]
    return len(header) > 1 and [m and int(m[1]) for m in numbers] == list(range(len(header)))


def _matrix(path: Path, cells: Iterator[list[str]], asked: Asked, named: bool = False) -> Counts:
    """A matrix of counts [layers, experts].

    Arguments:
        path: of the file.
        cells: its rows.
        asked: what people say of it.
        named: whether the first cell of each row is the layer's index.
    """
    rows = [row for row in cells if row]
    if not rows:
        raise InputError(f"{path}: has no rows; give a row of counts for each layer")
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        raise InputError(f"{path}: rows have {min(lengths)} to {max(lengths)} cells; give each all")
    try:
        values = np.array(rows, np.float64)
    except ValueError as error:
        raise InputError(f"{path}: {error}; a matrix of counts has numbers only") from None
    try:
        if not named:
            return counts_of(values, asked)
        layers = values[:, 0].astype(np.int64)
        if np.any(layers < 0) or np.any(layers != values[:, 0]) or np.any(np.diff(layers) <= 0):
            told = ", ".join(row[0] for row in rows[:6])
            raise InputError(f"layers {told} are no ascending indices; give 0, 1, ...")
        return counts_of(values[:, 1:], asked, layers)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _long(path: Path, header: list[str], cells: Iterator[list[str]], asked: Asked) -> Counts:
    """Counts by layer and expert."""
    places = [_place(header, name) for name in ("layer", "expert", "count")]
    if None in places:
        raise InputError(f"{path}: has columns {', '.join(header)}; counts have layer,expert,count")
    try:
        found = np.array([[float(row[p or 0]) for p in places] for row in cells if row])
    except (IndexError, ValueError) as error:
        raise InputError(f"{path}: {error}; each row has layer, expert and count") from None
    if not len(found):
        raise InputError(f"{path}: has no rows; give layer,expert,count")
    index = found[:, :2].astype(np.int64)
    if np.any(index < 0) or np.any(index != found[:, :2]):
        raise InputError(f"{path}: a layer or expert is no whole number from 0")
    experts = experts_of(index[:, 1].reshape(-1, 1, 1), asked)
    if index[:, 1].max() >= experts:
        raise InputError(f"{path}: expert {index[:, 1].max()} is out of range; there are {experts}")
    layers, place = np.unique(index[:, 0], return_inverse=True)
    counts = np.zeros((1, len(layers), experts))
    np.add.at(counts[0], (place, index[:, 1]), found[:, 2])
    return counts_of(counts, asked, layers)


def _tokens(
    path: Path, header: list[str], cells: Iterator[list[str]], asked: Asked
) -> Iterator[Trace]:
    """The tokens of rows of (layer, token, experts)."""
    place = {field: _place(header, field) for field in COLUMNS}
    several = [i for i, name in enumerate(header) if re.fullmatch(r"(expert|topk|k)_?\d+", name)]
    if place["layer"] is None or place["token"] is None:
        raise InputError(f"{path}: has columns {', '.join(header)}; give layer, token, experts")
    if place["experts"] is None and place["expert"] is None and not several:
        raise InputError(f"{path}: has columns {', '.join(header)}; give experts beside them")
    rows, pending = Rows(), dict[tuple[str, ...], list[int]]()
    for number, row in enumerate(cells, 2):
        if not row:
            continue
        try:

            def cell(field: str, row: list[str] = row) -> Any:
                where = place[field]
                return None if where is None else row[where].strip()

            step = cell("step")
            named: dict[str, Any] = {
                "layer": int(cell("layer")),
                "token": int(cell("token")),
                "request": cell("request") or "",
                "phase": cell("phase"),
                "domain": cell("domain"),
                "step": None if step in (None, "") else int(step),
            }
            if place["experts"] is None and not several:  # a row for each choice
                key = tuple(str(value) for value in named.values())
                pending.setdefault(key, []).append(int(cell("expert")))
                continue
            ids = [row[i] for i in several] or _cells(cell("experts"))
            weights = _cells(cell("weights")) if cell("weights") else None
            rows.add(
                experts=[int(i) for i in ids],
                weights=None if weights is None else [float(w) for w in weights],
                **named,
            )
        except InputError as error:
            raise InputError(f"{path}: line {number}: {error}") from None
        except (IndexError, ValueError, OverflowError) as error:
            raise InputError(
                f"{path}: line {number}: {error}; each row has layer, token and experts, as whole "
                "numbers: the file may end too early"
            ) from None
    for key, ids in pending.items():
        layer, token, request, phase, domain, step = (None if v == "None" else v for v in key)
        try:
            rows.add(
                layer=int(layer or 0),
                token=int(token or 0),
                experts=ids,
                request=request or "",
                phase=phase,
                domain=domain,
                step=None if step is None else int(step),
            )
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    yield from rows.traces(path, asked)


def knows_npy(path: Path) -> bool:
    """Whether it begins as .npy files do."""
    if path.suffix == ".npy":
        return True
    with path.open("rb") as file:
        return file.read(6) == b"\x93NUMPY"


def read_npy(path: Path, asked: Asked) -> Iterator[Trace | Counts]:
    """The counts, or the chosen experts, of an array.

    Raises:
        InputError: it is damaged, pickled, or of another shape.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except BROKEN as error:
        if "pickle" in str(error) or "Python objects" in str(error):
            raise InputError(
                f"{path}: holds pickled objects, which are not read; save an array of numbers"
            ) from None
        raise broken(path, error) from None
    if array.ndim not in (2, 3) or array.dtype.kind not in "iuf":
        raise InputError(
            f"{path}: has shape {list(array.shape)} of {array.dtype}; counts are [layers, experts] "
            "or [steps, layers, experts], chosen experts [tokens, layers, k]"
        )
    if array.ndim == 3 and _are_ids(array):
        chosen, layers, kept = routed(np.asarray(array).astype(np.int64))
        yield Trace(
            experts=experts_of(chosen, asked),
            layers=tuple(map(int, layers)),
            chosen=chosen,
            request=np.zeros(int(kept.sum()), np.int32),
            phase=np.full(int(kept.sum()), PREFILL),
            model=asked.model,
        )
        return
    yield counts_of(np.asarray(array, np.float64), asked)


def _are_ids(array: np.ndarray) -> bool:
    """Whether numbers are chosen experts, not counts.

    In counts, all layers of a step sum to the same: its tokens times k. Ids differ within a row.
    """
    if array.dtype.kind == "f" or array.shape[2] > 32 or not array.size:
        return False
    if array.shape[2] == 1:
        return True
    some = np.asarray(array[:1000]).astype(np.int64)
    sums = some.sum(axis=2)
    if array.shape[1] > 1 and np.all(sums == sums[:, :1]):
        return False
    ordered = np.sort(some, axis=2)
    return not np.any((ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] > 0))


READERS = (
    Reader("a table in CSV", knows_csv, read_csv),
    Reader("an array in .npy", knows_npy, read_npy),
)
