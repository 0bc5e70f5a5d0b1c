"""From rows as they were measured to rows that a fit can believe; what is left out is counted."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffgenz.calibrating.samples import Samples, padded
from diffgenz.core.errors import InputError
from diffgenz.core.formats import FORMATS
from diffgenz.hardware.specs import Spec
from diffgenz.kernels.form import Form, Work
from diffgenz.kernels.forms.elementwise import Elementwise
from diffgenz.kernels.forms.last_level_cache import cached
from diffgenz.kernels.hardware import Chip

IMPOSSIBLE_SHARE = 0.02
"""Share of rows that may be faster than the peak roofline (clocks above the datasheet's, caches): left out. Beyond it the kernel is refused."""

IN_CACHE_SHARE = 0.005
"""Share of rows that move their bytes faster than memory can, beyond which a last-level cache is part of what was measured."""


def lacks(spec: Spec, format: str) -> str | None:
    """The peak that kernels of `format` ("weights/activations" where they differ) need and the accelerator does not have; None where it has it."""
    peak = _peak(format)
    return None if peak in spec.peak_flops else peak


def _peak(format: str) -> str:
    weights, _, activations = format.partition("/")
    return max((FORMATS[weights], FORMATS[activations or weights]), key=lambda f: f.bits).peak


def chip_of(spec: Spec, format: str) -> Chip:
    """The accelerator as kernels of `format` see it.

    Raises:
        InputError: it does not multiply that format, or states no compute units or launch latency.
    """
    peak = _peak(format)
    if peak not in spec.peak_flops:
        raise InputError(
            f"{spec.id}: peak_flops: it has no {peak}, which rows in {format} need; add it to the accelerator's file"
        )
    for key in ("compute_units", "launch_latency"):
        if not spec.execution.get(key):
            raise InputError(
                f"{spec.id}: execution.{key}: it is not stated, and kernel models need it; add it to the accelerator's file"
            )
    return Chip(
        *(
            np.float64(x)
            for x in (
                spec.peak_flops[peak],
                spec.memory["bandwidth"],
                spec.execution["launch_latency"],
                spec.execution["compute_units"],
            )
        )
    )


def cleaned(samples: Samples, hardware: Any, file: Path | str) -> Samples:
    """`samples` without rows that are not finite and positive, repeat a shape, are bound by the host, or are impossible.

    Where many rows are faster than memory allows, their form becomes that with a last-level cache.

    Raises:
        InputError: no row is left, or too many rows are faster than the peak roofline, as with another unit of time.
    """
    columns = np.column_stack([*samples.shape, samples.seconds])
    samples = samples.only(
        np.isfinite(columns).all(axis=1) & (samples.seconds > 0), "not a positive number"
    )
    if not len(samples):
        raise InputError(
            f"{file}: {samples.family} {samples.format}: no row has a positive latency; check the latency column"
        )
    samples = _possible(_with_cache(samples, hardware), hardware, file).merged()
    floor = np.quantile(samples.seconds, 0.02)
    if floor > samples.form.host_floor * float(hardware.launch):
        samples = samples.only(
            samples.seconds > 1.5 * floor, f"bound by the host (a floor of {1e6 * floor:.0f} us)"
        )
    return samples


def _with_cache(samples: Samples, hardware: Any) -> Samples:
    if (
        samples.form.hardware is not Chip or samples.form is Elementwise
    ):  # which has a cache of its own
        return samples
    fast = samples.seconds < _least(samples, hardware)[0]
    return (
        dataclasses.replace(samples, form=cached(samples.form))
        if fast.mean() > IN_CACHE_SHARE
        else samples
    )


def _least(samples: Samples, hardware: Any) -> tuple[np.ndarray, np.ndarray]:
    """Seconds that each row's bytes need from memory, and that its executions need at least."""
    size = 1 << max(9, (len(samples) - 1).bit_length())
    with jax.enable_x64(True):
        found = _bounds(
            samples.form,
            type(samples.shape)(*(padded(column, size) for column in samples.shape)),
            hardware,
        )
    return np.asarray(found[0])[: len(samples)], np.asarray(found[1])[: len(samples)]


@jax.jit(static_argnums=0)
def _bounds(form: type[Form], shape: Any, hardware: Any) -> tuple[jax.Array, jax.Array]:
    work = form.work(shape)
    bound = work.bound(hardware)
    return work.moved / hardware.bandwidth + 0 * bound if isinstance(work, Work) else bound, bound


def _possible(samples: Samples, hardware: Any, file: Path | str) -> Samples:
    bound = _least(samples, hardware)[1]
    fast = samples.seconds < bound
    if fast.mean() > IMPOSSIBLE_SHARE:
        worst = np.argsort(samples.seconds / bound)[:3]
        rows = "; ".join(
            f"{', '.join(f'{name} {column[row]:g}' for name, column in zip(samples.shape._fields, samples.shape, strict=True))}: "
            f"{samples.seconds[row]:.3g} s, at best {bound[row]:.3g} s"
            for row in worst
        )
        factor = float(np.median(bound / samples.seconds))
        unit = (
            "; latencies look like another unit of time (this layout is read as documented)"
            if factor > 30
            else ""
        )
        raise InputError(
            f"{file}: {samples.family} {samples.format}: {fast.sum()} of {len(fast)} rows are faster than the accelerator's peaks allow ({rows})"
            f"{unit}; check the unit, and that --system is what was measured"
        )
    return samples.only(~fast, "faster than the peak roofline")
