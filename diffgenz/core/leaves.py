"""Names for the numbers of a record, such as "network[0].latency".

They are found by name or by the end of one, read, and replaced.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.tree_util import DictKey, GetAttrKey, SequenceKey

from diffgenz.core import xp
from diffgenz.core.errors import InputError, unknown
from diffgenz.core.record import Number, Record, numbers_of

Path = tuple[Any, ...]
"""Where a number is: the keys of `jax.tree_util` from the record down."""


def leaf_names(record: Any) -> dict[str, Path]:
    """The path of every number of a record, by its full name."""
    return {
        name_of(path): tuple(path) for path, _ in jax.tree_util.tree_flatten_with_path(record)[0]
    }


def name_of(path: Path) -> str:
    """The name of the number at `path`: "scenarios[0].workload.batch"."""
    return jax.tree_util.keystr(path).replace("['", "[").replace("']", "]").lstrip(".")


def called(full: str, name: str) -> bool:
    """Whether `name` is the full name of a number, or the end of it.

    "memory_bandwidth" is the end of "platform.accelerator.memory_bandwidth".
    """
    return full == name or full.endswith((f".{name}", f"]{name}"))


def find(record: Any, name: str, *, alike: str = "", parts: bool = False) -> tuple[Path, ...]:
    """The paths of the number that `name` is the name of, or the end of its name.

    Arguments:
        record: where to look.
        name: "platform.accelerator.memory_bandwidth", "memory_bandwidth", "workload.batch".
        alike: a field of `record` that is a tuple of records of one kind: a name that fits one
            number of each means all of them.
        parts: whether to look for whole records too: "platform", "plan".

    Raises:
        InputError: no number is called that (the nearest are named), or several are.
    """
    names = leaf_names(record)
    if parts:
        names |= {
            name_of(path[:length]): path[:length]
            for path in names.values()
            for length in range(1, len(path))
        }
    if name in names:
        return (names[name],)
    ends = [full for full in names if called(full, name)]
    if not ends:
        short = {
            full.split("].", 1)[1]
            if alike and full.startswith(f"{alike}[") and "]." in full
            else full
            for full in names
        }
        raise unknown("leaf", name, short)
    rest = (
        {full.split("]", 1)[1] for full in ends}
        if alike and all(full.startswith(f"{alike}[") for full in ends)
        else set(ends)
    )
    if len(rest) > 1:
        raise InputError(
            f"leaf: {name!r} is the end of several names: {', '.join(sorted(ends)[:6])}; "
            "write more of the one that is meant"
        )
    return tuple(names[full] for full in ends)


def with_unset(record: Any, name: str, value: float) -> Any:
    """`record` with a value for the optional numbers called `name` that it leaves out.

    Such as "plan.context" or "accelerator.price". Where it has a number of that name already, it
    stays as it is.
    """
    if any(called(full, name) for full in leaf_names(record)):
        return record
    unset = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(record, is_leaf=lambda x: x is None)[0]:
        if leaf is None and called(name_of(path), name):
            owner = leaf_at(record, path[:-1])
            if isinstance(owner, Record) and path[-1].name in numbers_of(type(owner)):
                unset[tuple(path)] = xp.asarray(value, float)
    return with_leaves(record, unset) if unset else record


def leaf_at(record: Any, path: Path) -> Any:
    """What is at `path`."""
    for key in path:
        record = (
            getattr(record, key.name)
            if isinstance(key, GetAttrKey)
            else record[key.key if isinstance(key, DictKey) else key.idx]
        )
    return record


def with_leaves(record: Any, changes: Mapping[Path, Any]) -> Any:
    """A copy of `record` with other numbers, or whole records, at some paths.

    Nothing is checked: whoever sweeps checks each value once (`number_at`), and how numbers go
    together by the conditions of the whole (`core.record.conditions_within`).
    """
    if () in changes:
        return changes[()]
    below: dict[Any, dict[Path, Any]] = {}
    for path, value in changes.items():
        below.setdefault(path[0], {})[path[1:]] = value
    parts = {key: with_leaves(leaf_at(record, (key,)), inner) for key, inner in below.items()}
    if isinstance(record, tuple):
        entries = list(record)
        for key, part in parts.items():
            assert isinstance(key, SequenceKey)
            entries[key.idx] = part
        return tuple(entries)
    if isinstance(record, dict):
        return record | {key.key: part for key, part in parts.items()}
    named = {key.name: part for key, part in parts.items()}
    copy = object.__new__(type(record))
    for field in dataclasses.fields(record):
        value = named[field.name] if field.name in named else getattr(record, field.name)
        object.__setattr__(copy, field.name, value)
    return copy


def with_parts(record: Any, parts: Mapping[str, Any]) -> Any:
    """A copy of `record` with other parts, by dotted name: {"accelerator.kernels": None}.

    Nothing is checked, and nothing but the records on the way is copied.
    """
    changes = {
        tuple(GetAttrKey(name) for name in where.split(".")): part for where, part in parts.items()
    }
    return with_leaves(record, changes)


def number_at(record: Any, path: Path) -> Number | None:
    """The unit and bounds of the number at `path`; None where no record states any."""
    found = None
    for key in path:
        if isinstance(key, GetAttrKey):
            found = numbers_of(type(record)).get(key.name)
        record = leaf_at(record, (key,))
    return found


def structure_digest(record: Any) -> str:
    """A digest of a record: its structure, names and numbers."""
    leaves, structure = jax.tree.flatten(record)
    total = hashlib.sha256(str(structure).encode())
    for leaf in leaves:
        total.update(np.asarray(leaf, np.float64).tobytes())
    return total.hexdigest()[:16]
