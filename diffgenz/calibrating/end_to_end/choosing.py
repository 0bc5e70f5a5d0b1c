"""Which terms are worth having: those that make latencies of runs that were held out less wrong.

The runs of each engine are fitted apart. From nothing, the term that lowers the held-out error most
is added, as long as one lowers it by `WORTH`. Then each deployment may get a pace of its own, drawn
towards 1, where that helps with loads of it that were held out.
"""

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

SPREAD = 0.15
"""Standard deviation of the logarithm of deployments' paces, before they are measured."""

_TOGETHER = 0.5
"""Share of a run's error that its deployment's other runs have, too: so many runs are not as many
independent ones."""


class Chosen(NamedTuple):
    """What was fitted to the runs of one engine.

    Arguments:
        found: its terms.
        paces: by deployment, ln of its own pace, and its standard deviation.
        losses: mean held-out loss with each further term: what was tried, by name.
        has_paces: whether deployments have paces of their own.
    """

    found: Found
    paces: dict[int, tuple[float, float]]
    losses: dict[str, float]
    has_paces: bool


def loss_of(errors: np.ndarray) -> float:
    """The mean of |ln(predicted / measured)|, of the errors that are known."""
    known = errors[np.isfinite(errors)]
    return float(np.abs(known).mean()) if len(known) else np.nan


def held_out(
    measured: Measured, free: np.ndarray, folds: np.ndarray, with_paces: bool
) -> np.ndarray:
    """`Measured.errors` of runs of which nothing was fitted; shape (runs, metrics).

    Arguments:
        measured: the runs.
        free: the terms.
        folds: of each run; shape (runs,).
        with_paces: whether deployments have paces of their own, from their runs in other folds.
    """
    errors = np.full(measured.logs.shape, np.nan)
    for fold in np.unique(folds):
        out = folds == fold
        weights = (~out).astype(float)
        none = np.zeros(len(folds))
        found = fitted(measured, free, weights)
        extra = none
        if with_paces:
            paces = paces_of(measured, found, weights)
            extra = np.array([paces.get(int(each), (0.0, 0.0))[0] for each in measured.clusters])
        errors[out] = measured.errors(found.values, extra)[out]
    return errors


def paces_of(
    measured: Measured, found: Found, weights: np.ndarray
) -> dict[int, tuple[float, float]]:
    """The pace of each deployment, as ln and its standard deviation, by its number.

    Two Gauss-Newton steps of a robust fit with a prior.

    Arguments:
        measured: the runs.
        found: the terms of their engine.
        weights: 1 for runs that count, 0 for others.
    """
    clusters = np.unique(measured.clusters[weights > 0])
    extra, spread = np.zeros(len(weights)), {}
    for _ in range(2):
        used = measured.used & (weights[:, None] > 0)
        errors = np.where(used, measured.errors(found.values, extra), 0.0)
        own = np.where(used, slopes_of(measured, found.values, extra)[..., -1], 0.0)
        pull = _TOGETHER / (SCALE**2 * np.sqrt(1 + (errors / SCALE) ** 2))
        for each in clusters:
            mine = measured.clusters == each
            curvature = (pull * own**2)[mine].sum() + SPREAD**-2
            here = float(extra[mine][0])
            step = -((pull * own * errors)[mine].sum() + here * SPREAD**-2) / curvature
            extra[mine] = here + float(np.clip(step, -0.5, 0.5))
            spread[int(each)] = float(curvature**-0.5)
    return {
        int(each): (float(extra[measured.clusters == each][0]), spread[int(each)])
        for each in clusters
    }


def chosen(
    measured: Measured,
    by_deployment: np.ndarray,
    by_configuration: np.ndarray,
    told: Callable[[str], None],
) -> Chosen:
    """The terms and paces of one engine that its runs speak for.

    Arguments:
        measured: its runs.
        by_deployment: the fold of each run where deployments are held out; shape (runs,).
        by_configuration: the same where configurations are.
        told: called with what is tried.
    """
    folds = by_deployment if len(np.unique(by_deployment)) > 2 else by_configuration
    free = np.zeros(len(TERMS), bool)
    best = loss_of(measured.errors(nothing().values, np.zeros(len(folds))))
    losses = {"nothing": best}
    enough = len(np.unique(folds)) > 1
    while enough and not free.all():
        tried = {}
        for place in np.flatnonzero(~free):
            told(f"trying {TERMS[place].what}")
            trial = free.copy()
            trial[place] = True
            tried[int(place)] = loss_of(held_out(measured, trial, folds, False))
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
        told("trying a pace of each deployment")
        without = loss_of(held_out(measured, free, by_configuration, False))
        losses["deployments"] = loss_of(held_out(measured, free, by_configuration, True))
        own = losses["deployments"] < without * (1 - WORTH)
    found = fitted(measured, free, np.ones(count))
    paces = paces_of(measured, found, np.ones(count)) if own else {}
    return Chosen(found, paces, losses, own)
