"""Technology files: TOML with a table for each coefficient.

    [leakage]
    prior = 0.10
    width = 0.4
    unit = "W/mm2"
    source = "..."
    value = 0.094      # from here on: what the fit to public chips says
    deviation = 0.21

A coefficient that has no `value` is its prior. What a file leaves out is as shipped.
"""

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffgenz.core.checks import demand
from diffgenz.core.errors import InputError
from diffgenz.core.files import data_folder, read_toml, written_aside
from diffgenz.core.sections import Section, said_of
from diffgenz.technology.coefficients import (
    Coefficient,
    Memory,
    Process,
    Technology,
    coefficients_of,
)

_KEYS = ("prior", "width", "unit", "source", "value", "deviation")
_GROUPS = {"processes": Process, "memories": Memory}
_SINGLE = tuple(
    name for name, field in Technology.__dataclass_fields__.items() if field.type is Coefficient
)
_COVARIANCE = "covariance"

HEADER = """\
# What each part of an accelerator takes (diffgenz/technology). `prior` is the value before any chip
# was looked at, `width` the standard deviation of its logarithm, `source` where it is from; `value`
# and `deviation` are what the fit to public chips made of it:
#
#     python calibration/technology.py
#
# which reads the priors from this file, fits, and writes it anew.
"""


def technology_path() -> Path:
    """Where the shipped technology file is."""
    return data_folder("calibration") / "technology.toml"


def load_technology(file: str | Path | None = None) -> Technology:
    """The coefficients of technology.

    Arguments:
        file: a TOML with coefficients of your own, among them further processes and memories; what
            it leaves out is as shipped. None: all are as shipped, fitted to public chips.

    Raises:
        InputError: a file that cannot be read, an unknown coefficient, or a value that is not
            positive; the message names it.
    """
    shipped = _shipped()
    if file is None:
        return shipped
    path = Path(file)
    return _read(path, read_toml(path, "technology"), shipped)


@functools.cache
def _shipped() -> Technology:
    path = technology_path()
    return _read(path, read_toml(path, "technology"), None)


def _read(path: Path, raw: Mapping[str, Any], base: Technology | None) -> Technology:
    """The technology of a parsed file, over another one."""
    top = Section(f"{path.name}: technology", raw, (*_SINGLE, *_GROUPS, _COVARIANCE))
    fields: dict[str, Any] = {}
    for name in _SINGLE:
        if name in top.raw:
            old = None if base is None else getattr(base, name)
            fields[name] = _coefficient(path, name, top.raw[name], old)
        elif base is not None:
            fields[name] = getattr(base, name)
        else:
            raise InputError(f"{path.name}: {name}: is missing; write a table [{name}]")
    for group, kind in _GROUPS.items():
        known = {} if base is None else dict(getattr(base, group))
        for name, written in top.section(group).raw.items():
            known[name] = _member(path, f"{group}.{name}", written, kind, known.get(name))
        fields[group] = known
    changed: set[str] = set() if base is None else _changed(raw)
    fields |= _covariance(path, top, base, changed)
    return Technology(**fields)


def _member(path: Path, where: str, written: Any, kind: Any, old: Any) -> Any:
    """A process or memory, over another one of the same name."""
    names = tuple(kind.__dataclass_fields__)
    section = Section(f"{path.name}: {where}", written, names)
    found = {}
    for name in names:
        if name in section.raw:
            before = None if old is None else getattr(old, name)
            found[name] = _coefficient(path, f"{where}.{name}", section.raw[name], before)
        elif old is not None:
            found[name] = getattr(old, name)
        else:
            raise InputError(
                f"{path.name}: {where}.{name}: is missing; a new one needs {', '.join(names)}"
            )
    return kind(**found)


