"""A design space: every combination of its axes, numbered.

With G combinations of the enumerated axes (the last one listed varies fastest), S samples of the others, and V combinations of those choices
whose options differ in structure (another network, other number formats, another family of models), the size is V S G, and

    index = (variant x S + sample) x G + combination

exactly, as Python integers, however large. Variants are what has to be compiled apart.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import GetAttrKey

from diffgenz.core.checks import enforce
from diffgenz.core.errors import InputError
from diffgenz.core.leaves import (
    Path,
    find,
    leaf_at,
    leaf_names,
    name_of,
    number_at,
    structure_digest,
    with_leaves,
    with_unset,
)
from diffgenz.core.record import conditions_within, unnamed
from diffgenz.scenario.mix import ALIKE, Mix
from diffgenz.scenario.scenario import Scenario
from diffgenz.studies.expressions import Expression
from diffgenz.studies.sweep.axes import Axis, Choice, Grid, Range
from diffgenz.studies.sweep.decoder import Decoder, Drawn, Span, decode_each, padded
from diffgenz.studies.sweep.sobol import INDEX_BITS, LOW_BITS, Sobol

MOST_BATCH = 2 ** (LOW_BITS - 1)
"""Configurations of one device call, at most."""


class Slot(NamedTuple):
    """An axis on the device: the numbers it sets, and the values of each by level.

    Arguments:
        labels: what people call the levels: the numbers as they were given, or the labels of a choice.
        options: of a choice, what each sets, names included; empty for numbers.
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


class Continuum(NamedTuple):
    """A range on the device."""

    name: str
    paths: tuple[Path, ...]
    range: Range


class Variant(NamedTuple):
    """A choice whose options differ in structure: each is compiled apart."""

    name: str
    labels: tuple[str, ...]
    changes: tuple[dict[Path, Any], ...]


