"""What all measured GPUs have in common, for those without measurements.

One set of parameters is fitted to a sample of every GPU's rows together. Their covariance is that
of the GPUs' own fits around it: how far a GPU that was never measured may be off. The errors
reported are those of leaving one GPU out: each is predicted from the others, and the worst counts
as much as the best.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from diffgenz.calibrating.fitting import CENTRAL_80, Errors, deviation, fit, predict
from diffgenz.calibrating.samples import Samples, shape_hash
from diffgenz.kernels.fits import KernelFit
from diffgenz.kernels.selection import TRANSFERRED

FEWEST = 3
"""GPUs that are needed at least: two say too little of how far a third may be off."""

ROWS = 256
"""Rows of each GPU that is left out, by which the others' parameters are judged."""

POOL = 640
"""Rows of all GPUs together that are fitted to.

As many are taken of each, so that none counts more than another.
"""

STARTS = 16
"""Points that a fit to all GPUs starts from."""


class Measured(NamedTuple):
    """One kernel as measured on one accelerator.

    Arguments:
        system: id of the accelerator.
        samples: the cleaned rows.
        hardware: what they run on.
        fit: of these rows.
    """

    system: str
    samples: Samples
    hardware: Any
    fit: KernelFit


def transferred(measured: Sequence[Measured]) -> list[KernelFit]:
    """A fit for each family and format that at least `FEWEST` accelerators were measured in."""
    groups: dict[tuple[str, str], dict[str, Measured]] = {}
    for each in measured:
        group = groups.setdefault((each.samples.family, each.samples.format), {})
        group.setdefault(each.system, each)
    alike = (_of_one_form(list(group.values())) for group in groups.values())
    return [_transferred(group) for group in alike if len(group) >= FEWEST]


def _of_one_form(group: list[Measured]) -> list[Measured]:
    """The members whose form most of them have."""
    forms = [each.samples.form for each in group]
    common = max(forms, key=forms.count)
    return [each for each in group if each.samples.form is common]


def _transferred(group: list[Measured]) -> KernelFit:
    """What `group` has in common, with the errors of leaving each member out."""
    parts = []
    for index, each in enumerate(group):
        others = _common(group[:index] + group[index + 1 :])
        rows = each.samples.only(_some(each.samples))
        seconds = predict(others.fitted, rows.shape, each.hardware)
        parts.append((rows.seconds, seconds, deviation(others, rows.shape, each.hardware)))
    seconds, predicted, deviations = (np.concatenate(part) for part in zip(*parts, strict=True))
    errors = Errors.of(predicted, seconds)
    return dataclasses.replace(
        _common(group),
        mean_error=errors.mean,
        median_error=errors.median,
        held_out=errors.rows,
        coverage=float(np.mean(np.abs(np.log(seconds / predicted)) <= CENTRAL_80 * deviations)),
    )


def _common(group: list[Measured]) -> KernelFit:
    """What `group` has in common, and how far its members are from it."""
    pooled = _pooled(group)
    own = np.stack([np.asarray(each.fit.fitted.free, float) for each in group])
    away = own - np.asarray(pooled.fitted.free, float)
    return dataclasses.replace(
        pooled,
        source=TRANSFERRED,
        kernel=", ".join(f"{each.system} {each.samples.source}" for each in group),
        covariance=pooled.covariance + away.T @ away / max(len(group) - 1, 1),
        scatter=float(np.sqrt(np.mean([each.fit.scatter**2 for each in group]))),
    )


def _pooled(group: Sequence[Measured]) -> KernelFit:
    """One fit to some rows of all; the hardware is then a column for each of its numbers."""
    parts = [each.samples.only(_some(each.samples, POOL // len(group))) for each in group]
    counts = [len(part) for part in parts]
    columns = zip(*(part.shape for part in parts), strict=True)
    numbers = zip(*(each.hardware for each in group), strict=True)
    shape = type(parts[0].shape)(*map(np.concatenate, columns))
    hardware = type(group[0].hardware)(
        *(np.repeat(np.asarray(each, float), counts) for each in numbers)
    )
    seconds = np.concatenate([part.seconds for part in parts])
    pooled = dataclasses.replace(parts[0], shape=shape, seconds=seconds, dropped={})
    return fit(pooled, hardware, starts=STARTS)


def _some(samples: Samples, rows: int = ROWS) -> np.ndarray:
    """Indices of up to `rows` rows: the same shapes on every accelerator that has them."""
    return np.argsort(shape_hash(samples.shape))[:rows]
