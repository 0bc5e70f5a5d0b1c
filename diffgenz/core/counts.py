"""Numbers as people type them: 4096, 4k, 1e3, 32,768, 128_000.

Of tokens, k is 1024 and M is 1024 k, as in "a context of 128k". Of anything else a k may be 1000 or
1024 and is refused. Nothing here imports JAX, so that `--help` is quick.
"""

import re

from diffgenz.core.errors import InputError

_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?")
_SUFFIXED = re.compile(r"(?P<number>.*\d\.?)\s*(?P<suffix>[kKmMgG]i?)")
_TOKENS = {"k": 1024, "m": 1024**2}


def real(text: str) -> float:
    """The number that a text states: "0.5", "1e3", "1,500", "128_000".

    Arguments:
        text: the number, with commas between thousands only, and without a unit.

    Raises:
        InputError: it is no number, or ends in a k, M or G.
    """
    number = _plain(text)
    if number is not None:
        return number
    suffixed = _SUFFIXED.fullmatch(text.strip())
    if suffixed and _plain(suffixed["number"]) is not None:
        raise InputError(
            f"{text!r} is ambiguous: {suffixed['suffix']} may count in thousands or in 1024s; "
            "write all digits, or 1e3 for a thousand"
        )
    raise InputError(f"invalid float value: {text!r}")


def whole(text: str, *, tokens: bool = False) -> int:
    """The whole number that a text states: "4096", "1e3", "32,768", "128_000", "4k" of tokens.

    Arguments:
        text: the number, with commas between thousands only.
        tokens: whether it counts tokens, of which 4k is 4096 and 1M is 1,048,576.

    Raises:
        InputError: it is no whole number, or ends in a k, M or G that does not count tokens.
    """
    suffixed = _SUFFIXED.fullmatch(text.strip())
    scale = _TOKENS.get(suffixed["suffix"].lower()) if suffixed and tokens else None
    number = _plain(text)
    if suffixed and scale is not None:
        number = _plain(suffixed["number"])
        number = None if number is None else number * scale
    elif suffixed and number is None and _plain(suffixed["number"]) is not None:
        real(text)  # says that it is ambiguous
    if number is None or number != number or abs(number) == float("inf") or number % 1:
        raise InputError(f"invalid int value: {text!r}")
    digits = text.strip().replace(",", "")
    try:
        return int(digits)  # exact, however long
    except ValueError:
        return int(number)


def _plain(text: str) -> float | None:
    """The number of a text without a suffix; None where it is none."""
    bare = text.strip()
    if _GROUPED.fullmatch(bare):
        bare = bare.replace(",", "")
    try:
        return float(bare)
    except ValueError:
        return None
