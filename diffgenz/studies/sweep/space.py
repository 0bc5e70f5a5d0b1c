"""A design space: every combination of its axes, numbered.

With G combinations of the enumerated axes (the last one listed varies fastest), S samples of the
others, and V combinations of those choices whose options differ in structure (another network,
other number formats, another family of models), the size is V S G, and

    index = (variant x S + sample) x G + combination

exactly, as Python integers, however large. Variants are what has to be compiled apart.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core import xp
from diffgenz.core.checks import demand, enforce
from diffgenz.core.errors import InputError
from diffgenz.core.leaves import Path, leaf_at, name_of, structure_digest, with_leaves, with_unset
from diffgenz.core.record import conditions_within
from diffgenz.scenario.mix import Composed, Question, number_named, paths_named
from diffgenz.scenario.scenario import demand_scenario
from diffgenz.studies.expressions import Expression
from diffgenz.studies.sweep.axes import Axis, Choice, Grid, Range
from diffgenz.studies.sweep.checks import (
    check_formulas,
    check_number,
    check_values,
    checked_samples,
)
from diffgenz.studies.sweep.decoder import Decoder, Drawn, Span, decode_each
from diffgenz.studies.sweep.slots import Continuum, Slot, slots_of
from diffgenz.studies.sweep.sobol import INDEX_BITS, LOW_BITS, Sobol

MOST_BATCH = 2 ** (LOW_BITS - 1)
"""Configurations of one device call, at most."""

_SPELLED_OUT = 16  # levels of a grid up to which its description lists them


class Space:
    """Configurations of a scenario, by number.

    Arguments:
        scenario: what does not vary.
        axes: by the name of what they vary. It is a number ("memory_bandwidth", "plan.tensor",
            "network[0].bandwidth"; the beginning of a name may be left out where it stays clear,
            and a name that fits every scenario of a mix means all of them), or, for a choice, a
            whole record ("platform", "model", "plan"). A number inside such a record may be an axis
            too: it is set in each of the options.
        derived: numbers that follow from others: {"peak_flops[fp8]": "2 * peak_flops[bf16]"}, in
            this order, after the axes.
        quantities: names for formulas of numbers and metrics: {"power": "idle_power + 0.1 * ..."}.
        constraints: formulas that must hold: "fits", "tpot <= 0.02", "power <= 1000".
            Configurations whose numbers do not go together never count.
        samples: points of the Sobol sequence for the axes that are sampled; required where there
            are any, and only there.
        seed: of its scrambling.

    Raises:
        InputError: an unknown name (the nearest are given), a number that two axes set, a value
            that its record refuses, samples without sampled axes, a constraint that is a number,
            quantities that go round in a circle.
    """

    def __init__(
        self,
        scenario: Question,
        axes: Mapping[str, Axis],
        *,
        derived: Mapping[str, str] | None = None,
        quantities: Mapping[str, str] | None = None,
        constraints: Sequence[str] = ("fits",),
        samples: int | None = None,
        seed: int = 0,
    ):
        if not isinstance(scenario, Composed):
            demand_scenario(scenario, "scenario")
        if not axes:
            raise InputError("space: it has no axes; give at least one")
        for name, axis in axes.items():
            example = "axes.values(1e12, 2e12), axes.log_uniform(1e12, 4e12) or another"
            demand(f"axes[{name}]", axis, (Grid, Range, Choice), example)
        self.axes = dict(axes)
        self.seed = seed
        self.scenario, self.enumerated, self.drawn, self.variants = slots_of(scenario, self.axes)
        derived = derived or {}
        for name in derived:
            self.scenario = with_unset(self.scenario, name, 1.0)
        self.derived = {
            paths_named(self.scenario, name): Expression(text) for name, text in derived.items()
        }
        self.quantities = {name: Expression(text) for name, text in (quantities or {}).items()}
        self.constraints = tuple(Expression(text) for text in constraints)
        check_formulas(self.quantities, self.constraints)
        self.samples = checked_samples(samples, self.drawn)
        self.combinations = math.prod(slot.levels for slot in self.enumerated)
        self.variant_count = math.prod(len(variant.labels) for variant in self.variants)
        self.size = self.variant_count * self.samples * self.combinations
        if self.size >> INDEX_BITS:
            raise InputError(
                f"space: {self.size} configurations are more than 2**{INDEX_BITS}; use fewer values"
            )
        self._sobol = Sobol(len(self.drawn), seed)
        for number in range(self.variant_count):
            base = self.variant(number)
            check_values(base, self.slots, self._derived_paths)
            jax.eval_shape(self.with_derived, base)

    @property
    def slots(self) -> tuple[Slot | Continuum, ...]:
        """The axes that are decoded on the device, in the order of `Decoder.decoded`."""
        return (*self.enumerated, *self.drawn)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The numbers that the axes set, in the order of the columns of `Decoder.decoded`."""
        return tuple(path for slot in self.slots for path in slot.paths)

    @property
    def _derived_paths(self) -> tuple[Path, ...]:
        return tuple(path for paths in self.derived for path in paths)

    @property
    def levels(self) -> dict[str, int]:
        """How many values each axis has that is not a range."""
        slots = {slot.name: slot.levels for slot in self.slots if isinstance(slot, Slot)}
        return slots | {variant.name: len(variant.labels) for variant in self.variants}

    def variant(self, number: int) -> Question:
        """The scenario of a variant, its axes not yet set."""
        changes: dict[Path, Any] = {}
        for variant in self.variants:
            changes |= variant.changes[self.variant_levels(number)[variant.name]]
        return with_leaves(self.scenario, changes) if changes else self.scenario

    def variant_levels(self, number: int) -> dict[str, int]:
        """Which option of each choice a variant has."""
        digits = _digits(number, [len(variant.labels) for variant in self.variants])
        return {variant.name: digit for variant, digit in zip(self.variants, digits, strict=True)}

    def split(self, index: int) -> tuple[int, int, int]:
        """Variant, sample and combination of a configuration."""
        rest, combination = divmod(index, self.combinations)
        variant, sample = divmod(rest, self.samples)
        return variant, sample, combination

    def decoder(self, index: int) -> Decoder:
        """What the device needs to make the configurations from `index` on."""
        _, sample, combination = self.split(index)
        digits = _digits(combination, [slot.levels for slot in self.enumerated])
        return Decoder(np.asarray(digits, np.float32), *self._constants, self._sobol.place(sample))

    @cached_property
    def _constants(self) -> tuple[jax.Array, list[list[jax.Array]], list[Drawn | Span]]:
        """The parts of a decoder that no index changes."""
        radices = jnp.asarray([slot.levels for slot in self.enumerated], jnp.float32)
        tables = [slot.lookups for slot in self.enumerated]
        return radices, tables, [slot.on_device() for slot in self.drawn]

    def configuration(self, index: int) -> Question:
        """Configuration number `index`, which goes straight into `estimate` (of a mix, its parts).

        Raises:
            InputError: there is none of that number, or its numbers do not go together.
        """
        if not 0 <= index < self.size:
            raise InputError(
                f"index: {index} is not allowed; "
                f"the space has {self.size} configurations, from 0 on"
            )
        levels, columns = self._decoded([index])
        scenario = self.variant(self.split(index)[0])
        for slot, level in zip(self.slots, levels, strict=True):
            if isinstance(slot, Slot) and slot.options:
                scenario = with_leaves(scenario, slot.options[int(level[0])])
        numbers = {path: column[0] for path, column in zip(self.paths, columns, strict=True)}
        scenario = self.with_derived(with_leaves(scenario, numbers))
        for path in self._derived_paths:
            check_number("derived: ", scenario, path, leaf_at(scenario, path))
        enforce(conditions_within(scenario))
        return xp.of_numpy(scenario)

    def with_derived(self, scenario: Question) -> Question:
        """The scenario with the numbers that follow from others."""
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
        for slot, level in zip(self.slots, levels, strict=True):
            if isinstance(slot, Slot):
                table[slot.name] = [slot.labels[int(digit)] for digit in np.asarray(level)]
            else:
                column = columns[self.paths.index(slot.paths[0])]
                table[slot.name] = np.asarray(column, float).tolist()
        options = [self.variant_levels(self.split(index)[0]) for index in indices]
        for variant in self.variants:
            table[variant.name] = [variant.labels[each[variant.name]] for each in options]
        return {name: table[name] for name in self.axes}

    def numbers(self, indices: Sequence[int]) -> list[jax.Array]:
        """The numbers that the axes set, in the order of `paths`, at each of `indices`."""
        return self._decoded(indices)[1]

    def _decoded(self, indices: Sequence[int]) -> tuple[list[jax.Array], list[jax.Array]]:
        """Level and numbers of every axis at each of `indices`."""
        count = len(indices)
        extra = (1 << (count - 1).bit_length()) - count  # few lengths, few programs
        whole = np.pad(np.asarray(indices, np.int64), (0, extra), mode="edge")
        within_variant = whole % (self.samples * self.combinations)
        sample, combination = np.divmod(within_variant, self.combinations)
        starts = np.zeros((len(whole), len(self.enumerated)), np.float32)
        for axis in reversed(range(len(self.enumerated))):
            combination, starts[:, axis] = np.divmod(combination, self.enumerated[axis].levels)
        decoder = Decoder(starts, *self._constants, self._sobol.places(sample))
        return jax.tree.map(lambda column: column[:count], decode_each(decoder))

    def level_values(self, name: str) -> list[Any]:
        """The values of an axis: numbers, or labels.

        Raises:
            InputError: it is a range, or there is no such axis.
        """
        for slot in (*self.slots, *self.variants):
            if slot.name == name and not isinstance(slot, Continuum):
                return list(slot.labels)
        raise InputError(f"axis: {name!r} has no values one by one; it must be a grid or a choice")

    def description(self) -> dict[str, str]:
        """What makes it this space: digests of records, everything else in words."""
        axes = {f"axis {name}": _in_words(axis) for name, axis in self.axes.items()}
        derived = {
            f"derived {'+'.join(map(name_of, paths))}": expression.text
            for paths, expression in self.derived.items()
        }
        quantities = {
            f"quantity {name}": expression.text for name, expression in self.quantities.items()
        }
        return {
            "scenario": structure_digest(self.scenario),
            "samples": str(self.samples),
            "seed": str(self.seed),
            **axes,
            **derived,
            **quantities,
            "constraints": "; ".join(expression.text for expression in self.constraints),
            "axes": ", ".join(self.axes),
        }


def _in_words(axis: Axis) -> str:
    """An axis in words, with digests of records and of many numbers."""
    if isinstance(axis, Choice):
        digests = {label: structure_digest(option) for label, option in axis.options.items()}
        return f"{'sampled ' * axis.drawn}{digests}"
    if isinstance(axis, Grid) and len(axis.levels) > _SPELLED_OUT:
        digest = structure_digest(np.asarray(axis.levels))
        bounds = f"{len(axis.levels)} from {axis.levels[0]} to {axis.levels[-1]}"
        return f"{'sampled ' * axis.drawn}{bounds}, {digest}"
    return repr(axis)


def _digits(number: int, radices: Sequence[int]) -> list[int]:
    """The digits of `number`, most significant first, each with a radix of its own."""
    digits = []
    for radix in reversed(radices):
        number, digit = divmod(number, radix)
        digits.insert(0, digit)
    return digits
