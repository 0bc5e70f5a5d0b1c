"""From measurements of one accelerator to fits of all kernels in them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from diffgenz.calibrating.binding import hardware_of, lacks
from diffgenz.calibrating.cleaning import cleaned
from diffgenz.calibrating.fitting import STARTS, fit
from diffgenz.calibrating.posterior import with_posterior
from diffgenz.calibrating.readers.registry import samples_of
from diffgenz.calibrating.samples import Samples
from diffgenz.calibrating.transfer import Measured
from diffgenz.core.errors import InputError
from diffgenz.hardware.spec import Spec
from diffgenz.hardware.specs import read_spec
from diffgenz.kernels.families import KINDS
from diffgenz.kernels.fits import KernelFit

DOUBTFUL = 0.25
"""Mean error on held-out shapes above which a fit is said to be doubtful.

Forms reach 3 to 20 % on one kernel. Rows of several, under one label, are worse.
"""


def calibrate(
    files: str | Path | Sequence[str | Path],
    system: str | Path,
    kinds: Sequence[str] = tuple(KINDS),
    *,
    starts: int = STARTS,
    posterior: bool = False,
    progress: Callable[[Measured], None] | None = None,
    skipped: Callable[[str], None] | None = None,
) -> list[KernelFit]:
    """Fit kernel models to measurements.

    Arguments:
        files: tables, and folders of them, or one of these (docs/calibration.md lists the layouts).
        system: the accelerator that was measured: a shipped id, or a file.
        kinds: names of `kernels.families.KINDS`; other kernels in the files are left alone.
        starts: points that each fit starts from, at least 1.
        posterior: whether to sample the posterior of the parameters after each fit, for its mean
            and covariance; this needs NumPyro.
        progress: called with the rows of each kernel and their fit, when it is done.
        skipped: called with what is left out or doubtful, in words.

    Returns:
        a fit for each kernel family, format, software and kernel in the files.

    Raises:
        InputError: there is nothing to fit in the files, or some cannot be used; the message says
            which, and why.
    """
    fits = []
    for measured in measurements(files, system, kinds, starts=starts, skipped=skipped):
        found = measured.fit
        if posterior:
            found = with_posterior(found, measured.samples, measured.hardware)
        fits.append(found)
        if progress is not None:
            progress(measured._replace(fit=found))
    return fits


def measurements(
    files: str | Path | Sequence[str | Path],
    system: str | Path,
    kinds: Sequence[str] = tuple(KINDS),
    *,
    starts: int = STARTS,
    skipped: Callable[[str], None] | None = None,
) -> Iterator[Measured]:
    """The cleaned rows of each kernel in the files, with its fit, one after the other.

    Kernels in formats that the accelerator does not multiply (tables have rows of emulated ones),
    or whose rows cannot be believed, are left out; it is an error if the files hold nothing else.
    Arguments and errors are those of `calibrate`.
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
        if usable is None:
            continue
        clean, hardware = usable
        found = fit(clean, hardware, starts=starts)
        hosts = launches_of_a_host(found)
        if hosts is not None:
            told(
                f"{file.name}: {found.family} {found.format}: {found.kernel} takes {hosts:.0f} "
                "launch latencies before it starts, which is the host's time; measure it in CUDA "
                "graphs"
            )
            continue
        if found.mean_error > DOUBTFUL and skipped is not None:
            skipped(
                f"doubtful: {file.name}: {found.family} {found.format} {found.kernel}: "
                f"{100 * found.mean_error:.0f} % off on held-out shapes, so its rows may be of "
                "several kernels, or not repeatable; tell them apart, or measure again"
            )
        any_left = True
        yield Measured(spec.id, clean, hardware, found, spec.kind)
    if not any_left and troubles:
        raise InputError(troubles[0])
    if not any_left:
        what = f"the files hold no {', '.join(kinds)} measurements that can be used"
        raise InputError(f"fit: nothing to fit: {what}; leave --fit out to fit all there is")


def launches_of_a_host(fit: KernelFit) -> float | None:
    """How many launch latencies a kernel takes to start, where that is the host's; else None.

    It is where they are more than twice the floor above which rows are bound by the host.
    """
    found = sum(fit.values.get(name, 0.0) for name in ("launch", "prologue"))
    return found if found > 2 * fit.form.host_floor else None


def usable_rows(
    samples: Samples, spec: Spec, file: Path, told: Callable[[str], None]
) -> tuple[Samples, Any] | None:
    """The rows of a kernel that can be fitted, and what they run on; None where there are none.

    Arguments:
        samples: the rows as they were read.
        spec: the accelerator that was measured.
        file: where the rows come from, for messages.
        told: called with the reason where there are none.
    """
    what = f"{file.name}: {samples.family} {samples.format}"
    lacking = lacks(spec, samples.format)
    if lacking:
        told(
            f"{what}: {spec.name} has no {lacking} arithmetic; "
            "give the accelerator that was measured"
        )
        return None
    try:
        hardware = hardware_of(spec, samples.form, samples.format)
        clean = cleaned(samples, hardware, file, spec.on_chip.get("capacity", 0.0))
    except InputError as error:
        told(str(error))
        return None
    if clean.held_out.all():
        reasons = ", ".join(clean.dropped) or "there are too few"
        told(f"{what}: no row is left to fit to: {reasons}; measure more shapes")
        return None
    return clean, hardware
