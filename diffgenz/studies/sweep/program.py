"""The device's part of a sweep: decode a batch, estimate it, screen it.

These are three programs, so that none recomputes another's numbers. `_decode` turns an index into
columns, `_estimate` turns columns into the metrics that anything asks for, `_screen` says which
configurations are feasible and which of those a reduction may want. Only the last sees constraints,
quantities and reductions; the first two are compiled once for all questions about a space of the
same structure.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core import xp
from diffgenz.core.batches import wide_vectors
from diffgenz.core.errors import InputError, unknown
from diffgenz.core.leaves import called, leaf_names, number_at, with_leaves
from diffgenz.core.record import unnamed
from diffgenz.core.tree import Tree
from diffgenz.core.verb import as_if_traced
from diffgenz.scenario.mix import number_named, paths_named
from diffgenz.serving.load_metrics import EVERY_METRIC
from diffgenz.serving.under_load import UnderLoad, answers_of, demand_sensible, names_of
from diffgenz.studies.expressions import Expression
from diffgenz.studies.sweep.built import design_of_space, platform_of
from diffgenz.studies.sweep.checks import CONDITIONS
from diffgenz.studies.sweep.decoder import Decoder, padded
from diffgenz.studies.sweep.reductions.reduction import Reduction
from diffgenz.studies.sweep.space import Space
from diffgenz.technology.build import QUANTITIES, quantities_of

Column = jax.Array | np.ndarray
Columns = Mapping[str, Column]
"""Numbers by name, each with one entry for each configuration."""


class Screened(Tree):
    """What comes of a batch of configurations.

    Arguments:
        columns: the numbers that reductions asked for.
        keep: for each reduction, which configurations it may want; None: none of them.
        legal: how many configurations have numbers that go together.
        broken: how many of the legal ones have a metric that is not finite.
        feasible: how many meet all constraints.
        summaries: of the batch, one for each reduction.
    """

    columns: Columns
    keep: tuple[jax.Array | None, ...]
    legal: jax.Array
    broken: jax.Array
    feasible: jax.Array
    summaries: tuple[Any, ...]


class Program:
    """The batches of one variant of a space.

    Arguments:
        space: what is estimated.
        variant: which variant of it.
        reductions: what is kept of them.
        batch: configurations of one call.
        sharding: how the configurations of a batch are spread over devices; None: on one.

    Raises:
        InputError: a name that is neither a metric nor a number nor a quantity.
    """

    def __init__(
        self,
        space: Space,
        variant: int,
        reductions: Sequence[Reduction],
        batch: int,
        sharding: Any = None,
    ):
        self.space = space
        self._reductions = tuple(reductions)
        self._wanted = tuple(
            dict.fromkeys(
                expression for reduction in reductions for expression in reduction.expressions
            )
        )
        self._base = unnamed(space.variant(variant))
        self._variant_levels = space.variant_levels(variant)
        self._names = [slot.name for slot in space.slots]
        wanted_axes = {name for reduction in reductions for name in reduction.axes}
        self._asked = tuple(axis for axis, name in enumerate(self._names) if name in wanted_axes)
        offsets = jnp.arange(batch, dtype=jnp.uint32)
        self._run = sharding is None
        self._offsets = offsets if sharding is None else jax.device_put(offsets, sharding)
        leaves, structure = jax.tree.flatten(self._base)
        self._few = answered_in_numpy(space)
        if not self._few:
            leaves = [jnp.asarray(leaf) for leaf in leaves]  # once, not for every batch
        self._leaves = leaves
        quantities = tuple(space.quantities.items())
        names = self._raw_names(dict(quantities))
        self._estimated = _Static(
            structure,
            space.paths,
            tuple(space.derived.items()),
            names,
            design_of_space(space, variant, names),
        )
        self._screened = _Static(self._wanted, space.constraints, quantities, self._reductions)

    def dispatch(self, start: int, count: int, thresholds: Sequence[Any]) -> Screened:
        """Start a batch of configurations; asynchronous, like everything in JAX.

        Arguments:
            start: index of its first configuration.
            count: how many they are.
            thresholds: of each reduction, what its `screen` compares with.
        """
        levels, columns = _decode(self._asked, self.space.decoder(start), self._offsets, self._run)
        if self._few:
            few = [np.asarray(column)[:count] for column in columns]
            raw = _in_numpy(self._estimated, self._leaves, few)
            rest = (0, len(self._offsets) - count)
            raw = {name: np.pad(column, rest, mode="edge") for name, column in raw.items()}
        else:
            raw = _estimate(self._estimated, self._leaves, columns)
        return _screen(
            self._screened,
            raw,
            self._level_columns(levels),
            self._offsets,
            np.uint32(count),
            tuple(thresholds),
        )

    def _level_columns(self, levels: list[jax.Array]) -> Columns:
        """The levels of the axes that reductions ask for."""
        of_axes = {
            self._names[axis]: level for axis, level in zip(self._asked, levels, strict=True)
        }
        of_axes |= {name: jnp.float32(level) for name, level in self._variant_levels.items()}
        return {
            f"level of {name}": of_axes[name]
            for reduction in self._reductions
            for name in reduction.axes
        }

    def _raw_names(self, quantities: dict[str, Expression]) -> tuple[str, ...]:
        """The metrics and numbers that all formulas come down to."""
        known = {*names_of(self._base), *QUANTITIES}
        names = {"legal"}
        waiting = [
            name
            for expression in (*self._wanted, *self.space.constraints)
            for name in expression.names
        ]
        seen: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name not in quantities:
                demand_sensible(self._base, name, "space")
            if name in quantities:
                if name in seen:
                    continue
                seen.add(name)
                waiting += quantities[name].names
            elif name in known:
                names.add(name)
            elif name in EVERY_METRIC and EVERY_METRIC[name].needs:
                raise InputError(f"{name}: needs {EVERY_METRIC[name].needs}")
            else:
                if not any(called(full, name) for full in leaf_names(self._base)):
                    raise unknown("name", name, {*known, *quantities, *self.space.axes})
                paths_named(self._base, name)  # which of several it is must be clear
                names.add(name)
        return tuple(sorted(names))


class _Static:
    """What a compiled function depends on, hashed once.

    Hashing a model's structure for every batch would take longer than the batch.
    """

    def __init__(self, *parts: Any):
        self.parts = parts
        self._hash = hash(parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Static) and (self is other or self.parts == other.parts)


@partial(jax.jit, static_argnums=(0, 3))
def _decode(
    asked: tuple[int, ...], decoder: Decoder, offsets: jax.Array, run: bool
) -> tuple[list[jax.Array], list[jax.Array]]:
    levels, columns = decoder.decoded(offsets, run=run)
    return [levels[axis] for axis in asked], columns


FEW = 2**17
"""Configurations of a variant that NumPy estimates sooner than a program is compiled for them."""

FEW_UNDER_LOAD = 200
"""The same of configurations under a load, which take some hundredths of a second each."""


def answered_in_numpy(space: Space) -> bool:
    """Whether NumPy estimates the configurations of a space: where there are too few to compile."""
    few = FEW_UNDER_LOAD if isinstance(space.scenario, UnderLoad) else FEW
    return space.size // space.variant_count <= few


@partial(jax.jit, static_argnums=0, compiler_options=wide_vectors())
def _estimate(static: _Static, leaves: list[jax.Array], columns: list[jax.Array]) -> Columns:
    return jax.vmap(partial(_answers, static, leaves))(columns)


def _in_numpy(static: _Static, leaves: Sequence[Any], columns: Sequence[Any]) -> Columns:
    """`_estimate` by NumPy's columns, which compiles nothing."""
    numbers = [np.asarray(column) for column in columns]
    with as_if_traced():
        found = _answers(static, leaves, numbers)
    count = max(map(np.size, numbers), default=1)
    return {name: np.broadcast_to(np.asarray(value), (count,)) for name, value in found.items()}


