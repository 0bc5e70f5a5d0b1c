"""What-ifs: some numbers of an accelerator file changed by name, "memory_bandwidth=7 TB/s".

Names are those of the file with a dot between table and key (`memory.bandwidth`,
`peak_flops.fp8`, `network.0.bandwidth`), or as much of one as is clear: `memory_bandwidth`, `tdp`,
`fp8`, `network.bandwidth` where there is one level.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from diffgenz.core.errors import InputError, unknown
from diffgenz.core.units import parse, show
from diffgenz.hardware.spec import FIGURES, LEVEL, MAY_BE_ZERO, TIER, Figures, NetworkSpec, Spec

_UNTIMED = ("power", "price", "memory.capacity", "memory.reserve", "memory_tier", "design")
"""How the names of numbers begin that no kernel's time depends on."""

_EXAMPLE = 'write NAME=VALUE, such as --set "memory_bandwidth=7 TB/s"'


class Setting(NamedTuple):
    """One number that is changed.

    Arguments:
        name: its full name, such as "network.0.bandwidth".
        value: in SI.
        unit: its SI unit.
    """

    name: str
    value: float
    unit: str


def with_settings(spec: Spec, settings: Sequence[str]) -> Spec:
    """The accelerator with some numbers changed.

    Where a time depends on one of them, the fits of its kernels are reused on the new numbers, as
    for a file that changes a shipped accelerator's (`Spec.changed`).

    Arguments:
        spec: the accelerator.
        settings: texts such as "memory_bandwidth=7 TB/s".

    Raises:
        InputError: a text that is no setting, a number that is not known (the nearest are named),
            is meant twice, or is not clear, or a value that the file could not have.
    """
    units = _units_of(spec)
    read = [_read(text, units) for text in settings]
    names = [each.name for each in read]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--set: {name} is set twice; leave one out")
    told = []
    for name, value, unit in read:
        table, _, key = name.rpartition(".")
        before = _figures(spec, table).get(key)
        if before == value:
            continue
        spec = _with_figure(spec, table, key, value)
        is_timed = not name.startswith(_UNTIMED)
        spec = dataclasses.replace(spec, changed=spec.changed or is_timed)
        was = "not stated" if before is None else shown(before, unit)
        told.append(f"{name} = {shown(value, unit)} ({was} in {spec.id})")
    return dataclasses.replace(spec, settings=(*spec.settings, *told))


def shown(value: float, unit: str) -> str:
    """A number for people."""
    if unit == "USD/s":
        return f"{3600 * value:.4g} USD/h"
    return f"{value:g}" if unit == "1" else show(value, unit, 4)


def _read(text: str, units: dict[str, str]) -> Setting:
    """The setting that a text states."""
    typed, equals, value = (part.strip() for part in text.partition("="))
    if not (typed and equals and value):
        raise InputError(f"--set: {text!r} is not read; {_EXAMPLE}")
    name = _full_name(typed, units)
    unit = units[name]
    number = parse(value, unit, field=f"--set {name}")
    zero = name.rpartition(".")[2] in MAY_BE_ZERO
    if not (number > 0 or (zero and number == 0)) or number == float("inf"):
        bound = "not negative" if zero else "above zero"
        raise InputError(f"--set {name}: {value!r} is not allowed; it must be finite and {bound}")
    return Setting(name, number, unit)


def _full_name(typed: str, units: dict[str, str]) -> str:
    """The one number that is meant by a name, or a clear part of one.

    Raises:
        InputError: none is, or several are.
    """
    asked = re.sub(r"\[(\w+)\]", r".\1", typed).lower()
    asked = asked.removeprefix("platform.").removeprefix("accelerator.").replace("-", "_")
    flat = asked.replace(".", "_")
    spellings = {name: {name.replace(".", "_"), _without_index(name)} for name in units}
    found = [name for name, flats in spellings.items() if flat in flats]
    if not found:
        found = [
            name
            for name, flats in spellings.items()
            if any(each.endswith(f"_{flat}") or each.startswith(f"{flat}_") for each in flats)
        ]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"--set: {typed!r} may be {' or '.join(found[:6])}; write more of the one that is meant"
        )
    raise unknown("--set", typed, units)


def _without_index(name: str) -> str:
    """The flat name of a number without the index of its level: "network_bandwidth"."""
    return re.sub(r"\.\d+\.", ".", name).replace(".", "_")


def _units_of(spec: Spec) -> dict[str, str]:
    """The unit of every number that may be set, by its full name."""
    tables = {
        **{table: keys for table, keys in FIGURES.items() if table != "design" or spec.design},
        **{f"network.{index}": LEVEL for index in range(len(spec.network))},
        **{f"memory_tier.{index}": TIER for index in range(len(spec.memory_tiers))},
    }
    return {f"{table}.{key}": unit for table, keys in tables.items() for key, unit in keys.items()}


def _figures(spec: Spec, table: str) -> Figures:
    """The numbers of one table of a file."""
    name, _, index = table.partition(".")
    if name == "network":
        return spec.network[int(index)].figures
    return spec.memory_tiers[int(index)][1] if name == "memory_tier" else getattr(spec, table)


def _with_figure(spec: Spec, table: str, key: str, value: float) -> Spec:
    """The accelerator with one number of one table changed."""
    name, _, index = table.partition(".")
    figures = _figures(spec, table) | {key: value}
    changes: dict[str, Any] = {table: figures}
    if name == "network":
        levels = list(spec.network)
        old = levels[int(index)]
        levels[int(index)] = NetworkSpec(old.name, old.topology, old.dimensions, figures)
        changes = {"network": tuple(levels)}
    elif name == "memory_tier":
        tiers = list(spec.memory_tiers)
        tiers[int(index)] = (tiers[int(index)][0], figures)
        changes = {"memory_tiers": tuple(tiers)}
    return dataclasses.replace(spec, **changes)
