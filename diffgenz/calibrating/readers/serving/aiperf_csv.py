"""profile_export_aiperf.csv and profile_export_genai_perf.csv: what the JSON says, as a table.

Two tables follow each other, of metrics with percentiles and of metrics with one value. Neither
says the model, the concurrency or the rate.
"""

import csv
import re
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError

_METRICS = {
    "timetofirsttoken": "time_to_first_token",
    "intertokenlatency": "inter_token_latency",
    "requestlatency": "request_latency",
    "inputsequencelength": "input_sequence_length",
    "outputsequencelength": "output_sequence_length",
    "outputtokenthroughput": "output_token_throughput",
    "requestthroughput": "request_throughput",
    "requestcount": "request_count",
    "errorrequestcount": "error_request_count",
}
_NAMED = re.compile(r"(?P<name>.*?)\s*(?:\((?P<unit>[^()]*)\))?")
_PERCENTILE = re.compile(r"p\d+")


def knows_header(line: str) -> bool:
    """Whether a CSV that begins with this line is such a table."""
    cells = [cell.strip().lower() for cell in line.split(",")]
    return cells[0] == "metric" and ("avg" in cells or cells[1:] == ["value"])


def as_json(path: Path) -> dict[str, Any]:
    """What the JSON of the same run would hold.

    Arguments:
        path: the table.

    Raises:
        InputError: it cannot be read, or lacks the throughput of requests.
    """
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path.name}: cannot be read: {error}") from None
    found: dict[str, Any] = {"input_config": {}}
    header: list[str] = []
    for line in lines:
        cells = [cell.strip() for cell in line]
        if not any(cells):
            continue
        if cells[0].lower() == "metric":
            header = [cell.lower().replace("value", "avg") for cell in cells]
            continue
        match = _NAMED.fullmatch(cells[0])
        assert match is not None  # any text is a name
        name = _METRICS.get(re.sub("[^a-z]", "", match["name"].lower()))
        if name is None:
            continue
        values = {
            key: value.replace(",", "")
            for key, value in zip(header, cells, strict=False)
            if value and (key == "avg" or _PERCENTILE.fullmatch(key))
        }
        found[name] = {"unit": match["unit"] or "", **values}
    if "request_throughput" not in found:
        raise InputError(
            f"{path.name}: Request Throughput: there is no such metric; give the file as the tool "
            "wrote it"
        )
    return found
