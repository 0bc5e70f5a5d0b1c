"""From rows as they were measured to rows that a fit can believe; what is left out is counted."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffgenz.calibrating.fall_backs import of_one_kernel
from diffgenz.calibrating.samples import Samples, padded
from diffgenz.core.errors import InputError
from diffgenz.kernels.form import Form, Work
from diffgenz.kernels.forms.attention_prefill import Prefill
from diffgenz.kernels.forms.elementwise import Elementwise
from diffgenz.kernels.forms.last_level_cache import cached
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.shapes import Number

IMPOSSIBLE_SHARE = 0.02
"""Share of rows that may be faster than the peak roofline, and are left out.

Clocks above the datasheet's and caches explain a few; with more of them the kernel is refused.
"""

IN_CACHE_SHARE = 0.005
"""Share of rows that may move their bytes faster than memory can.

With more of them, a last-level cache is part of what was measured.
"""

SLOW_REFILL = 50e-6
"""Seconds that memory takes to fill the last-level cache, from which prompts are measured in it.

It takes 71 to 160 us on NVIDIA's GPUs with GDDR and a large cache, and 10 to 20 us on those with
HBM. Prompts are bound by compute, so that no row of theirs is faster than memory, even where that
is what slows them.
"""

HOST_SHARE = 0.5
"""Share of rows that may be bound by the host, and are left out.

With more of them, the rest contains the host's time as well, and a fit to it is no kernel's.
"""

TOO_SLOW = 1000.0
"""How many times a launch and the peak roofline a kernel's rows may take, in the median.

Kernels take a few times as much, and tens of times where the host is slow.
"""


def cleaned(samples: Samples, hardware: Any, file: Path | str, cache: float = 0.0) -> Samples:
    """The rows without those that cannot be believed.

    Left out are rows that are not finite and positive, repeat a shape, are bound by the host, or
    are impossible, and those of a kernel that a collective falls back to. Where many rows are
    faster than memory allows, or they are prompts and memory takes `SLOW_REFILL` to fill the cache,
    their form becomes that with a last-level cache.

    Arguments:
        samples: the rows as they were read.
        hardware: what they run on, of `samples.form.hardware`.
        file: where they come from, for messages.
        cache: size of the last-level cache in B; 0 where it is not known.

    Raises:
        InputError: no row is left, too many rows are faster than the peak roofline, most of them
            are far slower, as with another unit of time, or half of them are bound by the host.
    """
    endless = getattr(samples.shape, "ENDLESS", ())
    known = [
        np.isfinite(column) | (np.isposinf(column) & (name in endless))
        for name, column in samples.shape._asdict().items()
    ]
    good = np.all(known, axis=0) & np.isfinite(samples.seconds) & (samples.seconds > 0)
    samples = samples.only(good, "not a positive number")
    if not len(samples):
        raise InputError(
            f"{file}: {samples.family} {samples.format}: no row has a positive latency; "
            "check the latency column"
        )
    samples = _possible(_with_cache(samples, hardware, cache), hardware, file).merged()
    samples = of_one_kernel(samples)
    floor = np.quantile(samples.seconds, 0.02)
    if floor > samples.form.host_floor * float(hardware.launch):
        reason, own = f"bound by the host (a floor of {1e6 * floor:.0f} us)", 1.5 * floor
        bound = samples.seconds <= own
        if bound.mean() > HOST_SHARE:
            what = f"{samples.family} {samples.format} {samples.kernel}".rstrip()
            raise InputError(
                f"{file}: {what}: {bound.sum()} of {len(bound)} rows are {reason}, whose time the "
                "others contain as well; measure it in CUDA graphs"
            )
        samples = samples.only(~bound, reason)
    return samples


def _with_cache(samples: Samples, hardware: Any, cache: float) -> Samples:
    """The rows, of the form with a last-level cache where they were measured in one."""
    has_cache = samples.form is Elementwise
    if samples.form.hardware is not Chip or has_cache:
        return samples
    fast = samples.seconds < _least(samples, hardware)[0]
    slow = samples.form is Prefill and cache > SLOW_REFILL * float(hardware.bandwidth)
    if fast.mean() <= IN_CACHE_SHARE and not slow:
        return samples
    return dataclasses.replace(samples, form=cached(samples.form))


def _least(samples: Samples, hardware: Any) -> tuple[np.ndarray, np.ndarray]:
    """Seconds that each row's bytes need from memory, and that its execution needs at least."""
    size = 1 << max(9, (len(samples) - 1).bit_length())
    with jax.enable_x64(True):
        shape = type(samples.shape)(*(padded(column, size) for column in samples.shape))
        moving, bound = _bounds(samples.form, shape, hardware)
    return np.asarray(moving)[: len(samples)], np.asarray(bound)[: len(samples)]


@jax.jit(static_argnums=0)
def _bounds(form: type[Form], shape: Any, hardware: Any) -> tuple[Number, Number]:
    work = form.work(shape)
    bound = work.bound(hardware)
    return work.moved / hardware.bandwidth + 0 * bound if isinstance(work, Work) else bound, bound


def _possible(samples: Samples, hardware: Any, file: Path | str) -> Samples:
    """The rows without those that are faster than the peak roofline; not in another unit."""
    bound = _least(samples, hardware)[1]
    slowness = float(np.median(samples.seconds / (bound + float(hardware.launch))))
    if slowness > TOO_SLOW:
        raise InputError(
            f"{file}: {samples.family} {samples.format}: half of the {len(samples)} rows take more "
            f"than {slowness:,.0f} times what the accelerator's peaks and a launch take; check "
            "the unit of the latencies (us, ms or s), and that --system is what was measured"
        )
    fast = samples.seconds < bound
    if fast.mean() > IMPOSSIBLE_SHARE:
        worst = np.argsort(samples.seconds / bound)[:3].tolist()
        rows = "; ".join(
            f"{_described(samples.shape, row)}: {samples.seconds[row]:.3g} s, "
            f"at best {bound[row]:.3g} s"
            for row in worst
        )
        unit = ""
        if float(np.median(bound / samples.seconds)) > 30:
            unit = "; latencies look like another unit of time (this layout is read as documented)"
        raise InputError(
            f"{file}: {samples.family} {samples.format}: {fast.sum()} of {len(fast)} rows are "
            f"faster than the accelerator's peaks allow ({rows}){unit}; "
            "check the unit, and that --system is what was measured"
        )
    return samples.only(~fast, "faster than the peak roofline")


def _described(shape: Any, row: int) -> str:
    """The numbers of one row, for people."""
    columns = zip(shape._fields, shape, strict=True)
    return ", ".join(f"{name} {column[row]:g}" for name, column in columns)
