"""Measurements of one accelerator -> fits of all kernels in them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from diffgenz.calibrating.cleaning import chip_of, cleaned, lacks
from diffgenz.calibrating.fitting import STARTS, fit
from diffgenz.calibrating.posterior import with_posterior
from diffgenz.calibrating.readers.registry import samples_of
from diffgenz.calibrating.samples import Samples
from diffgenz.calibrating.transfer import Measured
from diffgenz.calibrating.wires import wire_of, wires_of
from diffgenz.core.errors import InputError
from diffgenz.hardware.specs import Spec, read_spec
from diffgenz.kernels.fits import KernelFit
from diffgenz.kernels.hardware import Chip, Wire

EXCHANGES = ("dispatch_low_latency", "combine_low_latency", "dispatch_normal", "combine_normal")

KINDS = {
    "gemm": ("gemm", "batched", "elementwise"),
    "attention": ("prefill", "decode", "latent_prefill", "latent_decode"),
    "recurrence": (
        "mamba2_prefill",
        "mamba2_decode",
        "delta_prefill",
        "delta_decode",
        "conv_prefill",
        "conv_decode",
    ),
    "experts": ("experts",),
    "network": ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", *EXCHANGES),
}
"""What people ask to have fitted, and the kernel families of each."""


def calibrate(
    files: Sequence[str | Path],
    system: str | Path,
    kinds: Sequence[str] = tuple(KINDS),
    *,
    starts: int = STARTS,
    posterior: bool = False,
    progress: Callable[[KernelFit], None] | None = None,
    skipped: Callable[[str], None] | None = None,
) -> list[KernelFit]:
    """Fit kernel models to measurements.

    Arguments:
        files: tables and folders of them (docs/calibration.md lists the layouts).
        system: the accelerator that was measured: a shipped id, or a file.
        kinds: of `KINDS`; others in the files are left alone.
        starts: of each fit. posterior: sample the parameters' posterior after each fit (needs NumPyro), for its mean and covariance.
        progress: called with each fit when it is done. skipped: called with what is left out, in words.

    Returns:
        a fit for each kernel family, format, software and kernel in the files.

    Raises:
        InputError: files that cannot be used (the message says which, and why), or nothing in them to fit.
    """
    fits = []
    for measured in measurements(files, system, kinds, starts=starts, skipped=skipped):
        found = (
            with_posterior(measured.fit, measured.samples, measured.hardware)
            if posterior
            else measured.fit
        )
        fits.append(found)
        if progress is not None:
            progress(found)
    return fits


def measurements(
    files: Sequence[str | Path],
    system: str | Path,
    kinds: Sequence[str] = tuple(KINDS),
    *,
    starts: int = STARTS,
    skipped: Callable[[str], None] | None = None,
) -> Iterator[Measured]:
    """The cleaned rows of each kernel in the files, with its fit, one after the other. Arguments and errors are those of `calibrate`.

    Kernels in formats that the accelerator does not multiply (tables have rows of emulated ones), or whose rows cannot be believed, are left out,
    and are an error where nothing else is in the files.
    """
    strange = [name for name in kinds if name not in KINDS]
    if strange:
        raise InputError(
            f"fit: {strange[0]!r} is no kind of kernel; use some of {', '.join(KINDS)}"
        )
    wanted = {family for name in kinds for family in KINDS[name]}
    spec, any_left, troubles = read_spec(system), False, []

    def told(words: str) -> None:
        troubles.append(words)
        if skipped is not None:
            skipped(f"left out: {words}")

    for file, samples in samples_of(files, told):
        usable = usable_rows(samples, spec, file, told) if samples.family in wanted else None
        if usable is not None:
            any_left = True
            clean, hardware = usable
            yield Measured(spec.id, clean, hardware, fit(clean, hardware, starts=starts))
    if not any_left and troubles:
        raise InputError(troubles[0])
    if not any_left:
        what = f"the files hold no {', '.join(kinds)} measurements that can be used"
        raise InputError(f"fit: nothing to fit: {what}; leave --fit out to fit all there is")


def usable_rows(
    samples: Samples, spec: Spec, file: Path, told: Callable[[str], None]
) -> tuple[Samples, Any] | None:
    """The cleaned rows and what they run on; None where there are none that can be believed, or that this accelerator multiplies: `told` is why."""
    lacking = lacks(spec, samples.format)
    if lacking:
        told(
            f"{file.name}: {samples.family} {samples.format}: {spec.name} has no {lacking} arithmetic; give the accelerator that was measured"
        )
        return None
    try:
        hardware = hardware_of(spec, samples)
        clean = cleaned(samples, hardware, file)
    except InputError as error:
        told(str(error))
        return None
    if clean.held_out.all():
        reasons = ", ".join(clean.dropped) or "there are too few"
        told(
            f"{file.name}: {samples.family} {samples.format}: no row is left to fit to: {reasons}; measure more shapes"
        )
        return None
    return clean, hardware


def hardware_of(spec: Spec, samples: Samples) -> Any:
    """What the samples' form is bound to on an accelerator: the accelerator itself, the innermost level of its network, or the two innermost."""
    if samples.form.hardware is Chip:
        return chip_of(spec, samples.format)
    return wire_of(spec) if samples.form.hardware is Wire else wires_of(spec)
