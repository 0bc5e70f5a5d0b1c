"""Runs that send all requests at once, or as a trace says: their requests as a log, to replay."""

from typing import Any

import numpy as np

from diffgenz.calibrating.readers.serving.fields import Fields
from diffgenz.serving.request_log import Requests


def burst_of(fields: Fields) -> Requests | None:
    """The requests of a run without a rate and without a concurrency; None where it has either.

    Where the file has details of each request (`input_lens`, `output_lens`, `start_times`), they
    are those; else all are alike and arrive together.

    Arguments:
        fields: of a run of `vllm bench serve`, or of SGLang's bench_serving.
    """
    count = fields.count("completed")
    limit = fields.number("max_concurrency")
    if not count or limit is not None or not fields.is_endless("request_rate"):
        return None
    lengths = []
    for each, total in (
        ("input_lens", "total_input_tokens"),
        ("output_lens", "total_output_tokens"),
    ):
        mean = fields.per_request(total)
        known = _numbers(fields.raw.get(each), count)
        if known is None and mean is None:
            return None
        tokens = np.full(count, mean) if known is None else known
        lengths.append(np.maximum(np.round(tokens), 1.0))
    sent = _numbers(fields.raw.get("start_times"), count)
    arrivals = np.zeros(count) if sent is None else sent - sent.min()
    return Requests(arrivals, *lengths)


def _numbers(values: Any, count: int) -> np.ndarray | None:
    """A list of so many finite numbers; None where it is another one, or none."""
    if not isinstance(values, list) or len(values) != count:
        return None
    if not all(isinstance(value, int | float) for value in values):
        return None
    found = np.array(values, float)
    return found if np.isfinite(found).all() else None