class Space:
    """Configurations of a scenario, by number.

    Arguments:
        scenario: what does not vary.
        axes: by the name of what they vary: a number ("memory_bandwidth", "plan.tensor", "network[0].bandwidth"; the beginning of a name may be
            left out where it stays clear, and a name that fits every model of a mix means all of them), or, for a choice, a whole record
            ("platform", "model", "plan"). A number inside such a record may be an axis too: it is set in each of the options.
        derived: numbers that follow from others: {"peak_flops[fp8]": "2 * peak_flops[bf16]"}, in this order, after the axes.
        quantities: names for formulas of numbers and metrics: {"power": "idle_power + 0.1 * ..."}.
        constraints: formulas that must hold: "fits", "tpot <= 0.02", "power <= 1000". Plans that are not legal never count.
        samples: points of the Sobol sequence for the axes that are sampled; required where there are any, and only there.
        seed: of its scrambling.

    Raises:
        InputError: an unknown name (the nearest are given), a number two axes set, a value its record refuses, samples without sampled axes,
            a constraint that is a number, quantities that go round in a circle.
    """

    def __init__(
        self,
        scenario: Scenario | Mix,
        axes: Mapping[str, Axis],
        *,
        derived: Mapping[str, str] | None = None,
        quantities: Mapping[str, str] | None = None,
        constraints: Sequence[str] = ("fits",),
        samples: int | None = None,
        seed: int = 0,
    ):
        self.scenario = scenario
        self.axes = dict(axes)
        self.seed = seed
        self.enumerated: list[Slot] = []
        self.drawn: list[Slot | Continuum] = []
        self.variants: list[Variant] = []
        self._claims: list[tuple[str, Path, bool]] = []
        if not axes:
            raise InputError("space: it has no axes; give at least one")
        for name, axis in self.axes.items():
            if not isinstance(axis, Choice):
                self.scenario = with_unset(
                    self.scenario, name, axis.levels[0] if isinstance(axis, Grid) else axis.low
                )
        for name, axis in self.axes.items():
            self._add(name, axis)
        for name in derived or {}:
            self.scenario = with_unset(self.scenario, name, 1.0)
        self.derived = {
            find(self.scenario, name, alike=ALIKE): Expression(text)
            for name, text in (derived or {}).items()
        }
        self.quantities = {name: Expression(text) for name, text in (quantities or {}).items()}
        self.constraints = tuple(Expression(text) for text in constraints)
        self._check_formulas()
        self.samples = self._checked_samples(samples)
        self.combinations = math.prod(slot.levels for slot in self.enumerated)
        self.variant_count = math.prod(len(variant.labels) for variant in self.variants)
        self.size = self.variant_count * self.samples * self.combinations
        if self.size >> INDEX_BITS:
            raise InputError(
                f"space: {self.size} configurations are more than 2**{INDEX_BITS}; use fewer values"
            )
        self._sobol = Sobol(len(self.drawn), seed)
        self._check_once()

    @property
    def paths(self) -> tuple[Path, ...]:
        """What the axes set, in the order of `Decoder.columns`."""
        return tuple(path for slot in (*self.enumerated, *self.drawn) for path in slot.paths)

    def variant(self, number: int) -> Scenario | Mix:
        """The scenario of a variant, its axes not yet set."""
        changes: dict[Path, Any] = {}
        for variant in self.variants:
            changes |= variant.changes[self.variant_levels(number)[variant.name]]
        return with_leaves(self.scenario, changes) if changes else self.scenario

    def variant_levels(self, number: int) -> dict[str, int]:
        """Which option of each choice a variant has."""
        digits = _digits(number, [len(variant.labels) for variant in self.variants])
        return {variant.name: digit for variant, digit in zip(self.variants, digits, strict=True)}

    @property
    def levels(self) -> dict[str, int]:
        """How many values each axis has, ranges apart."""
        slots = [slot for slot in (*self.enumerated, *self.drawn) if isinstance(slot, Slot)]
        return {slot.name: slot.levels for slot in slots} | {
            variant.name: len(variant.labels) for variant in self.variants
        }

    def split(self, index: int) -> tuple[int, int, int]:
        """Variant, sample and combination of `index`."""
        rest, combination = divmod(index, self.combinations)
        variant, sample = divmod(rest, self.samples)
        return variant, sample, combination

    def decoder(self, index: int) -> Decoder:
        """What the device needs to make the configurations from `index` on."""
        _, sample, combination = self.split(index)
        starts = np.asarray(
            _digits(combination, [slot.levels for slot in self.enumerated]), np.float32
        )
        return Decoder(starts, *self._constants, self._sobol.place(sample))

    @cached_property
    def _constants(self) -> tuple[jax.Array, list[list[jax.Array]], list[Drawn | Span]]:
        """The parts of a decoder that no index changes."""
        drawn: list[Drawn | Span] = []
        for slot in self.drawn:
            if isinstance(slot, Slot):
                drawn.append(
                    Drawn(jnp.float32(slot.levels), [padded(table) for table in slot.tables])
                )
            else:
                low, high = slot.range.low, slot.range.high
                width = math.log(high / low) if slot.range.logarithmic else high - low
                drawn.append(
                    Span(
                        jnp.float32(low),
                        jnp.float32(high),
                        jnp.float32(width),
                        len(slot.paths),
                        slot.range.logarithmic,
                    )
                )
        radices = jnp.asarray([slot.levels for slot in self.enumerated], jnp.float32)
        return (
            radices,
            [[padded(table) for table in slot.tables] for slot in self.enumerated],
            drawn,
        )

    def configuration(self, index: int) -> Scenario | Mix:
        """Configuration number `index`.

        Raises:
            InputError: there is none of that number, or its numbers do not go together.
        """
        if not 0 <= index < self.size:
            raise InputError(
                f"index: {index} is not allowed; the space has {self.size} configurations, from 0 on"
            )
        levels, columns = self._decoded([index])
        scenario = self.variant(self.split(index)[0])
        for slot, level in zip((*self.enumerated, *self.drawn), levels, strict=True):
            if isinstance(slot, Slot) and slot.options:
                scenario = with_leaves(scenario, slot.options[int(level[0])])
        numbers = {path: column[0] for path, column in zip(self.paths, columns, strict=True)}
        scenario = self.with_derived(with_leaves(scenario, numbers))
        for path in (path for paths in self.derived for path in paths):
            _check_number("derived: ", scenario, path, leaf_at(scenario, path))
        enforce(conditions_within(scenario))
        return scenario

    def with_derived(self, scenario: Scenario | Mix) -> Scenario | Mix:
        """`scenario` with the numbers that follow from others."""
        for paths, expression in self.derived.items():
            value = expression(lambda name, s=scenario: number_named(s, name))
            scenario = with_leaves(scenario, {path: jnp.asarray(value, float) for path in paths})
        return scenario

    def coordinates(self, indices: Sequence[int]) -> dict[str, list[Any]]:
        """What each axis has at each of `indices`: numbers, or the labels of choices."""
        if not indices:
            return {name: [] for name in self.axes}
        levels, columns = self._decoded(indices)
        table: dict[str, list[Any]] = {}
        at = 0
        for slot, level in zip((*self.enumerated, *self.drawn), levels, strict=True):
            column = np.asarray(columns[at], float).tolist()
            table[slot.name] = (
                [slot.labels[int(digit)] for digit in np.asarray(level)]
                if isinstance(slot, Slot)
                else column
            )
            at += len(slot.paths)
        for variant in self.variants:
            table[variant.name] = [
                variant.labels[self.variant_levels(self.split(index)[0])[variant.name]]
                for index in indices
            ]
        return {name: table[name] for name in self.axes}

    def numbers(self, indices: Sequence[int]) -> list[jax.Array]:
        """The numbers that the axes set, in the order of `paths`, at each of `indices`."""
        return self._decoded(indices)[1]

    def _decoded(self, indices: Sequence[int]) -> tuple[list[jax.Array], list[jax.Array]]:
        count = len(indices)
        whole = np.pad(
            np.asarray(indices, np.int64), (0, (1 << (count - 1).bit_length()) - count), mode="edge"
        )  # few lengths, few programs
        sample, combination = np.divmod(
            whole % (self.samples * self.combinations), self.combinations
        )
        starts = np.zeros((len(whole), len(self.enumerated)), np.float32)
        for axis in reversed(range(len(self.enumerated))):
            combination, starts[:, axis] = np.divmod(combination, self.enumerated[axis].levels)
        return jax.tree.map(
            lambda column: column[:count],
            decode_each(Decoder(starts, *self._constants, self._sobol.places(sample))),
        )

    def level_values(self, name: str) -> list[Any]:
        """The values of an axis: numbers, or labels.

        Raises:
            InputError: it is a range, or there is no such axis.
        """
        for slot in (*self.enumerated, *self.drawn, *self.variants):
            if slot.name == name and not isinstance(slot, Continuum):
                return list(slot.labels)
        raise InputError(f"axis: {name!r} has no values one by one; it must be a grid or a choice")

    def description(self) -> dict[str, str]:
        """What makes it this space: digests of records, everything else in words."""
        words = {
            "scenario": structure_digest(self.scenario),
            "samples": str(self.samples),
            "seed": str(self.seed),
        }
        for name, axis in self.axes.items():
            if isinstance(axis, Choice):
                words[f"axis {name}"] = (
                    f"{'sampled ' * axis.drawn}{ {label: structure_digest(option) for label, option in axis.options.items()} }"
                )
            elif isinstance(axis, Grid) and len(axis.levels) > 16:
                digest = structure_digest(np.asarray(axis.levels))
                words[f"axis {name}"] = (
                    f"{'sampled ' * axis.drawn}{len(axis.levels)} from {axis.levels[0]} to {axis.levels[-1]}, {digest}"
                )
            else:
                words[f"axis {name}"] = repr(axis)
        words |= {
            f"derived {'+'.join(map(name_of, paths))}": expression.text
            for paths, expression in self.derived.items()
        }
        words |= {
            f"quantity {name}": expression.text for name, expression in self.quantities.items()
        }
        return words | {
            "constraints": "; ".join(expression.text for expression in self.constraints),
            "axes": ", ".join(self.axes),
        }

    def _add(self, name: str, axis: Axis) -> None:
        if isinstance(axis, Range):
            slot = Continuum(name, find(self.scenario, name, alike=ALIKE), axis)
            self._claim(slot.name, slot.paths, number=True)
            self.drawn.append(slot)
        elif isinstance(axis, Grid):
            paths = find(self.scenario, name, alike=ALIKE)
            self._claim(name, paths, number=True)
            table = np.asarray(axis.levels, np.float32)
            (self.drawn if axis.drawn else self.enumerated).append(
                Slot(name, paths, (table,) * len(paths), axis.levels)
            )
        else:
            self._add_choice(name, axis)

    def _add_choice(self, name: str, axis: Choice) -> None:
        labels = tuple(axis.options)
        options = [self._changes(name, option) for option in axis.options.values()]
        self._claim(
            name,
            tuple(dict.fromkeys(path for changes in options for path in changes)),
            number=False,
        )
        options = [
            {path: changes[path] for path in sorted(changes, key=str)} for changes in options
        ]
        flat = [jax.tree.flatten(unnamed(tuple(changes.values()))) for changes in options]
        alike = all(
            structure == flat[0][1]
            and list(changes) == list(options[0])
            and [np.shape(x) for x in leaves] == [()] * len(leaves)
            for changes, (leaves, structure) in zip(options, flat, strict=True)
        )
        if not alike:
            if axis.drawn:
                raise InputError(
                    f"axis {name}: its options differ in structure and cannot be sampled; enumerate them"
                )
            self.variants.append(Variant(name, labels, tuple(options)))
            return
        self.scenario = with_leaves(self.scenario, options[0])  # whose structure may be another one
        paths = [
            at + tuple(path)
            for at, part in options[0].items()
            for path, _ in jax.tree_util.tree_flatten_with_path(part)[0]
        ]
        tables = [
            np.asarray(column, np.float32)
            for column in zip(*(leaves for leaves, _ in flat), strict=True)
        ]
        numbers = [
            find(self.scenario, other, alike=ALIKE)
            for other, entry in self.axes.items()
            if not isinstance(entry, Choice)
        ]
        own = [
            number
            for number, path in enumerate(paths)
            if path not in {path for found in numbers for path in found}
        ]
        if not own:
            raise InputError(f"axis {name}: other axes set everything in it; drop it")
        slot = Slot(
            name,
            tuple(paths[number] for number in own),
            tuple(tables[number] for number in own),
            labels,
            tuple(options),
        )
        (self.drawn if axis.drawn else self.enumerated).append(slot)

    def _changes(self, name: str, option: Any) -> dict[Path, Any]:
        if isinstance(option, Mapping):
            changes: dict[Path, Any] = {}
            for part, value in option.items():
                if isinstance(value, eqx.Module | tuple):
                    changes |= self._parts(name, part, value)
                else:
                    changes |= dict.fromkeys(
                        find(self.scenario, part, alike=ALIKE), jnp.asarray(value, float)
                    )
            return changes
        return self._parts(name, name, option)

    def _parts(self, axis: str, name: str, option: Any) -> dict[Path, Any]:
        """`option`, a record, wherever there is one called `name`."""
        paths = find(self.scenario, name, alike=ALIKE, parts=True)
        for path in paths:
            here = leaf_at(self.scenario, path)
            if type(here) is not type(option):
                raise InputError(
                    f"axis {axis}: a {type(option).__name__} does not go there; a {type(here).__name__} does"
                )
        return dict.fromkeys(paths, option)

    def _claim(self, name: str, paths: tuple[Path, ...], *, number: bool) -> None:
        """Note what an axis sets; nothing may be set twice, but for a `number` inside a record that another axis chooses."""
        for path in paths:
            for other, taken, other_number in self._claims:
                shared = min(len(path), len(taken))
                inside = (number and len(path) > shared) or (other_number and len(taken) > shared)
                if path[:shared] == taken[:shared] and not inside:
                    raise InputError(
                        f"axis {name}: {name_of(path)} is set by the axis {other} already; drop one of them"
                    )
        self._claims += [(name, path, number) for path in paths]

    def _check_formulas(self) -> None:
        for name in self.quantities:
            seen, waiting = set(), [name]
            while waiting:
                inner = waiting.pop()
                if inner in seen or inner not in self.quantities:
                    continue
                seen.add(inner)
                waiting += self.quantities[inner].names
                if name in self.quantities[inner].names:
                    raise InputError(
                        f"quantity: {name} is made of itself; give it a name of its own"
                    )
        for constraint in self.constraints:
            deepest = constraint
            while deepest.text in self.quantities:
                deepest = self.quantities[deepest.text]
            if not deepest.conditional and deepest.text not in ("fits", "legal"):
                raise InputError(
                    f"constraint: {constraint.text!r} is a number, not a condition; compare it with another"
                )

    def _checked_samples(self, samples: int | None) -> int:
        if self.drawn and samples is None:
            raise InputError(
                f"samples: needed, since {self.drawn[0].name} is sampled; give their number, or n"
            )
        if not self.drawn and samples is not None:
            raise InputError(
                f"samples: {samples} asked for, but no axis is sampled; leave it out, or make an axis a range or `sampled()`"
            )
        if samples is not None and samples < 1:
            raise InputError(f"samples: {samples} is not allowed; it must be at least 1")
        return samples or 1

    def _check_once(self) -> None:
        """Check every value of every axis; how numbers go together is for the device to see."""
        slots = (*self.enumerated, *self.drawn)
        for number in range(self.variant_count):
            base = self.variant(number)
            known = {tuple(path) for path in leaf_names(base).values()}
            for slot in slots:
                for path in slot.paths:
                    if path not in known:
                        raise InputError(
                            f"axis {slot.name}: {name_of(path)} is not in every option of the "
                            "choices; leave out those without"
                        )
                tables = (
                    slot.tables
                    if isinstance(slot, Slot)
                    else (_within(slot.range),) * len(slot.paths)
                )
                for path, table in zip(slot.paths, tables, strict=True):
                    _check_number(f"axis {slot.name}: ", base, path, table)
            for path in (path for paths in self.derived for path in paths):
                if path not in known:
                    raise InputError(
                        f"derived: {name_of(path)} is not in every option of the choices; leave "
                        "out those without"
                    )
            jax.eval_shape(self.with_derived, base)


def _check_number(prefix: str, record: Any, path: Path, value: Any) -> None:
    """Raise `InputError` where the number at `path` may not be `value`."""
    about = number_at(record, path)
    if about is not None:
        field = next(key.name for key in reversed(path) if isinstance(key, GetAttrKey))
        try:
            about.check(field, value)
        except InputError as error:
            raise InputError(f"{prefix}{error}") from None


def _within(bounds: Range) -> np.ndarray:
    """Both ends of a range, and a number between them that is not whole: what is counted has no ranges."""
    return np.asarray(
        [bounds.low, bounds.low + (math.sqrt(5) - 1) / 2 * (bounds.high - bounds.low), bounds.high]
    )


def number_named(scenario: Scenario | Mix, name: str) -> Any:
    """The number called `name` in a scenario; the first, where it is one of every model of a mix."""
    return leaf_at(scenario, find(scenario, name, alike=ALIKE)[0])


def _digits(number: int, radices: Sequence[int]) -> list[int]:
    digits = []
    for radix in reversed(radices):
        number, digit = divmod(number, radix)
        digits.insert(0, digit)
    return digits
