"""Text with a unit at the boundary, plain SI numbers inside.

`parse("3.35 TB/s", "B/s")` is 3.35e12. Quantities are read as datasheets spell them: "376 TFLOPS",
"1,979 teraFLOPS", "350W", "HBM3e 8 TB/s". A number without its unit, or with a unit that could be
misread (Gb/s for GB/s), is refused.
"""

import re

from diffgenz.core.errors import InputError

_PREFIX = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_SMALL = {"m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12}

_BYTES = {prefix + "B": scale for prefix, scale in (_PREFIX | _BINARY).items()} | {
    prefix + "bit": scale / 8 for prefix, scale in (_PREFIX | _BINARY).items()
}

_UNITS: dict[str, dict[str, float]] = {
    "FLOP/s": {
        prefix + name: scale for prefix, scale in _PREFIX.items() for name in ("FLOP/s", "OP/s")
    },
    "B": _BYTES,
    "B/s": {f"{name}/s": scale for name, scale in _BYTES.items()},
    "s": {prefix + "s": scale for prefix, scale in ({"": 1.0} | _SMALL).items()},
    "W": {"mW": 1e-3, "W": 1.0, "kW": 1e3},
    "USD/s": {"USD/h": 1 / 3600, "USD/s": 1.0},
    "USD": {"USD": 1.0},
    "Hz": {"Hz": 1.0, "MHz": 1e6, "GHz": 1e9},
    "mm2": {"mm2": 1.0},
    "1": {"": 1.0},
}

_EXAMPLES = {
    "FLOP/s": "989 TFLOP/s",
    "B": "80 GB",
    "B/s": "3.35 TB/s",
    "s": "2.5 us",
    "W": "700 W",
    "USD/s": "2.99 USD/h",
    "USD": "3320 USD",
    "Hz": "1830 MHz",
    "mm2": "814 mm2",
    "1": "132",
}

_QUANTITY = re.compile(
    r"""\s*(?P<number>[+-]?
        (?:[1-9]\d{0,2}(?:,\d{3})+(?!\d)(?:\.\d*)?  # 1,979 or 1,978.9
        |\d[\d_]*\.?\d*|\.\d+)
        (?:[eE][+-]?\d+)?)
        \s*(?P<unit>.*?)\s*""",
    re.VERBOSE,
)
_MEMORY = re.compile(r"\b(?:HBM|GDDR|LPDDR|DDR)\d?[A-Za-z]{0,2}\b", re.IGNORECASE)
_LONG_PREFIXES = {
    "kilo": "k",
    "mega": "M",
    "giga": "G",
    "tera": "T",
    "peta": "P",
    "exa": "E",
    "milli": "m",
    "micro": "u",
    "nano": "n",
    "pico": "p",
}
_SPELLINGS = [  # what people write, and what `_UNITS` calls it; applied in this order
    (re.compile(r"[\u00b5\u03bc]"), "u"),  # micro sign, and the Greek letter
    (re.compile(r"\s*/\s*|\s*\bper\s+"), "/"),
    (
        re.compile(rf"^({'|'.join(_LONG_PREFIXES)})(?=[a-z])", re.IGNORECASE),
        lambda match: _LONG_PREFIXES[match[1].lower()],
    ),
    (re.compile(r"\$"), "USD"),
    (re.compile(r"/(?:sec|second)$"), "/s"),
    (re.compile(r"/(?:hr|hour)$"), "/h"),
    (re.compile(r"^([munp]?)(?:secs?|seconds?)$"), r"\1s"),
    (re.compile(r"^([mk]?)watts?$", re.IGNORECASE), r"\1W"),
    (re.compile(r"[Bb]ytes?(?=/|$)"), "B"),
    (re.compile(r"bits?(?=/|$)"), "bit"),
    (re.compile(r"Bps$"), "B/s"),
    (
        re.compile(r"^([kmgtpe]?)((?:fl)?op)(?:s|s?/s)(?:\s+dense)?$", re.IGNORECASE),
        lambda match: f"{match[1].upper()}{match[2].upper()}/s",
    ),
]
_BITS_OR_BYTES = re.compile(r"^(?P<prefix>[kKmMgGtTpP]i?)b(?P<rate>/s|ps)?$")


def parse(text: object, unit: str, *, field: str = "value") -> float:
    """The number in SI that `text` states.

    Arguments:
        text: a number and a unit, such as "3.35 TB/s", "4 us", "80 GiB" or, for `unit` "1", "132".
            The name of a memory may stand beside bytes: "HBM3e 8 TB/s".
        unit: the SI unit wanted: one of FLOP/s, B, B/s, s, W, USD/s, USD, Hz, mm2, 1.
        field: what to call it in an error.

    Raises:
        InputError: no number, no unit, a unit of something else, or a unit that is bits to one
            reader and bytes to another.
    """
    bare = text if isinstance(text, str) else ""
    if unit in ("B", "B/s"):
        bare = _MEMORY.sub(" ", bare)
    if unit == "USD/s":
        bare = re.sub(r"^\s*(?:\$|USD)\s*([\d.,]+)", r"\1 USD", bare)
    match = _QUANTITY.fullmatch(bare)
    if match is None:
        raise InputError(
            f'{field}: {text!r} is not a quantity; write text such as "{_EXAMPLES[unit]}"'
        )
    written = match["unit"]
    for spelling, name in _SPELLINGS:
        written = spelling.sub(name, written)
    if written not in _UNITS[unit]:
        raise InputError(f"{field}: {text!r} {_misread(match['number'], match['unit'], unit)}")
    return float(re.sub("[_,]", "", match["number"])) * _UNITS[unit][written]


def _misread(number: str, written: str, unit: str) -> str:
    """What is wrong with a unit, and what to write instead."""
    example = f'write it as in "{_EXAMPLES[unit]}"'
    if not written:
        return f"has no unit; {example}"
    if written.startswith(","):
        return f"has a decimal comma; write a point, and commas between thousands only; {example}"
    if unit == "FLOP/s" and re.search(r"\*|spars", written, re.IGNORECASE):
        return f"is a figure with sparsity; write the dense one, usually half of it; {example}"
    if unit == "FLOP/s" and re.fullmatch(r"[kMGTPE]?(FL)?OP", written):
        return f'counts operations and has no "/s"; {example}'
    ambiguous = _BITS_OR_BYTES.match(written)
    if ambiguous and unit in ("B", "B/s"):
        rate = "/s" if unit == "B/s" else ""
        if bool(ambiguous["rate"]) == bool(rate):
            prefix = ambiguous["prefix"][0].upper() + ambiguous["prefix"][1:]
            return (
                f"has the unit {written!r}, which some write for bits and some for bytes; write "
                f'"{number} {prefix}bit{rate}" for bits, an eighth of "{number} {prefix}B{rate}" '
                "for bytes"
            )
    kind = "a count" if unit == "1" else unit
    return f"has the unit {written!r}, which is not one of {kind}; {example}"


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
        (1e-12, "p"),
        (1e-9, "n"),
        (1e-6, "u"),
        (1e-3, "m"),
        (1.0, ""),
        (1e3, "k"),
        (1e6, "M"),
        (1e9, "G"),
        (1e12, "T"),
        (1e15, "P"),
        (1e18, "E"),
    ]
    below = (step for step in steps if float(f"{abs(value) / step[0]:.{digits}g}") < 1000)
    scale, prefix = next(below, steps[-1])  # rounded first: 999.7 GB/s is 1 TB/s
    if prefix not in ("", "m", "u", "n", "p") and unit == "s":
        scale, prefix = 1.0, ""
    if abs(value) / scale >= 10**digits:
        return f"{value / scale:,.0f} {prefix}{unit}"
    return f"{value / scale:.{digits}g} {prefix}{unit}"
