"""The word `routing`: a routing from the text that people write, or from a file of its numbers.

uniform                       all experts are equally popular
power-law:0.5                 popularity as i**-0.5 (`PowerLaw`)
numbers.toml, numbers.json    fields of `Traced` by name; an array has one for each kind of
                              layers with experts; tables prefill and decode have those of a phase

rows = 1.8                    # rows of the fullest rank / mean
far = 0.73                    # copies of a token to other nodes / those of uniform routing
note = "placed by co-activation"
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.core.files import read_toml
from diffgenz.operators.phases import PerPhase
from diffgenz.operators.routing import PowerLaw, Routing, StepRouting, Uniform, traced

UNIFORM = "uniform"
POWER_LAW = "power-law"

_PHASES = {"prefill", "decode"}


def read_routing(text: str) -> Routing:
    """The routing that a text names, or that the file at this path describes.

    Raises:
        InputError: it names none and no file, or the file is not one of a routing.
    """
    name, _, rest = text.partition(":")
    if text == UNIFORM:
        return Uniform()
    if name == POWER_LAW:
        try:
            spread = float(rest)
        except ValueError:
            raise InputError(
                f"--routing: {text!r} has no exponent; write {POWER_LAW}:0.5"
            ) from None
        return PowerLaw(spread)
    path = Path(text)
    if path.suffix not in _READERS or not path.is_file():
        raise InputError(
            f"--routing: {text!r} is neither {UNIFORM}, {POWER_LAW}:SPREAD nor a file "
            f"({' or '.join(_READERS)}) of numbers such as rows, far and wire"
        )
    return _traced(path, _READERS[path.suffix](path))


def _traced(path: Path, told: Any) -> Routing:
    """The routing whose numbers a file has."""
    if isinstance(told, dict) and not _PHASES.isdisjoint(told):
        other = sorted(told.keys() - _PHASES)
        if other or not told.keys() >= _PHASES:
            raise InputError(
                f"{path}: has {', '.join(told)}; write tables prefill and decode, and nothing else"
            )
        prefill, decode = (_of_step(path, told[phase]) for phase in ("prefill", "decode"))
        try:
            return PerPhase(prefill, decode)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    return _of_step(path, told)


def _of_step(path: Path, told: Any) -> StepRouting:
    """The routing whose numbers a file or one of its tables has."""
    if not isinstance(told, dict) or not told:
        raise InputError(f"{path}: holds no numbers by name; write, for example, rows = 1.8")
    numbers = {name: value for name, value in told.items() if name != "note"}
    for name, value in numbers.items():
        for each in value if isinstance(value, list) and value else [value]:
            if isinstance(each, bool) or not isinstance(each, int | float):
                raise InputError(
                    f"{path}: {name}: {each!r} is no number; give one, or one for each kind of "
                    "layers with experts"
                )
    try:
        return traced(**numbers, note=str(told.get("note", path.name)))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _read_toml(path: Path) -> dict[str, Any]:
    return read_toml(path, "--routing")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--routing: cannot read {path}: {error.strerror}") from None
    except ValueError as error:  # no JSON, or no UTF-8
        raise InputError(f"{path}: not valid JSON: {error}") from None


_READERS: dict[str, Callable[[Path], Any]] = {".toml": _read_toml, ".json": _read_json}
"""What reads a file, by the end of its name."""