def _coefficient(path: Path, where: str, written: Any, old: Coefficient | None) -> Coefficient:
    """One coefficient. A number alone is its value, known exactly."""
    place = f"{path.name}: {where}"
    if isinstance(written, int | float) and not isinstance(written, bool):
        written = {"prior": written, "width": 0.0, "source": f"{path.name}, without a source"}
    section = Section(place, written, _KEYS)
    raw = section.raw
    if "prior" not in raw and "value" not in raw:
        raise InputError(f"{place}: has no value; write prior = NUMBER, or value = NUMBER")
    value = section.number("value" if "value" in raw else "prior")
    prior = section.number("prior") if "prior" in raw else value
    width = section.number("width") if "width" in raw else 0.0
    deviation = section.number("deviation") if "deviation" in raw else width
    unit = section.text("unit") if "unit" in raw else ("1" if old is None else old.unit)
    if old is not None and unit != old.unit:
        raise InputError(f"{place}.unit: {unit!r} is not its unit; write it in {old.unit}")
    source = section.text("source") if "source" in raw else f"{path.name}, without a source"
    for name, number in (("value", value), ("prior", prior)):
        if not 0 < number < math.inf:
            raise InputError(f"{place}.{name}: {number:g} is not allowed; it must be above 0")
    with said_of(place):
        return Coefficient(value, prior, width, deviation, unit, source)


def _changed(raw: Mapping[str, Any]) -> set[str]:
    """The names of the coefficients that a file states."""
    names = {name for name in raw if name in _SINGLE}
    for group in _GROUPS:
        for member, fields in raw.get(group, {}).items():
            names |= {f"{group}.{member}.{name}" for name in fields}
    return names


def _covariance(
    path: Path, top: Section, base: Technology | None, changed: set[str]
) -> dict[str, Any]:
    """The covariance that a file states, else the base's without what was changed."""
    if _COVARIANCE in top.raw:
        section = top.section(_COVARIANCE, ("of", "rows"))
        names, rows = section.texts("of"), section.entries("rows")
        try:
            lower = [np.asarray(row, float) for row in rows]
            sizes = [len(row) for row in lower]
        except (TypeError, ValueError):
            sizes = []
        if sizes != list(range(1, len(names) + 1)):
            raise InputError(
                f"{path.name}: covariance.rows: are not the lower triangle of a matrix of the "
                f"{len(names)} coefficients in covariance.of; write 1, 2, 3, ... numbers in them"
            )
        matrix = np.zeros((len(names), len(names)))
        for i, row in enumerate(lower):
            matrix[i, : i + 1] = matrix[: i + 1, i] = row
        return {"covariance": matrix if names else None, "uncertain": names}
    if base is None or base.covariance is None:
        return {}
    keep = [i for i, name in enumerate(base.uncertain) if name not in changed]
    matrix = np.asarray(base.covariance, float)[np.ix_(keep, keep)]
    return {"covariance": matrix, "uncertain": tuple(base.uncertain[i] for i in keep)}


def save_technology(technology: Technology, file: str | Path) -> None:
    """Write a technology file that `load_technology` reads.

    Arguments:
        technology: the coefficients.
        file: where to; a file that is there is replaced, whole or not at all.

    Raises:
        InputError: it is no technology, or cannot be written.
    """
    demand("technology", technology, Technology, "load_technology()")
    lines = [HEADER]
    for name, each in coefficients_of(technology).items():
        lines += [
            f"[{name}]",
            f"prior = {float(each.prior):.5g}",
            f"width = {float(each.width):.4g}",
            f"unit = {_quoted(each.unit)}",
            f"source = {_quoted(each.source)}",
            f"value = {float(each.value):.6g}",
            f"deviation = {float(each.deviation):.4g}",
            "",
        ]
    if technology.covariance is not None:
        matrix = np.asarray(technology.covariance, float)
        names = ", ".join(_quoted(name) for name in technology.uncertain)
        rows = [
            f"    [{', '.join(f'{x:.4g}' for x in row[: i + 1])}]," for i, row in enumerate(matrix)
        ]
        lines += ["[covariance]  # of logarithms", f"of = [{names}]", "rows = [", *rows, "]", ""]
    path = Path(file)
    with written_aside(path, "technology") as aside:
        aside.write_text("\n".join(lines), encoding="utf-8")


def _quoted(text: str) -> str:
    """A text as TOML has it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
