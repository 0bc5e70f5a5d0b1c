"""The axes of a space in the form in which configurations are decoded from numbers.

A grid is a `Slot`, a range is a `Continuum`. A choice is a `Slot` too where its options have one
structure: the numbers in which they differ are looked up in tables. Else it is a `Variant`, whose
options are compiled apart.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.core.leaves import Path, leaf_at, with_leaves, with_unset
from diffgenz.core.record import unnamed
from diffgenz.scenario.mix import Question, paths_named
from diffgenz.studies.sweep.axes import Axis, Choice, Grid, Range
from diffgenz.studies.sweep.claims import Claims
from diffgenz.studies.sweep.decoder import Drawn, Span, padded

_GOLDEN = (math.sqrt(5) - 1) / 2


class Slot(NamedTuple):
    """An axis of levels on the device.

    Arguments:
        name: of the axis.
        paths: the numbers that it sets.
        tables: the values of each of them, by level.
        labels: what people call the levels: numbers as they were given, or labels of a choice.
        options: what each option of a choice sets, names included; empty for numbers.
    """

    name: str
    paths: tuple[Path, ...]
    tables: tuple[np.ndarray, ...]
    labels: tuple[Any, ...]
    options: tuple[dict[Path, Any], ...] = ()

    @property
    def levels(self) -> int:
        """How many values it has."""
        return len(self.labels)

    @property
    def probes(self) -> tuple[np.ndarray, ...]:
        """Values of each number to check: all."""
        return self.tables

    @property
    def lookups(self) -> list[jax.Array]:
        """The tables for the device."""
        return [padded(table) for table in self.tables]

    def on_device(self) -> Drawn:
        """What decodes it where it is sampled."""
        return Drawn(jnp.float32(self.levels), self.lookups)


class Continuum(NamedTuple):
    """A range on the device.

    Arguments:
        name: of the axis.
        paths: the numbers that it sets, all to the same value.
        range: its bounds.
    """

    name: str
    paths: tuple[Path, ...]
    range: Range

    @property
    def probes(self) -> tuple[np.ndarray, ...]:
        """Values of each number to check: both ends, and one between them that is not whole.

        So a number of something that is counted is refused: it has no ranges.
        """
        low, high = self.range.low, self.range.high
        between = low + _GOLDEN * (high - low)
        return (np.asarray([low, between, high]),) * len(self.paths)

    def on_device(self) -> Span:
        """What decodes it."""
        low, high, logarithmic = self.range.low, self.range.high, self.range.logarithmic
        width = math.log(high / low) if logarithmic else high - low
        single = jnp.float32
        return Span(single(low), single(high), single(width), len(self.paths), logarithmic)


class Variant(NamedTuple):
    """A choice whose options differ in structure: each is compiled apart.

    Arguments:
        name: of the axis.
        labels: of its options.
        changes: what each option sets.
    """

    name: str
    labels: tuple[str, ...]
    changes: tuple[dict[Path, Any], ...]


class Slots(NamedTuple):
    """All axes of a space.

    Arguments:
        scenario: what does not vary. It has a number wherever an axis sets one, and the structure
            of the options of choices that are slots.
        enumerated: axes of which every combination is a configuration.
        drawn: axes that are sampled.
        variants: choices whose options are compiled apart.
    """

    scenario: Question
    enumerated: list[Slot]
    drawn: list[Slot | Continuum]
    variants: list[Variant]


def slots_of(scenario: Question, axes: Mapping[str, Axis]) -> Slots:
    """The axes of a space over a scenario, each where it belongs.

    Raises:
        InputError: an unknown name (the nearest are given), a number that two axes set, options
            that are no such record, or that differ in structure and are to be sampled.
    """
    for name, axis in axes.items():
        if not isinstance(axis, Choice):
            first = axis.levels[0] if isinstance(axis, Grid) else axis.low
            scenario = with_unset(scenario, name, first)
    numbers = [name for name, axis in axes.items() if not isinstance(axis, Choice)]
    claims, found = Claims(), Slots(scenario, [], [], [])
    for name, axis in axes.items():
        if isinstance(axis, Choice):
            options = _options(found.scenario, name, axis)
            paths = tuple(dict.fromkeys(path for option in options for path in option))
            claims.add(name, paths, number=False)
            found = _with_choice(found, name, axis, options, numbers)
            continue
        paths = paths_named(found.scenario, name)
        claims.add(name, paths, number=True)
        if isinstance(axis, Range):
            found.drawn.append(Continuum(name, paths, axis))
        else:
            table = np.asarray(axis.levels, np.float32)
            slot = Slot(name, paths, (table,) * len(paths), axis.levels)
            (found.drawn if axis.drawn else found.enumerated).append(slot)
    return found


def _options(scenario: Question, name: str, axis: Choice) -> list[dict[Path, Any]]:
    """What each option of a choice sets, in the same order of paths."""
    options = [_changes(scenario, name, option) for option in axis.options.values()]
    return [{path: changes[path] for path in sorted(changes, key=str)} for changes in options]


def _changes(scenario: Question, name: str, option: Any) -> dict[Path, Any]:
    """What an option sets: a record, or several numbers and records by name."""
    if not isinstance(option, Mapping):
        return _parts(scenario, name, name, option)
    changes: dict[Path, Any] = {}
    for part, value in option.items():
        if isinstance(value, eqx.Module | tuple):
            changes |= _parts(scenario, name, part, value)
        else:
            changes |= dict.fromkeys(paths_named(scenario, part), jnp.asarray(value, float))
    return changes


def _parts(scenario: Question, axis: str, name: str, option: Any) -> dict[Path, Any]:
    """`option`, a record, wherever there is one called `name`."""
    paths = paths_named(scenario, name, parts=True)
    for path in paths:
        here, given = type(leaf_at(scenario, path)), type(option)
        if given is not here:
            raise InputError(
                f"axis {axis}: a {given.__name__} does not go there; a {here.__name__} does"
            )
    return dict.fromkeys(paths, option)


def _with_choice(
    found: Slots,
    name: str,
    axis: Choice,
    options: list[dict[Path, Any]],
    numbers: Sequence[str],
) -> Slots:
    """The slots found so far and those of a choice.

    Arguments:
        found: the slots found so far.
        name: of the axis.
        axis: the choice.
        options: what each of its options sets.
        numbers: the axes that set numbers one by one, also inside its options.
    """
    labels = tuple(axis.options)
    flat = [jax.tree.flatten(unnamed(tuple(changes.values()))) for changes in options]
    if not _alike(options, flat):
        if axis.drawn:
            raise InputError(
                f"axis {name}: its options differ in structure and cannot be sampled; "
                "enumerate them"
            )
        return found._replace(variants=[*found.variants, Variant(name, labels, tuple(options))])
    scenario = with_leaves(found.scenario, options[0])  # whose structure may be another one
    paths = [
        at + tuple(path)
        for at, part in options[0].items()
        for path, _ in jax.tree_util.tree_flatten_with_path(part)[0]
    ]
    columns = zip(*(leaves for leaves, _ in flat), strict=True)
    tables = [np.asarray(column, np.float32) for column in columns]
    others = {path for number in numbers for path in paths_named(scenario, number)}
    own = [(path, table) for path, table in zip(paths, tables, strict=True) if path not in others]
    if not own:
        raise InputError(f"axis {name}: other axes set everything in it; drop it")
    paths, tables = zip(*own, strict=True)
    slot = Slot(name, paths, tables, labels, tuple(options))
    if axis.drawn:
        return found._replace(scenario=scenario, drawn=[*found.drawn, slot])
    return found._replace(scenario=scenario, enumerated=[*found.enumerated, slot])


def _alike(options: list[dict[Path, Any]], flat: list[tuple[list[Any], Any]]) -> bool:
    """Whether options differ in single numbers only.

    Arguments:
        options: what each sets.
        flat: their numbers and their structure, without names.
    """
    _, structure = flat[0]
    return all(
        own == structure
        and list(changes) == list(options[0])
        and all(np.shape(leaf) == () for leaf in leaves)
        for changes, (leaves, own) in zip(options, flat, strict=True)
    )
