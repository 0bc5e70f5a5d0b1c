"""Text with a unit at the boundary, plain SI numbers inside.

`parse("3.35 TB/s", "B/s")` is 3.35e12. A number without its unit, or with a unit that could be
misread (Gb/s for GB/s), is refused.
"""

import re

from diffgenz.core.errors import InputError

_PREFIX = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_SMALL = {"m": 1e-3, "u": 1e-6, "µ": 1e-6, "n": 1e-9, "p": 1e-12}

_UNITS: dict[str, dict[str, float]] = {
    "FLOP/s": {
        prefix + name: scale for prefix, scale in _PREFIX.items() for name in ("FLOP/s", "OP/s")
    },
    "B": {prefix + "B": scale for prefix, scale in (_PREFIX | _BINARY).items()},
    "B/s": {prefix + "B/s": scale for prefix, scale in (_PREFIX | _BINARY).items()},
    "s": {prefix + "s": scale for prefix, scale in ({"": 1.0} | _SMALL).items()},
    "W": {"mW": 1e-3, "W": 1.0, "kW": 1e3},
    "USD/s": {"USD/h": 1 / 3600, "USD/s": 1.0},
    "1": {"": 1.0},
}

_NUMBER = re.compile(r"\s*([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S*)\s*$")


def parse(text: object, unit: str, *, field: str = "value") -> float:
    """The number in SI that `text` states.

    Arguments:
        text: a number and a unit, such as "3.35 TB/s", "4 us", "80 GiB" or, for `unit` "1", "132".
        unit: the SI unit wanted: one of FLOP/s, B, B/s, s, W, USD/s, 1.
        field: what to call it in an error.

    Raises:
        InputError: no number, no unit, or a unit of something else.
    """
    units = _UNITS[unit]
    match = _NUMBER.match(text) if isinstance(text, str) else None
    if match is None:
        raise InputError(
            f'{field}: {text!r} is not a quantity; write text such as "{_example(unit)}"'
        )
    number, written = float(match[1].replace("_", "")), match[2]
    if written not in units:
        kind = "a count" if unit == "1" else unit
        problem = "has no unit"
        if written:
            problem = f"has the unit {written!r}, which is not one of {kind}"
        raise InputError(f'{field}: {text!r} {problem}; write it as in "{_example(unit)}"')
    return number * units[written]


def _example(unit: str) -> str:
    return {
        "FLOP/s": "989 TFLOP/s",
        "B": "80 GB",
        "B/s": "3.35 TB/s",
        "s": "2.5 us",
        "W": "700 W",
        "USD/s": "2.99 USD/h",
        "1": "132",
    }[unit]


def show(value: float, unit: str, digits: int = 3) -> str:
    """A number with its unit, and a prefix that keeps it between 1 and 1000.

    show(3.35e12, "B/s") is "3.35 TB/s".

    Arguments:
        value: in SI.
        unit: its SI unit.
        digits: significant digits.
    """
    if value == 0 or value != value or abs(value) == float("inf"):
        return f"{value:g} {unit}"
    steps = [
        (1e18, "E"),
        (1e15, "P"),
        (1e12, "T"),
        (1e9, "G"),
        (1e6, "M"),
        (1e3, "k"),
        (1.0, ""),
        (1e-3, "m"),
        (1e-6, "u"),
        (1e-9, "n"),
        (1e-12, "p"),
    ]
    size = abs(value) * (1 + 0.5 * 10.0**-digits)  # 999.9995 G is 1 T in four digits
    scale, prefix = next((step for step in steps if size >= step[0]), steps[-1])
    if prefix == "k" and unit == "s":
        scale, prefix = 1.0, ""
    return f"{value / scale:.{digits}g} {prefix}{unit}"