def _answers(static: _Static, leaves: Sequence[Any], numbers: Sequence[Any]) -> dict[str, Any]:
    structure, paths, derived, names, design = static.parts
    scenario = jax.tree.unflatten(structure, leaves)
    scenario = with_leaves(scenario, dict(zip(paths, numbers, strict=True)))
    good = xp.asarray(True)  # the numbers of axes were checked when the space was made
    for places, expression in derived:
        value = xp.asarray(expression(partial(number_named, scenario)), np.float32)
        good = good & xp.isfinite(value)
        for about in (number_at(scenario, place) for place in places):
            good = good if about is None else good & about.holds(value)
        scenario = with_leaves(scenario, dict.fromkeys(places, value))
    metrics = answers_of(scenario, names)
    metrics["legal"] = metrics["legal"] & good
    if design is not None:
        metrics |= quantities_of(platform_of(scenario), design)
    return {
        name: metrics[name] if name in metrics else number_named(scenario, name) for name in names
    }


@partial(jax.jit, static_argnums=0)
def _screen(
    static: _Static,
    raw: Columns,
    levels: Columns,
    offsets: jax.Array,
    count: jax.Array,
    thresholds: tuple[Any, ...],
) -> Screened:
    wanted, constraints, quantities, reductions = static.parts
    lookup = _lookup(dict(quantities), raw)
    there = offsets < count
    columns = {
        expression.text: jnp.asarray(expression(lookup), jnp.float32) + jnp.zeros(offsets.shape)
        for expression in wanted
    }
    finite = there
    for column in columns.values():
        finite = finite & jnp.isfinite(column)
    legal = there & raw["legal"]
    feasible = legal & finite
    for constraint in constraints:
        feasible = feasible & constraint(lookup)
    columns |= {
        name: jnp.asarray(level, jnp.float32) + jnp.zeros(offsets.shape)
        for name, level in levels.items()
    }
    screened = [
        reduction.screen(columns, feasible, threshold)
        for reduction, threshold in zip(reductions, thresholds, strict=True)
    ]
    keep, summaries = (tuple(part) for part in zip(*screened, strict=True))
    return Screened(columns, keep, legal.sum(), (legal & ~finite).sum(), feasible.sum(), summaries)


