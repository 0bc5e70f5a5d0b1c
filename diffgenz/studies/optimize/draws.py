"""Draws of what is not known for sure: numbers, fitted kernels, and what technology takes.

Each number is drawn from as many equally likely parts of its distribution as there are draws, one
from each, in an order of its own (Latin hypercube; McKay et al., 1979). Its random numbers depend
on its name and the seed alone, so that plans, formats and systems are compared at the same draws.
"""

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri

from diffgenz.core import xp
from diffgenz.core.errors import InputError
from diffgenz.core.leaves import Path, leaf_names, number_at, with_leaves, with_unset
from diffgenz.core.sections import said_of
from diffgenz.inference.uncertainty import drawn_library, fits_in_use
from diffgenz.scenario.mix import Mix, Question, parts_of, paths_named
from diffgenz.studies.expressions import Expression
from diffgenz.studies.optimize.choices import Chosen
from diffgenz.studies.optimize.distributions import Distribution, middle, quantiles
from diffgenz.studies.optimize.figures import COEFFICIENT
from diffgenz.studies.optimize.problem import Problem
from diffgenz.studies.optimize.quadratic import Numbers
from diffgenz.studies.optimize.variables import COUNTED
from diffgenz.technology.coefficients import coefficients_of
from diffgenz.technology.files import load_technology
from diffgenz.technology.fitting import drawn_at, unsure

DRAWS, MOST_DRAWS = 64, 4096


@dataclasses.dataclass(frozen=True)
class Uncertainty:
    """What is not known for sure, and how often it is drawn.

    Arguments:
        numbers: from names of numbers of the question, or of quantities that are plain numbers, to
            their distributions (`lognormal`, `normal`, `uniform`, `log_uniform`, `values`). They
            are drawn independently; counts of requests and tokens are rounded to whole ones. Their
            medians replace what the question says.
        calibration: whether fitted kernels are drawn, from the covariance of their parameters and
            the scatter of what was measured.
        technology: whether coefficients of technology are drawn, from the covariance of their fit.
        draws: how many draws an optimum is found with, at least 1.
        seed: of the draws.

    Raises:
        InputError: nothing is uncertain, or the draws are not so many.
    """

    numbers: Mapping[str, Distribution] = dataclasses.field(default_factory=dict)
    calibration: bool = False
    technology: bool = False
    draws: int = DRAWS
    seed: int = 0

    def __post_init__(self):
        if not (self.numbers or self.calibration or self.technology):
            raise InputError(
                "uncertain: nothing is; name a number, or set calibration or technology"
            )
        if not 1 <= self.draws <= MOST_DRAWS:
            raise InputError(
                f"draws: {self.draws} is not allowed; it must be between 1 and {MOST_DRAWS:,}"
            )


class Draws(NamedTuple):
    """Draws of numbers.

    Arguments:
        chosen: the numbers.
        table: in SI, of shape (draws, numbers).
    """

    chosen: tuple[Chosen, ...]
    table: Numbers


def unit_of_uncertain(question: Question, quantities: Mapping[str, str], name: str) -> str:
    """The SI unit of a number that shall be uncertain.

    Raises:
        InputError: an unknown name.
    """
    if name in quantities:
        return "1"
    with said_of(f"uncertain[{name}]"):
        question = with_unset(question, name, 1.0)
        about = number_at(question, paths_named(question, name)[0])
    return "1" if about is None else about.unit


def at_medians(
    question: Question, quantities: Mapping[str, str], uncertain: Uncertainty
) -> tuple[Question, dict[str, str]]:
    """The question and its quantities with the medians of uncertain numbers.

    Raises:
        InputError: an unknown name, a formula or a count that is not drawn, a median that the
            number's record refuses.
    """
    formulas = dict(quantities)
    for name, distribution in uncertain.numbers.items():
        place = f"uncertain[{name}]"
        if name in quantities:
            formula = Expression(quantities[name])
            if formula.names:
                raise InputError(
                    f"{place}: it is a formula ({formula.text}); name a number that is in it"
                )
            formulas[name] = repr(middle(distribution))
            continue
        with said_of(place):
            question = with_unset(question, name, 1.0)
            paths = paths_named(question, name)
        about = number_at(question, paths[0])
        if about is not None and (about.structure or about.whole):
            raise InputError(f"{place}: it counts {about.whole or 'structure'} and is not drawn")
        (median,) = _checked(question, name, paths, np.array([middle(distribution)]))
        question = with_leaves(question, dict.fromkeys(paths, xp.asarray(median, float)))
    return question, formulas


