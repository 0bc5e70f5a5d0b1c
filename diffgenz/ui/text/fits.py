"""Fits of kernels, and measurements that would narrow them, as text for people and as JSON."""

import math
from collections.abc import Sequence
from typing import Any

from diffgenz.calibrating.suggest import Suggestion
from diffgenz.kernels.fits import KernelFit
from diffgenz.kernels.forms.last_level_cache import Cached
from diffgenz.ui.tables import table

_HEADER = (
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
_WIDEST = 28

_BAD = 0.3
"""Mean relative error on held-out rows above which a fit is warned of."""


def fits_table(fits: Sequence[KernelFit]) -> str:
    """One line for each fit, for people."""
    rows = [
        (
            fit.family,
            fit.format,
            fit.source,
            fit.kernel if len(fit.kernel) <= _WIDEST else f"{fit.kernel[: _WIDEST - 1]}…",
            f"{fit.rows + fit.held_out:,}",
            f"{sum(fit.dropped.values()):,}",
            f"{len(fit.values)}",
            f"{sum(share > 0.5 for share in fit.learned.values())}",
            *_errors(fit),
        )
        for fit in fits
    ]
    return table(_HEADER, rows, "llll")


def _errors(fit: KernelFit) -> tuple[str, str, str]:
    """Mean and median error on held-out rows, and the share within what was expected."""
    if not fit.held_out:
        return "not known", "not known", "-"
    mean, median = (f"{100 * error:.1f}" for error in (fit.mean_error, fit.median_error))
    return mean, median, f"{100 * fit.coverage:.0f} %"


def warning(fit: KernelFit) -> str | None:
    """What is wrong with a fit that does not hold, and what to check; None where it does."""
    name = f"{fit.family} {fit.format} {fit.source}"
    if not fit.held_out:
        rows = "1 row" if fit.rows == 1 else f"{fit.rows} rows"
        return f"warning: {name}: {rows}: too few to hold some out, so its error is not known"
    if fit.mean_error <= _BAD:
        return None
    window = "the window (empty or 0 is none), " if "window" in fit.form.Shape._fields else ""
    return (
        f"warning: {name}: {100 * fit.mean_error:.0f} % off on average, so do not trust it; check "
        f"the units of times and shapes, {window}and that rows of one name are of one kernel, "
        "one software and one accelerator"
    )


def remarks(fits: Sequence[KernelFit]) -> list[str]:
    """Fits that do not hold, what was left out and why, what the data do not say: a line each."""
    lines = [words for words in map(warning, fits) if words is not None]
    for fit in fits:
        name = f"{fit.family} {fit.format} {fit.source}"
        lines += [f"{name}: {count:,} rows left out: {why}" for why, count in fit.dropped.items()]
        if issubclass(fit.form, Cached):
            below = f"operands below {fit.values['cache']:.0f} MB"
            taken = "with it" if fit.plain is fit else "without"
            lines.append(
                f"{name}: measured in a last-level cache ({below}); estimates take it {taken}"
            )
        kept = [parameter for parameter, share in fit.learned.items() if share <= 0.5]
        if kept:
            lines.append(f"{name}: the data say little of {', '.join(kept)}: priors kept")
    return lines


def fit_line(fit: KernelFit) -> str:
    """How well a fit holds, in one line."""
    name = f"{fit.family} {fit.format} {fit.source}"
    if not fit.held_out:
        return f"{name}: {fit.rows} rows, none held out"
    return f"{name}: {100 * fit.mean_error:.1f} % on {fit.held_out} held-out rows"


def fit_json(fit: KernelFit) -> dict[str, Any]:
    """A fit in full, except for its covariance."""
    left_out = ("form", "covariance")
    names = [name for name in KernelFit.__dataclass_fields__ if name not in left_out]
    values = {name: getattr(fit, name) for name in names}
    unknown = {name for name, x in values.items() if isinstance(x, float) and math.isnan(x)}
    return {
        **values,
        **dict.fromkeys(unknown),
        "form": fit.form.__name__,
        "standard_errors": fit.standard_errors,
        "warning": warning(fit),
        "unseen": fit.unseen,
    }


def suggestions_table(found: Sequence[Suggestion], metric: str) -> str:
    """The measurements that would narrow a metric most, and how well it would be known then."""
    rows = [
        (
            f"{rank}",
            f"{s.family} {s.format}",
            ", ".join(f"{name} {value:g}" for name, value in s.shape.items()),
            f"{1e6 * s.seconds:.1f}",
            percent(s.after),
        )
        for rank, s in enumerate(found, 1)
    ]
    header = ("", "kernel", "shape", "expected us", f"{metric} then known to")
    return table(header, rows, "rll")


def percent(share: float) -> str:
    """A standard deviation, for people."""
    return f"+-{100 * share:.1f} %"
