"""Fits without the terms that a kernel does not need, so that nothing is compiled for them.

Forms describe several kernels of several libraries, and each needs only some of the terms. Terms
that have a neutral value are left out as long as rows that are not fitted to are predicted as well:

1. A fifth of the rows that fits may see is set aside. The form with all of its terms is fitted to
   the others.
2. Each term alone is pinned at its neutral value, and the rest is fitted anew from where it was.
3. Of the terms in the order of the errors that this gave on the rows set aside, as many are left
   out together as keep that error within `WORTH` of the whole form's. 2 and 3 repeat.
4. What remains is fitted to all rows that fits may see.

The rows that are held out for reports take no part in it.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from diffgenz.calibrating.fitting import (
    ROWS,
    SAMPLE,
    Errors,
    Whitening,
    covariance,
    described,
    finalists,
    fit,
    minima,
    predict,
    rows_of,
    slopes,
    whitening,
)
from diffgenz.calibrating.samples import Samples, shape_hash
from diffgenz.kernels.fits import KernelFit
from diffgenz.kernels.form import Form

WORTH = 0.015
"""Relative growth of the mean error for which all terms that a kernel does not need may account."""

STARTS = 48
"""Points that the form with all of its terms starts from."""

FAR = 30.0
"""Distance of an unbounded parameter that stands for 0, or for its maximum."""

CHOICE_ROWS = 1024
"""Rows that are fitted to, and half as many as are predicted, while terms are chosen."""

CHOICE_STARTS = 4
"""Starts that go on with these rows."""


def fit_simplified(
    samples: Samples, hardware: Any, *, starts: int = STARTS, seed: int = 0
) -> KernelFit:
    """As `fitting.fit`, without the terms of the form that the rows do not need.

    Arguments are those of `fitting.fit`.
    """
    optional = [name for name, prior in samples.form.priors().items() if prior.neutral is not None]
    train = np.flatnonzero(~samples.held_out)
    aside = shape_hash(samples.only(train).shape) // np.uint64(5) % np.uint64(5) == 0
    if not optional or not aside.any() or aside.all():
        return fit(samples, hardware, starts=starts, seed=seed)
    with jax.enable_x64(True):
        doubles = type(hardware)(*(np.asarray(x, np.float64) for x in hardware))
        draws = np.random.default_rng(seed)
        seen, unseen = (draws.permutation(train[part]) for part in (~aside, aside))
        points = draws.normal(size=(starts, len(samples.form.priors())))
        points[0] = 0.0
        white = whitening(samples.form)
        few = rows_of(samples, doubles, seen[:SAMPLE])
        points, losses = minima(samples.form, points, white, few, 20)
        best = points[finalists(points, losses)[:CHOICE_STARTS]]
        choice = _Choice(
            samples.form,
            rows_of(samples, doubles, seen[:CHOICE_ROWS]),
            samples.only(unseen[: 2 * CHOICE_ROWS]),
            doubles,
        )
        absent, point = choice.unneeded(best, optional)
        white = pinned(samples.form, absent)
        rows = rows_of(samples, doubles, draws.permutation(train)[:ROWS])
        point = minima(samples.form, point[None], white, rows, 100)[0][0]
        known = covariance(*slopes(samples.form, point, white, rows))
        kept = np.array([name not in absent for name in samples.form.priors()])
        spread, free = white.spread[kept], white.centre + white.spread * point
        lean = dataclasses.replace(samples, form=samples.form.without(*absent))
        return described(
            lean, doubles, free[kept], known[np.ix_(kept, kept)] * np.outer(spread, spread)
        )


def pinned(form: type[Form], absent: list[str]) -> Whitening:
    """The map of points of `form` to parameters of which some stay at their neutral value."""
    white = whitening(form)
    centre, spread = white.centre.copy(), white.spread.copy()
    for index, (name, prior) in enumerate(form.priors().items()):
        if name in absent:
            far = FAR if prior.neutral == prior.maximum else -FAR
            is_inside = prior.neutral and prior.neutral < prior.maximum
            centre[index] = float(prior.free(np.float64(prior.neutral))) if is_inside else far
            spread[index] = 0.0
    return Whitening(centre, spread)


class _Choice(NamedTuple):
    """What terms are chosen by.

    Arguments:
        form: with all of its terms.
        rows: what is fitted to.
        unseen: what is predicted.
        hardware: what both run on, one accelerator.
    """

    form: type[Form]
    rows: Any
    unseen: Samples
    hardware: Any

    def unneeded(self, points: np.ndarray, optional: list[str]) -> tuple[list[str], np.ndarray]:
        """The terms that are not needed, and where the rest ended.

        Arguments:
            points: where the whole form starts from.
            optional: what may be left out.
        """
        absent: list[str] = []
        ends, losses = minima(self.form, points, whitening(self.form), self.rows, 60)
        point = ends[np.nanargmin(losses)]
        most = (1 + WORTH) * self.error(absent, point)
        while len(absent) < len(optional):
            singles = []
            for name in optional:
                if name not in absent:
                    singles.append((self.error(*self.refitted([*absent, name], point, 4)), name))
            singles = [(error, name) for error, name in sorted(singles) if error <= most]
            count = len(singles)
            while count:
                trial, end = self.refitted([*absent, *(n for _, n in singles[:count])], point, 60)
                if self.error(trial, end) <= most:
                    absent, point = trial, end
                    break
                count //= 2
            if not count:
                break
        return absent, point

    def refitted(
        self, absent: list[str], point: np.ndarray, steps: int
    ) -> tuple[list[str], np.ndarray]:
        """The same terms left out, and where a descent from `point` ends."""
        ends, _ = minima(self.form, point[None], pinned(self.form, absent), self.rows, steps)
        return absent, ends[0]

    def error(self, absent: list[str], point: np.ndarray) -> float:
        """The mean error on the rows set aside; infinite where it is not known."""
        white = pinned(self.form, absent)
        form = self.form.of_free(white.centre + white.spread * point)
        found = predict(form, self.unseen.shape, self.hardware)
        mean = Errors.of(found, self.unseen.seconds).mean
        return mean if np.isfinite(mean) else np.inf