def draws_of(problem: Problem, uncertain: Uncertainty, count: int, salt: int = 0) -> Draws:
    """Draws for a problem.

    Arguments:
        problem: at the medians.
        uncertain: what is drawn.
        count: how many draws.
        salt: another one gives other draws.

    Raises:
        InputError: a number that is free, derived or chosen; kernels that are not fitted;
            technology that no formula needs; a draw that the number's record refuses.
    """
    rng = _Shares(uncertain.seed, salt, count)
    columns: dict[Chosen, Numbers] = {}
    taken = {path for each in (*problem.variables, *problem.chosen) for path in each.paths}
    taken |= {path for paths in problem.derived for path in paths}
    own = {each.name for each in (*problem.variables, *problem.chosen)}
    for name, distribution in uncertain.numbers.items():
        paths = () if name in problem.quantities else paths_named(problem.question, name)
        if name in own or set(paths) & taken:
            raise InputError(
                f"uncertain[{name}]: it is free (over), derived or chosen; leave it out of one of "
                "them, or name a quantity that it is derived from"
            )
        taken |= set(paths)
        drawn = quantiles(distribution, rng.of(name))
        columns[Chosen(name, paths)] = _checked(problem.question, name, paths, drawn)
    if uncertain.calibration:
        columns |= _calibrations(problem.question, rng)
    if uncertain.technology:
        if problem.design is None:
            raise InputError(
                "technology: no formula names what an accelerator takes to build, such as "
                "die_area, tdp or unit_cost; leave technology out of what is uncertain"
            )
        columns |= _technologies(rng)
    return Draws(tuple(columns), np.stack(list(columns.values()), axis=1))


class _Shares:
    """Shares of the draws of numbers, each from a part of its own."""

    def __init__(self, seed: int, salt: int, count: int):
        self._seed, self.salt, self.count = seed, salt, count

    def of(self, name: str) -> Numbers:
        """Shares between 0 and 1, of shape (count,)."""
        rng = self._generator(name)
        inside = np.clip(rng.random(self.count), 1e-6, 1 - 1e-6)
        return (rng.permutation(self.count) + inside) / self.count

    def _generator(self, name: str) -> np.random.Generator:
        return np.random.default_rng([self._seed, self.salt, zlib.crc32(name.encode())])


def _checked(question: Any, name: str, paths: tuple[Path, ...], drawn: Numbers) -> Numbers:
    """The draws, whole where they count; none that the record refuses."""
    if not paths:
        return drawn
    if getattr(paths[0][-1], "name", "") in COUNTED:
        drawn = np.maximum(np.round(drawn), 1.0)
    about = number_at(question, paths[0])
    if about is not None:
        try:
            for end in (float(drawn.min()), float(drawn.max())):
                about.check(f"uncertain[{name}]", end)
        except InputError as error:
            raise InputError(f"{error}, and a draw is; narrow the distribution") from None
    return drawn


def _calibrations(question: Question, rng: _Shares) -> dict[Chosen, Numbers]:
    """Draws of the parameters and levels of the kernels that time the question."""
    places = {name: path for name, path in leaf_names(question).items() if ".kernels." in name}
    found: dict[tuple[str, ...], tuple[list[Path], Numbers]] = {}
    for number, part in enumerate(parts_of(question)):
        library = part.platform.accelerator.kernels
        fits = fits_in_use(part)
        if library is None or not fits:
            raise InputError(
                f"calibration: the kernels of {part.platform.accelerator.name} are not fitted; "
                "load the platform with a fit, or leave calibration out of what is uncertain"
            )
        steps = []
        for fit in fits:
            names = (f"{fit.family} {fit.format} {fit.source} {i}" for i in range(100))
            steps.append(
                np.stack([ndtri(rng.of(next(names))) for _ in range(len(fit.covariance) + 1)], 1)
            )
        moved = drawn_library(library, fits, steps)
        whole = f"scenarios[{number}]." if isinstance(question, Mix) else ""
        for fit in fits:
            form = f"platform.accelerator.kernels.forms[{fit.family}][{fit.format}]"
            for name in leaf_names(moved.forms[fit.family][fit.format]):
                value = getattr(moved.forms[fit.family][fit.format], name)
                column = np.broadcast_to(np.asarray(value, float), (rng.count,))
                key = fit.source, fit.data, form, name
                found.setdefault(key, ([], column))[0].append(places[f"{whole}{form}.{name}"])
    return {
        Chosen(f"{key[2]}.{key[3]}", tuple(paths)): column for key, (paths, column) in found.items()
    }


def _technologies(rng: _Shares) -> dict[Chosen, Numbers]:
    """Draws of all coefficients of technology that are not known exactly."""
    names = unsure(load_technology())
    steps = [ndtri(rng.of(f"technology {place}")) for place in range(len(names))]
    moved = coefficients_of(drawn_at(load_technology(), np.stack(steps, axis=1)))
    return {Chosen(COEFFICIENT + name, ()): np.asarray(moved[name].value, float) for name in names}
