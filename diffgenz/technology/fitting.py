"""The coefficients that public chips and priors together make most likely, and their covariance.

The logarithms of coefficients are normal about their priors, and observed areas, powers and costs
are log-normal about what the formulas say: maximum a posteriori is then least squares, and the
inverse of J'J at the solution, J being the Jacobian of all residuals, is the covariance (Laplace's
approximation). The priors matter: least squares without them sets the price of a FLOP to zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import numpy as np
from scipy.optimize import least_squares

from diffgenz.core.checks import unchecked
from diffgenz.core.differences import as_double, in_double, moves, slopes
from diffgenz.core.errors import InputError
from diffgenz.core.smooth import as_leaf
from diffgenz.hardware.design import Design
from diffgenz.hardware.platform import Platform
from diffgenz.technology.build import technology_of
from diffgenz.technology.chip import Chip, chip_of
from diffgenz.technology.coefficients import Coefficient, Technology, coefficients_of

OBSERVED = {"die_area": 0.05, "tdp": 0.10, "unit_cost": 0.10}
"""Quantities that are observed, and the standard deviation of the logarithm of one observation.

It is what formulas with so few terms leave over, not what a datasheet leaves open."""


@dataclass(frozen=True)
class Observed:
    """A chip and what is published of it.

    Arguments:
        name: of the accelerator.
        silicon: what its dies are called; chips of one silicon are left out together.
        chip: how it is built.
        published: the quantities of `OBSERVED` that are published: mm2, W, USD.
        estimated: whether its area was estimated from pictures, not stated by its maker: the
            deviation is then twice that of `OBSERVED`.
    """

    name: str
    silicon: str
    chip: Chip
    published: dict[str, float]
    estimated: bool = False

    def deviation(self, quantity: str) -> float:
        """The standard deviation of the logarithm of a published quantity."""
        return OBSERVED[quantity] * (2 if self.estimated and quantity == "die_area" else 1)


def observed_of(
    name: str,
    silicon: str,
    platform: Platform,
    tdp: float,
    technology: Technology,
    estimated: bool = False,
) -> Observed:
    """What an accelerator's file publishes of it.

    Arguments:
        name: of the accelerator.
        silicon: what its dies are called.
        platform: of the accelerator.
        tdp: W, as published. It is kept only where the file states what is sustained, without which
            it says little.
        technology: as for `chip_of`.
        estimated: whether its area is an estimate.

    Raises:
        InputError: its file does not say how it is built.
    """
    chip = chip_of(platform, technology)
    design = platform.accelerator.design
    assert isinstance(design, Design)  # or `chip_of` had raised
    stated = {"die_area": design.die_area, "unit_cost": design.unit_cost}
    published = {key: value for key, value in stated.items() if value is not None}
    if design.sustained_share is not None:
        published["tdp"] = tdp
    return Observed(name, silicon, chip, published, estimated)


class _Problem:
    """Least squares over the logarithms of the coefficients that are not known exactly.

    Everything is NumPy's in float64: the slopes to all coefficients are differences of columns
    (`core.differences`), which takes milliseconds and compiles nothing.
    """

    def __init__(self, prior: Technology, chips: Sequence[Observed]):
        known = coefficients_of(prior)
        self.prior = as_double(prior)
        self.names = tuple(name for name, each in known.items() if float(each.width) > 0)
        self.center = np.log([float(known[name].prior) for name in self.names])
        self.width = np.array([float(known[name].width) for name in self.names])
        self.chips = [as_double(each.chip) for each in chips]
        self.rows = [
            (index, key, float(np.log(value)))
            for index, each in enumerate(chips)
            for key, value in each.published.items()
        ]
        self.silicon = [chips[index].silicon for index, *_ in self.rows]
        self._deviations = np.array([chips[i].deviation(key) for i, key, _ in self.rows])
        self._published = np.array([value for *_, value in self.rows])

    def errors(self, logs: np.ndarray) -> np.ndarray:
        """The logarithms of what the formulas say over what is published, one for each row.

        Arguments:
            logs: of the coefficients; further axes are columns.
        """
        technology = with_values(self.prior, self.names, np.exp(logs))
        builds = [technology_of(chip, technology) for chip in self.chips]
        said = [np.log(getattr(builds[index], key)) for index, key, _ in self.rows]
        said = np.stack([np.broadcast_to(row, logs.shape[1:]) for row in said])
        return said - self._published.reshape(-1, *[1] * (logs.ndim - 1))

    def residuals(self, logs: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Of priors and rows, in standard deviations; rows of weight 0 are left out."""
        of_rows = weights * self.errors(logs) / self._deviations
        return np.concatenate([(logs - self.center) / self.width, of_rows])

    def jacobian(self, logs: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Of `residuals`, a row for each and a column for each coefficient."""
        count = len(logs)
        of_rows = slopes(self.errors(logs[:, None] + moves(count)), count)
        scaled = of_rows * (weights / self._deviations)[:, None]
        return np.vstack([np.diag(1 / self.width), scaled])

    def solved(self, weights: np.ndarray) -> np.ndarray:
        """The most likely logarithms where rows have `weights`."""
        exact: Any = self.jacobian  # SciPy's stubs know but names of difference schemes
        found = least_squares(self.residuals, self.center, exact, method="lm", args=(weights,))
        return found.x


def with_values(technology: Technology, names: Sequence[str], values: Any) -> Technology:
    """The technology with other values of some coefficients.

    Arguments:
        technology: the coefficients.
        names: of those that change, as in `coefficients_of`.
        values: in the order of names; JAX may trace them.

    Raises:
        InputError: a name that there is not.
    """
    known = coefficients_of(technology)
    for name in names:
        if name not in known:
            raise InputError(f"coefficient: {name!r} is not known; see coefficients_of(technology)")

    def places(tree: Technology) -> list[Any]:
        found = coefficients_of(tree)
        return [found[name].value for name in names]

    return eqx.tree_at(places, technology, [as_leaf(values[i]) for i in range(len(names))])


def fit_technology(prior: Technology, chips: Sequence[Observed]) -> Technology:
    """The most likely coefficients, their deviations and covariance.

    Arguments:
        prior: coefficients with priors; their values do not matter.
        chips: what is published of chips.

    Returns:
        the same coefficients with `value` and `deviation` fitted, and `covariance` of the
        logarithms of those that the chips say something about.

    Raises:
        InputError: no chip publishes anything.
    """
    problem = _Problem(prior, chips)
    if not problem.rows:
        raise InputError("chips: nothing is published of them; give some with area, TDP or cost")
    weights = np.ones(len(problem.rows))
    with in_double(), unchecked():
        logs = problem.solved(weights)
        jacobian = problem.jacobian(logs, weights)
    covariance = np.linalg.inv(jacobian.T @ jacobian)
    deviation = np.sqrt(np.diag(covariance))
    told = [i for i in range(len(logs)) if deviation[i] < 0.995 * problem.width[i]]
    fitted = {
        name: (float(np.exp(log)), float(each))
        for name, log, each in zip(problem.names, logs, deviation, strict=True)
    }
    return replace(
        _with_fit(prior, fitted),
        covariance=covariance[np.ix_(told, told)],
        uncertain=tuple(problem.names[i] for i in told),
    )


def _with_fit(record: Any, fitted: dict[str, tuple[float, float]], prefix: str = "") -> Any:
    """The record with the values and deviations of a fit, by name."""
    changes: dict[str, Any] = {}
    for name in type(record).__dataclass_fields__:
        value = getattr(record, name)
        if isinstance(value, Coefficient):
            at, deviation = fitted.get(f"{prefix}{name}", (value.prior, 0.0))
            changes[name] = value.replace(value=at, deviation=deviation)
        elif isinstance(value, dict):
            changes[name] = {
                key: _with_fit(part, fitted, f"{prefix}{name}.{key}.")
                for key, part in value.items()
            }
    return replace(record, **changes)


@dataclass(frozen=True)
class Error:
    """How far the formulas are off one published figure.

    Arguments:
        name: of the accelerator.
        quantity: "die_area", "tdp" or "unit_cost".
        published: mm2, W or USD.
        fitted: by how much they are off, relative to `published`, fitted to all chips.
        left_out: the same, fitted to all chips but those of the same silicon.
    """

    name: str
    quantity: str
    published: float
    fitted: float
    left_out: float


def errors_of(prior: Technology, chips: Sequence[Observed]) -> list[Error]:
    """How far the formulas are off what is published: of chips fitted to, and left out.

    Arguments:
        prior: coefficients with priors.
        chips: what is published of chips.
    """
    problem = _Problem(prior, chips)
    kinds = list(dict.fromkeys(problem.silicon))
    weights = np.array([[float(kind != each) for each in problem.silicon] for kind in kinds])
    weights = np.vstack([np.ones(len(problem.rows)), weights])
    with in_double(), unchecked():
        errors = np.expm1([problem.errors(problem.solved(one)) for one in weights])
    return [
        Error(
            chips[index].name,
            key,
            float(np.exp(value)),
            float(errors[0, row]),
            float(errors[1 + kinds.index(problem.silicon[row]), row]),
        )
        for row, (index, key, value) in enumerate(problem.rows)
    ]


def drawn(technology: Technology, seed: int, count: int) -> Technology:
    """Technologies as likely as the data leave them: each value is a column of `count`.

    Arguments:
        technology: coefficients with deviations; those of `uncertain` vary together.
        seed: of the random numbers.
        count: how many.
    """
    rng = np.random.default_rng(seed)
    return drawn_at(technology, rng.standard_normal((count, len(unsure(technology)))))


def unsure(technology: Technology) -> tuple[str, ...]:
    """The names of the coefficients that are not known exactly."""
    known = coefficients_of(technology)
    return tuple(name for name, each in known.items() if float(each.deviation) > 0)


def drawn_at(technology: Technology, steps: np.ndarray) -> Technology:
    """Technologies at standard normal steps: each value is a column.

    Arguments:
        technology: as in `drawn`.
        steps: along the principal directions of what is not known, of shape (draws, `unsure`).
    """
    known, names = coefficients_of(technology), unsure(technology)
    spread = np.diag([float(known[name].deviation) ** 2 for name in names])
    if technology.covariance is not None:
        places = [names.index(name) for name in technology.uncertain]
        spread[np.ix_(places, places)] = np.asarray(technology.covariance)
    variances, directions = np.linalg.eigh(spread)
    root = directions * np.sqrt(np.maximum(variances, 0))
    center = np.array([float(known[name].value) for name in names])
    return with_values(technology, names, (center * np.exp(steps @ root.T)).astype(np.float32).T)
