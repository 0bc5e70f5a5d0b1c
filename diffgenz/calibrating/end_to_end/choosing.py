"""Which terms are worth having: those that make latencies of runs that were held out less wrong.

The runs of each engine are fitted apart. From nothing, the term that lowers the held-out error most
is added, as long as one lowers it by `WORTH`: the mean of what it is where deployments are held out
and, if there are several, where systems are, so that what only explains the systems that were
measured is not said of others. Then each deployment may differ from its engine in
its pace and in what its host adds, drawn towards no difference, where that helps with loads of it
that were held out. Of one configuration nothing can be held out: then the few terms that explain it
best are taken, no more than it has latencies.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from diffgenz.calibrating.end_to_end.fitting import (
    SCALE,
    Found,
    Measured,
    fitted,
    nothing,
    slopes_of,
)
from diffgenz.calibrating.end_to_end.terms import TERMS

WORTH = 0.01
"""By how much a term has to lower the mean held-out loss, relatively."""

SPREADS = np.array([0.15, 0.5])
"""Standard deviations of the logarithms of deployments' paces and hosts over their engine's,
before they are measured."""

_ROUNDS = 4

_TOGETHER = 0.5
"""Share of a run's error that its deployment's other runs have, too: so many runs are not as many
independent ones."""


class Own(NamedTuple):
    """By how much a deployment differs from its engine.

    Arguments:
        logs: ln of its pace and of its host over those of the engine; shape (2,).
        errors: their standard deviations; shape (2,).
    """

    logs: np.ndarray
    errors: np.ndarray


class Chosen(NamedTuple):
    """What was fitted to the runs of one engine.

    Arguments:
        found: its terms.
        own: by deployment, ln of its pace and of its host over those of the engine, and their
            standard deviations.
        losses: mean held-out loss with each further term: what was tried, by name.
        has_own: whether deployments differ from the engine.
    """

    found: Found
    own: dict[int, Own]
    losses: dict[str, float]
    has_own: bool


def loss_of(errors: np.ndarray) -> float:
    """The mean of |ln(predicted / measured)|, of the errors that are known."""
    known = errors[np.isfinite(errors)]
    return float(np.abs(known).mean()) if len(known) else np.nan


def held_out(measured: Measured, free: np.ndarray, folds: np.ndarray, with_own: bool) -> np.ndarray:
    """`Measured.errors` of runs of which nothing was fitted; shape (runs, metrics).

    Arguments:
        measured: the runs.
        free: the terms.
        folds: of each run; shape (runs,).
        with_own: whether deployments differ, as their runs in other folds say.
    """
    errors = np.full(measured.logs.shape, np.nan)
    for fold in np.unique(folds):
        out = folds == fold
        weights = (~out).astype(float)
        found = fitted(measured, free, weights)
        own = own_of(measured, found, weights) if with_own else {}
        errors[out] = measured.errors(found.values, extra_of(measured, own))[out]
    return errors


def extra_of(measured: Measured, own: dict[int, Own]) -> np.ndarray:
    """What `Lines.logs` takes of deployments; shape (runs, 2).

    Arguments:
        measured: the runs.
        own: by deployment; those that are not in it are as their engine.
    """
    same = Own(np.zeros(2), np.zeros(2))
    return np.stack([own.get(int(each), same).logs for each in measured.clusters])


def own_of(measured: Measured, found: Found, weights: np.ndarray) -> dict[int, Own]:
    """By how much each deployment differs, by its number.

    Gauss-Newton steps of a robust fit with a prior.

    Arguments:
        measured: the runs.
        found: the terms of their engine.
        weights: 1 for runs that count, 0 for others.
    """
    own = {
        int(each): Own(np.zeros(2), SPREADS) for each in np.unique(measured.clusters[weights > 0])
    }
    prior = np.diag(SPREADS**-2)
    for _ in range(_ROUNDS):
        extra = extra_of(measured, own)
        used = measured.used & (weights[:, None] > 0)
        errors = np.where(used, measured.errors(found.values, extra), 0.0)
        slopes = slopes_of(measured, found.values, extra)[..., -2:]
        slopes = np.where(used[..., None], slopes, 0.0)
        pull = _TOGETHER / (SCALE**2 * np.sqrt(1 + (errors / SCALE) ** 2))
        for each, now in own.items():
            mine = measured.clusters == each
            its = slopes[mine]
            curvature = np.einsum("rmi,rmj,rm->ij", its, its, pull[mine]) + prior
            force = np.einsum("rmi,rm->i", its, (pull * errors)[mine]) + prior @ now.logs
            step = np.clip(np.linalg.solve(curvature, force), -0.5, 0.5)
            own[each] = Own(now.logs - step, np.sqrt(np.diag(np.linalg.inv(curvature))))
    return own


def chosen(
    measured: Measured,
    by_deployment: np.ndarray,
    by_configuration: np.ndarray,
    by_system: np.ndarray,
    told: Callable[[str], None],
) -> Chosen:
    """The terms of one engine, and differences of its deployments, that its runs speak for.

    Arguments:
        measured: its runs.
        by_deployment: the fold of each run where deployments are held out; shape (runs,).
        by_configuration: the same where configurations are.
        by_system: the same where systems are.
        told: called with what is tried.
    """
    folds = by_deployment if len(np.unique(by_deployment)) > 2 else by_configuration
    foldings = [folds, *([by_system] if len(np.unique(by_system)) > 1 else [])]
    free = np.zeros(len(TERMS), bool)
    best = loss_of(measured.errors(nothing().values, np.zeros((len(folds), 2))))
    losses = {"nothing": best}
    enough = len(np.unique(folds)) > 1
    if not enough:
        free = _explaining(measured, int(measured.used.sum()))
    while enough and not free.all():
        tried = {}
        for place in np.flatnonzero(~free):
            told(f"trying {TERMS[place].what}")
            trial = free.copy()
            trial[place] = True
            losses_of = [loss_of(held_out(measured, trial, each, False)) for each in foldings]
            tried[int(place)] = float(np.mean(losses_of))
        place = min(tried, key=lambda each: tried[each])
        for each, loss in tried.items():
            losses.setdefault(TERMS[each].name, loss)
        if not tried[place] < best * (1 - WORTH):
            break
        free[place], best = True, tried[place]
        losses[TERMS[place].name] = best
    count = len(folds)
    own = False
    if len(np.unique(by_configuration)) > 1:
        told("trying differences of deployments")
        without = loss_of(held_out(measured, free, by_configuration, False))
        losses["deployments"] = loss_of(held_out(measured, free, by_configuration, True))
        own = losses["deployments"] < without * (1 - WORTH)
    found = fitted(measured, free, np.ones(count))
    differing = own_of(measured, found, np.ones(count)) if own else {}
    return Chosen(found, differing, losses, own)


def _explaining(measured: Measured, most: int) -> np.ndarray:
    """The few terms that explain runs best, those first that are tried first.

    Arguments:
        measured: the runs.
        most: how many there may be.
    """
    none, ones = np.zeros((len(measured.logs), 2)), np.ones(len(measured.logs))
    losses = {}
    for count in range(1, min(most, 2) + 1):
        for places in itertools.combinations(range(len(TERMS)), count):
            free = np.isin(np.arange(len(TERMS)), places)
            values = fitted(measured, free, ones).values
            losses[places] = loss_of(measured.errors(values, none))
    best = min(losses.values())
    places = next(each for each, loss in losses.items() if loss <= best + WORTH / 2)
    return np.isin(np.arange(len(TERMS)), places)
