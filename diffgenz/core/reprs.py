"""Records as text: every number with its unit, and nothing that is as by default.

Workload(batch=64, input_tokens=2048, output_tokens=256)
Level(name='NVLink 4', size=8, bandwidth=450 GB/s, latency=800 ns)
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from diffgenz.core.units import show

_WITHOUT_PREFIX = ("USD", "tokens/s")
"""Units that nobody counts in thousands or thousandths."""

WIDTH = 100
"""Columns of a line, beyond which the parts of a record stand on lines of their own."""


def text_of_record(record: Any, units: Mapping[str, str], extra: tuple[str, ...] = ()) -> str:
    """A record as text.

    Arguments:
        record: a dataclass.
        units: the unit of each number field that has one.
        extra: what else to say, after its fields.
    """
    parts = []
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if field.repr and not _is_default(value, field):
            parts.append(f"{field.name}={text_of(value, units.get(field.name, '1'))}")
    return _joined(f"{type(record).__name__}(", [*parts, *extra], ")")


def text_of(value: Any, unit: str = "1") -> str:
    """A part of a record as text.

    Arguments:
        value: a number, an array of them, a record, or a container of these.
        unit: of its numbers; "1" for none.
    """
    if isinstance(value, Tracer):
        return f"traced {value.dtype}{list(value.shape)}"
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _text_of_array(np.asarray(value), unit)
    if isinstance(value, dict):
        parts = [f"{key}: {text_of(each, unit)}" for key, each in value.items()]
        return _joined("{", parts, "}")
    if isinstance(value, tuple | list) and not hasattr(value, "_fields"):
        return _joined("(", [text_of(each, unit) for each in value], ")")
    return repr(value)


def _text_of_array(value: np.ndarray, unit: str) -> str:
    if value.dtype == bool and value.size > 1:
        return f"<{int(value.sum())} of {value.size}>"
    if value.dtype == bool or value.size == 0:
        return str(value)
    if value.ndim == 0:
        return _with_unit(float(value), unit)
    low, high = float(value.min()), float(value.max())
    shape = " x ".join(str(size) for size in value.shape)
    if low == high:
        return f"<{shape} times {_with_unit(low, unit)}>"
    return f"<{shape} numbers, {_with_unit(low, unit)} to {_with_unit(high, unit)}>"


def _with_unit(x: float, unit: str) -> str:
    if unit == "1":
        return f"{x:.7g}"
    if unit == "USD/s":
        return f"{3600 * x:.4g} USD/h"
    return f"{x:.5g} {unit}" if unit in _WITHOUT_PREFIX else show(x, unit, 4)


def _is_default(value: Any, field: Any) -> bool:
    """Whether a field holds what it holds where nobody says anything."""
    default = field.default
    if default is dataclasses.MISSING:
        return isinstance(value, dict | tuple) and not value
    if value is None or default is None:
        return value is default
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        if isinstance(value, Tracer) or np.ndim(value):
            return False
        return isinstance(default, int | float) and float(value) == default
    return type(value) is type(default) and value == default


def _joined(before: str, parts: list[str], after: str) -> str:
    line = before + ", ".join(parts) + after
    if len(line) <= WIDTH and "\n" not in line:
        return line
    inside = "".join(f"  {part}\n".replace("\n", "\n  ")[:-2] for part in (f"{p}," for p in parts))
    return f"{before}\n{inside}{after}"
