"""Fields of the files of serving benchmarks: numbers, counts, and distributions in ms."""

import re
from collections.abc import Mapping
from typing import Any

from diffgenz.calibrating.readers.serving.benchmark import Latency
from diffgenz.core.errors import InputError

_ABSENT = ("", "none", "null")
"""What stands for nothing, in small letters."""

_STATISTIC = re.compile(r"(?:p(?P<percentile>\d+(?:\.\d+)?)|(?P<name>mean|avg|median))")


class Fields:
    """The fields of one run, by name.

    Arguments:
        place: the file and the row, for messages.
        raw: the fields.
    """

    def __init__(self, place: str, raw: Mapping[str, Any]):
        self.place, self.raw = place, raw

    def text(self, *names: str) -> str:
        """The first of some fields that holds a text; "" where none does."""
        values = (self.raw.get(name) for name in names)
        return next((value.strip() for value in values if isinstance(value, str)), "")

    def number(self, *names: str) -> float | None:
        """The first of some fields that holds something, as a number; None where none does.

        Raises:
            InputError: it is no finite number.
        """
        for name in names:
            value = self.raw.get(name)
            if not _is_absent(value):
                return self.as_number(name, value)
        return None

    def count(self, *names: str) -> int | None:
        """The same as a whole number, at least 0."""
        value = self.number(*names)
        if value is not None and (value < 0 or value % 1):
            raise InputError(
                f"{self.place}: {names[0]}: {value:g} is no count; run the benchmark again"
            )
        return None if value is None else int(value)

    def flag(self, name: str) -> bool:
        """Whether a field is true, as JSON, Python and shells spell it."""
        return str(self.raw.get(name)).strip().lower() in ("true", "1", "yes")

    def as_number(self, name: str, value: Any) -> float:
        """A value as a finite number.

        Raises:
            InputError: it is none.
        """
        try:
            number = float("nan" if isinstance(value, bool) else value)
        except (TypeError, ValueError):
            number = float("nan")
        if number != number or abs(number) == float("inf"):
            raise InputError(
                f"{self.place}: {name}: {value!r} is no finite number; run the benchmark again"
            )
        return number

    def rate(self, name: str, *endless: str) -> float | None:
        """Requests/s; None where they come as soon as others are done.

        Arguments:
            name: the field.
            endless: what it holds then, beside infinity and null.
        """
        return None if self.is_endless(name) or self.raw.get(name) in endless else self.number(name)

    def is_endless(self, name: str) -> bool:
        """Whether a rate of requests is infinite: all are sent at once, up to a concurrency."""
        return str(self.raw.get(name)).strip().lower() in ("inf", "infinity")

    def per_request(self, total: str) -> float | None:
        """A total over the requests that completed; None where either is unknown, or none did."""
        completed, tokens = self.count("completed"), self.number(total)
        return None if not completed or tokens is None else tokens / completed

    def latency(self, name: str, ending: str = "", scale: float = 1e-3) -> Latency:
        """The distribution in fields such as mean_ttft_ms, median_ttft_ms and p99_ttft_ms.

        Arguments:
            name: of what was measured: "ttft".
            ending: of the names: "_ms".
            scale: s of 1.
        """
        found = {
            match["percentile"] or match["name"]: self.raw[key]
            for key in self.raw
            if (match := re.fullmatch(f"{_STATISTIC.pattern}_{re.escape(name + ending)}", key))
        }
        return self.distribution(name, found, scale)

    def distribution(self, name: str, statistics: Mapping[str, Any], scale: float) -> Latency:
        """The distribution of statistics called mean or avg, median, and p50 or 50."""
        mean, percentiles = None, {}
        for key, value in statistics.items():
            match = _STATISTIC.fullmatch(key) or re.fullmatch(r"(?P<percentile>[\d.]+)", key)
            if _is_absent(value) or match is None:
                continue
            number = self.as_number(f"{name} {key}", value)
            if number < 0:
                raise InputError(
                    f"{self.place}: {name} {key}: {number:g} is no time; run the benchmark again"
                )
            seconds = scale * number
            percentile = match["percentile"]
            if percentile is not None:
                percentiles[float(percentile)] = seconds
            elif key == "median":
                percentiles[50.0] = seconds
            else:
                mean = seconds
        return Latency(mean, percentiles)


def _is_absent(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in _ABSENT)
