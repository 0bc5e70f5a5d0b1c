"""Measurements of one accelerator -> fits of all kernels in them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from diffgenz.calibrating.cleaning import chip_of, cleaned, lacks
from diffgenz.calibrating.fitting import STARTS, fit
from diffgenz.calibrating.readers import samples_of
from diffgenz.calibrating.samples import Samples
from diffgenz.calibrating.transfer import Measured
from diffgenz.calibrating.wires import wire_of, wires_of
from diffgenz.errors import InputError
from diffgenz.fits import KernelFit
from diffgenz.kernels.collective import Collective
from diffgenz.kernels.custom_allreduce import CustomAllReduce
from diffgenz.kernels.deepep import Exchange
from diffgenz.specs import Spec, read_spec

FAMILIES = {
    "gemm": ("gemm", "batched", "elementwise"),
    "attention": ("prefill", "decode", "latent_prefill", "latent_decode"),
    "recurrence": ("mamba2_prefill", "mamba2_decode", "delta_prefill", "delta_decode", "conv_prefill", "conv_decode"),
    "experts": ("experts",),
    "network": ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "dispatch", "combine"),
}
"""What people ask to have fitted, and the kernel families of each."""


def calibrate(
    files: Sequence[str | Path],
    system: str | Path,
    families: Sequence[str] = tuple(FAMILIES),
    *,
    starts: int = STARTS,
    progress: Callable[[KernelFit], None] | None = None,
    skipped: Callable[[str], None] | None = None,
) -> list[KernelFit]:
    """Fit kernel models to measurements.

    Arguments:
        files: tables and folders of them (docs/calibration.md lists the layouts).
        system: the accelerator that was measured: a shipped id, or a file.
        families: of `FAMILIES`; others in the files are left alone.
        starts: of each fit. progress: called with each fit when it is done. skipped: called with what is left out, in words.

    Returns:
        a fit for each kernel family, format, software and kernel in the files.

    Raises:
        InputError: files that cannot be used (the message says which, and why), or nothing in them to fit.
    """
    fits = []
    for measured in measurements(files, system, families, starts=starts, skipped=skipped):
        fits.append(measured.fit)
        if progress is not None:
            progress(measured.fit)
    return fits


def measurements(
    files: Sequence[str | Path],
    system: str | Path,
    families: Sequence[str] = tuple(FAMILIES),
    *,
    starts: int = STARTS,
    skipped: Callable[[str], None] | None = None,
) -> Iterator[Measured]:
    """The cleaned rows of each kernel in the files, with its fit, one after the other. Arguments and errors are those of `calibrate`.

    Formats that the accelerator does not multiply (tables have rows of emulated ones) are left out.
    """
    unknown_families = [name for name in families if name not in FAMILIES]
    if unknown_families:
        raise InputError(f"fit: {unknown_families[0]!r} is no kind of kernel; use some of {', '.join(FAMILIES)}")
    wanted = {family for name in families for family in FAMILIES[name]}
    spec, any_left = read_spec(system), False
    for file, samples in samples_of(files):
        if samples.family not in wanted:
            continue
        lacking = lacks(spec, samples.format)
        if lacking:
            if skipped is not None:
                skipped(f"{file.name}: {samples.family} {samples.format} left out: {spec.name} has no {lacking} arithmetic")
        else:
            any_left = True
            hardware = hardware_of(spec, samples)
            clean = cleaned(samples, hardware, file)
            yield Measured(spec.id, clean, hardware, fit(clean, hardware, starts=starts))
    if not any_left:
        raise InputError(f"fit: nothing to fit: the files hold no {', '.join(families)} measurements; leave --fit out to fit all there is")


def hardware_of(spec: Spec, samples: Samples) -> Any:
    """What the samples' form is bound to on an accelerator: the accelerator itself, the innermost level of its network, or the two innermost."""
    if issubclass(samples.form, Collective | CustomAllReduce):
        return wire_of(spec)
    return wires_of(spec) if issubclass(samples.form, Exchange) else chip_of(spec, samples.format)
