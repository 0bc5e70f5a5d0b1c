"""Logs of requests: when each arrived, and how long its prompt and its answer were.

A log is a CSV file with a header, or one JSON object per line. Columns are known by the names that
public traces give them: Azure's (`TIMESTAMP, ContextTokens, GeneratedTokens`), BurstGPT's
(`Timestamp, Request tokens, Response tokens`), Vidur's (`arrived_at, num_prefill_tokens,
num_decode_tokens`) and Mooncake's (`timestamp` in ms, `input_length`, `output_length`, `hash_ids`).
"""

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffgenz.core.errors import InputError

_ARRIVAL = "arrival arrivals arrivaltime arrivalseconds arrivedat timestamp time seconds"
_PROMPT = "prompttokens prompts prompt inputtokens inputlength contexttokens requesttokens"
_OUTPUT = "outputtokens outputs output outputlength generatedtokens responsetokens"
NAMES = {
    "arrival": tuple(_ARRIVAL.split()),
    "prompt tokens": (*_PROMPT.split(), "numprefilltokens"),
    "output tokens": (*_OUTPUT.split(), "numdecodetokens", "completiontokens"),
}
"""What columns are called, in small letters and digits."""

_MILLISECONDS = "hashids"
"""A column that only logs have whose times are in ms."""

_REST = re.compile("[^a-z0-9]")
_SAYS = "give arrival (seconds, or a date), prompt_tokens and output_tokens"


class Requests(NamedTuple):
    """The requests of a log, in its order.

    Arguments:
        arrivals: s after the first one; shape (requests,).
        prompts: tokens of each prompt, at least 1; shape (requests,).
        outputs: tokens of each answer, at least 1; shape (requests,).
    """

    arrivals: np.ndarray
    prompts: np.ndarray
    outputs: np.ndarray


def read_requests(path: str | Path, most: int | None = None) -> Requests:
    """The requests of a log.

    Arguments:
        path: a CSV file with a header, or a file with a JSON object on each line.
        most: how many to read, from the beginning of the file; None: all.

    Raises:
        InputError: a file that cannot be read, that lacks a column, or that has no requests; a
            line without a number, a time before 1970 or below 0, or less than one token.
    """
    place = Path(path)
    try:
        text = place.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{place}: cannot be read ({_reason(error)}); give a text file") from None
    found: list[tuple[float, float, float]] = []
    rows = _json_rows if text.lstrip()[:1] == "{" else _csv_rows
    for line, row in rows(text, place):
        if most is not None and len(found) == most:
            break
        found.append(_request(row, f"{place}, line {line}"))
    if not found:
        raise InputError(f"{place}: no requests; {_SAYS} of each, on a line each")
    arrivals, prompts, outputs = np.array(found).T
    return Requests(arrivals - arrivals.min(), prompts, outputs)


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return "no UTF-8" if isinstance(error, UnicodeDecodeError) else str(error.strerror)


def _csv_rows(text: str, place: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Lines and their cells by name."""
    reader = csv.reader(text.splitlines(keepends=True))
    try:
        names = [_plain(name) for name in next(reader, [])]
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, dict(zip(names, cells, strict=False))
    except csv.Error as error:
        raise InputError(f"{place}, line {reader.line_num}: no CSV ({error})") from None


def _json_rows(text: str, place: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise InputError(f"{place}, line {number}: no JSON object; give one on each line")
        yield number, {_plain(name): value for name, value in row.items()}


def _plain(name: str) -> str:
    return _REST.sub("", name.casefold())


def _request(row: Mapping[str, Any], place: str) -> tuple[float, float, float]:
    """Arrival and tokens of one line."""
    arrival, prompt, output = (_cell(row, what, place) for what in NAMES)
    seconds = _seconds(arrival, place) / (1e3 if _MILLISECONDS in row else 1)
    return (
        seconds,
        _tokens(prompt, "prompt tokens", place),
        _tokens(output, "output tokens", place),
    )


def _cell(row: Mapping[str, Any], what: str, place: str) -> Any:
    for name in NAMES[what]:
        if name in row:
            return row[name]
    known = ", ".join(row) or "nothing"
    raise InputError(f"{place}: {what}: no such column among {known}; {_SAYS}")


def _number(cell: Any) -> float:
    """A finite number; NaN for what is none."""
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        return math.nan
    try:
        found = float(cell)
    except (ValueError, OverflowError):
        return math.nan
    return found if math.isfinite(found) else math.nan


def _tokens(cell: Any, what: str, place: str) -> float:
    found = _number(cell)
    if not (found >= 1 and found == int(found)):
        raise InputError(
            f"{place}: {what}: {cell!r} is no whole number of at least 1; leave out requests that "
            "failed"
        )
    return found


def _seconds(cell: Any, place: str) -> float:
    """Of a number of seconds, or of a date."""
    found = _number(cell)
    if math.isnan(found) and isinstance(cell, str):
        try:
            date = datetime.fromisoformat(cell.strip())
            found = date.replace(tzinfo=date.tzinfo or UTC).timestamp()
        except (ValueError, OverflowError):
            pass
    if not found >= 0:
        raise InputError(
            f"{place}: arrival: {cell!r} is neither seconds of at least 0 nor a date such as "
            "2023-11-16 18:15:46.68"
        )
    return found