def _lookup(quantities: Mapping[str, Expression], raw: Columns) -> Callable[[str], Column]:
    """From a name to its column: what the formula of a quantity gives, else what was estimated."""

    def lookup(name: str) -> Column:
        return quantities[name](lookup) if name in quantities else raw[name]

    return lookup


def metrics_at(space: Space, indices: Sequence[int]) -> dict[str, list[float]]:
    """Quantities and metrics of single configurations, each a column.

    Where only some variants have a metric, the others have NaN.
    """
    columns: dict[str, list[float]] = {}
    for variant in range(space.variant_count):
        mine = [place for place, index in enumerate(indices) if space.split(index)[0] == variant]
        if not mine:
            continue
        own = [indices[place] for place in mine]
        found = _variant_metrics(space, own, variant)
        for name, values in found.items():
            column = columns.setdefault(name, [float("nan")] * len(indices))
            for place, value in zip(mine, values, strict=True):
                column[place] = value
    return columns


def _place(name: str) -> tuple[int, str]:
    """Where a metric, such as "tpot" or the "tpot[1]" of a mix, stands among all."""
    return [*EVERY_METRIC].index(name.partition("[")[0]), name


def _variant_metrics(space: Space, indices: Sequence[int], variant: int) -> dict[str, list[float]]:
    """`metrics_at` of configurations of one variant."""
    base = unnamed(space.variant(variant))
    leaves, structure = jax.tree.flatten(base)
    metrics = sorted(names_of(base) - {*CONDITIONS}, key=_place)
    used = {name for expression in space.quantities.values() for name in expression.names}
    names = tuple(sorted({*metrics, *used, "legal"} - space.quantities.keys()))
    design = design_of_space(space, variant, names)
    static = _Static(structure, space.paths, tuple(space.derived.items()), names, design)
    numbers = [np.asarray(column) for column in space.numbers(indices)]
    if isinstance(space.scenario, UnderLoad) and len(indices) > FEW_UNDER_LOAD:
        raw = _estimate(static, leaves, [padded(column) for column in numbers])
        raw = {name: np.asarray(column)[: len(indices)] for name, column in raw.items()}
    else:
        raw = _in_numpy(static, leaves, numbers)
    lookup = _lookup(space.quantities, raw)
    return {
        name: np.broadcast_to(np.asarray(lookup(name), float), (len(indices),)).tolist()
        for name in (*space.quantities, *metrics)
    }
