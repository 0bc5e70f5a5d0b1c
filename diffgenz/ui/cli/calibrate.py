"""`diffgenz calibrate`: measurements in, a fit file and its table out; or which measurement would help most."""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from diffgenz.calibrating.calibrate import KINDS, calibrate
from diffgenz.calibrating.suggest import suggest
from diffgenz.core.errors import InputError, NoSolution
from diffgenz.hardware.platform import load_platform
from diffgenz.hardware.specs import read_spec
from diffgenz.kernels.fits import KernelFit, write_fits
from diffgenz.kernels.forms.last_level_cache import Cached
from diffgenz.kernels.software import DEFAULT
from diffgenz.models.huggingface import load_model
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario
from diffgenz.scenario.workload import Workload
from diffgenz.ui.cli.estimate import cache_compilations
from diffgenz.ui.tables import table


def calibrate_files(options: argparse.Namespace) -> tuple[str, Any]:
    """Fit what the files hold, save it, and say how well it holds: text and JSON."""
    if not options.files:
        raise InputError(
            "FILE: no measurements are given; name tables or folders of them (docs/calibration.md)"
        )
    cache_compilations()
    spec = read_spec(options.system)
    kinds = (
        tuple(KINDS)
        if options.fit is None
        else tuple(name.strip() for name in options.fit.split(","))
    )
    show = _show if sys.stderr.isatty() or options.progress else None
    fits = calibrate(
        options.files,
        options.system,
        kinds,
        starts=options.starts,
        posterior=options.posterior,
        progress=show,
        skipped=_warn,
    )
    text = [
        f"{spec.name}: {len(fits)} fits, each with a fifth of the shapes held out",
        "",
        fits_table(fits),
    ]
    text += _remarks(fits)
    if options.out is not None:
        how = [
            f"--starts {options.starts}",
            *(["--posterior"] if options.posterior else []),
            *([f"--fit {options.fit}"] if options.fit else []),
        ]
        command = f"diffgenz calibrate {' '.join(options.files)} --system {options.system} {' '.join(how)} --out {options.out}"
        write_fits(Path(options.out), spec.id, fits, command)
        text += ["", f"saved: {options.out}; use it with `--fit {options.out}`"]
    return "\n".join(text), [fit_json(fit) for fit in fits]


def suggest_points(options: argparse.Namespace) -> tuple[str, Any]:
    """The measurements that would narrow a metric of a deployment most: text and JSON."""
    if options.suggest < 1:
        raise InputError(f"--suggest: {options.suggest} is not allowed; it must be at least 1")
    if options.model is None:
        raise InputError(
            "--model: it is missing; --suggest needs what is served, such as --model meta-llama/Llama-3.1-70B --tp 8 --batch 64"
        )
    if len(options.files) > 1:
        raise InputError(
            f"FILE: --suggest starts from one fit file, not from {len(options.files)}; give one, or none for the shipped fits"
        )
    cache_compilations()
    model, fit = load_model(options.model), options.files[0] if options.files else DEFAULT
    platform = load_platform(options.system, options.tp, fit)
    workload = Workload(options.batch, options.isl, options.osl)
    case = Scenario(model, platform, workload, Parallelism(options.tp))
    found = suggest(case, options.metric, options.suggest)
    if not found:
        raise NoSolution(f"no measurement of these kernels would narrow {options.metric}")
    title = f"{model.name} on {options.tp} x {platform.accelerator.name}, batch {options.batch}: {options.metric} is known to {_percent(found[0].before)}"
    rows = [
        (
            f"{rank}",
            f"{s.family} {s.format}",
            ", ".join(f"{name} {value:g}" for name, value in s.shape.items()),
            f"{1e6 * s.seconds:.1f}",
            _percent(s.after),
        )
        for rank, s in enumerate(found, 1)
    ]
    header = ("", "kernel", "shape", "expected us", f"{options.metric} then known to")
    return f"{title}\n\n{table(header, rows, 'rll')}", [s._asdict() for s in found]


def _percent(x: float) -> str:
    return f"+-{100 * x:.1f} %"


def _warn(words: str) -> None:
    print(words, file=sys.stderr)


def _show(fit: KernelFit) -> None:
    print(
        f"{fit.family} {fit.format} {fit.source}: {100 * fit.mean_error:.1f} % on {fit.held_out} held-out rows",
        file=sys.stderr,
        flush=True,
    )


def fits_table(fits: list[KernelFit]) -> str:
    """One line for each fit, for people."""
    header = (
        "family",
        "format",
        "source",
        "kernel",
        "rows",
        "left out",
        "parameters",
        "seen",
        "mean %",
        "median %",
        "in 80 %",
    )
    rows = [
        (
            fit.family,
            fit.format,
            fit.source,
            fit.kernel if len(fit.kernel) <= 28 else f"{fit.kernel[:27]}…",
            f"{fit.rows + fit.held_out:,}",
            f"{sum(fit.dropped.values()):,}",
            f"{len(fit.values)}",
            f"{sum(share > 0.5 for share in fit.learned.values())}",
            f"{100 * fit.mean_error:.1f}",
            f"{100 * fit.median_error:.1f}",
            f"{100 * fit.coverage:.0f} %",
        )
        for fit in fits
    ]
    return table(header, rows, "llll")


def _remarks(fits: list[KernelFit]) -> list[str]:
    """What was left out and why, and what the data do not say."""
    lines = []
    for fit in fits:
        name = f"{fit.family} {fit.format} {fit.source}"
        lines += [f"{name}: {count:,} rows left out: {why}" for why, count in fit.dropped.items()]
        if issubclass(fit.form, Cached):
            lines.append(
                f"{name}: measured in a last-level cache (operands below {fit.values['cache']:.0f} MB); estimates take it without"
            )
        kept = [parameter for parameter, share in fit.learned.items() if share <= 0.5]
        if kept:
            lines.append(f"{name}: the data say little of {', '.join(kept)}: priors kept")
    return ["", *lines] if lines else []


def fit_json(fit: KernelFit) -> dict[str, Any]:
    """A fit in full, its covariance apart."""
    plain = {
        name: getattr(fit, name)
        for name in KernelFit.__dataclass_fields__
        if name not in ("form", "covariance")
    }
    finite = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in plain.items()
    }
    return finite | {
        "form": fit.form.__name__,
        "standard_errors": fit.standard_errors,
        "unseen": fit.unseen,
    }
