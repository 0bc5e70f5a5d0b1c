"""What serving benchmarks say of engines, as tables for people and as JSON."""

from typing import Any

import numpy as np

from diffgenz.calibrating.end_to_end.calibrate_serving import ServingCalibration
from diffgenz.calibrating.end_to_end.folds import BY
from diffgenz.calibrating.end_to_end.predicted import METRICS
from diffgenz.calibrating.end_to_end.terms import NAMES, TERMS
from diffgenz.ui.tables import number, table

_LABELS = {"ttft": "TTFT", "tpot": "TPOT", "end_to_end": "E2E"}
_CASES = {
    "nothing fitted": "nothing fitted",
    "in sample": "fitted, in sample",
    "configuration": "configurations held out",
    "deployment": "deployments held out",
    "model": "each model held out",
    "system": "each system held out",
    "backend": "each backend held out",
}
_MOST = 12
"""Deployments that are shown."""


def calibration_text(found: ServingCalibration) -> str:
    """Terms with standard errors, errors on held-out runs, and what did not help."""
    count = len(found.rows)
    parts = [f"{count:,} configurations of {', '.join(filter(None, found.chosen)) or 'an engine'}"]
    rows = []
    for engine in found.fit.engines:
        for name, value in engine.values.items():
            term = TERMS[NAMES.index(name)]
            error = engine.standard_errors[name]
            scaled = f"{number(term.scale * value)} +- {number(term.scale * error)}"
            rows.append((engine.name or "-", term.what, scaled, term.unit, f"{engine.runs:,}"))
    if rows:
        parts.append(table(("engine", "fitted", "value", "unit", "runs"), rows, "lllll"))
    parts.append(_errors(found))
    parts.append("\n".join(_remarks(found)))
    own = found.fit.deployments
    if own:
        shown = sorted(own, key=lambda each: -abs(np.log(each.pace)))[:_MOST]
        cells = [
            (
                each.engine or "-",
                f"{each.pace:.2f} +- {each.pace * each.pace_error:.2f}",
                f"{each.host:.2f} +- {each.host * each.host_error:.2f}",
                str(each.runs),
                each.deployment.partition("; ")[0],
            )
            for each in shown
        ]
        what = "deployments over their engine: the time of accelerators, and all that the host adds"
        parts.append(
            f"{what}:\n\n{table(('engine', 'pace', 'host', 'runs', 'deployment'), cells, 'lllll')}"
        )
    return "\n\n".join(part for part in parts if part)


def _errors(found: ServingCalibration) -> str:
    """Median errors by what was held out, of all runs and of each engine."""
    names = [name for name in METRICS if name in found.medians("nothing fitted")]
    engines = [name for name in found.chosen if name] if len(found.chosen) > 1 else []
    rows = []
    for case, label in _CASES.items():
        if case not in found.errors:
            continue
        cells = []
        for engine in ("", *engines):
            mine = np.array([engine in ("", row.benchmark.engine) for row in found.rows])
            for name in names:
                errors = found.errors[case][mine, METRICS.index(name)]
                errors = errors[np.isfinite(errors)]
                off = float(np.median(np.abs(np.expm1(errors)))) if len(errors) else None
                cells.append("-" if off is None else f"{100 * off:.1f}")
        rows.append((label, *cells))
    header = ["median error, %"]
    for engine in ("", *engines):
        header += [f"{engine} {_LABELS[name]}".strip() for name in names]
    return table(tuple(header), rows, "l" + "r" * (len(header) - 1))


def _remarks(found: ServingCalibration) -> list[str]:
    """What did not help, and what is not known."""
    lines = []
    for name, one in found.chosen.items():
        who = name or "the engine"
        off = [TERMS[i].what for i in np.flatnonzero(~one.found.free)]
        if off and any(case in found.errors for case in BY):
            lines.append(
                f"{who}: no help on held-out runs, or not told apart by these: {', '.join(off)}"
            )
        if not any(case in found.errors for case in BY):
            lines.append(f"warning: {who}: of one configuration nothing is held out; measure more")
        elif not one.has_own:
            lines.append(
                f"{who}: differences of deployments do not help with loads that were held out"
            )
        for place in np.flatnonzero(one.found.free):
            if one.found.errors[place] > one.found.values[place]:
                lines.append(
                    f"warning: {who}: {TERMS[place].what} is known worse than to its own size; "
                    "measure more loads"
                )
    if not found.wins:
        lines.append(
            "nothing that was fitted helps with held-out runs: predict without a serving fit"
        )
    return lines


def calibration_json(found: ServingCalibration) -> dict[str, Any]:
    """The same in SI, and every run."""
    return {
        "engines": [vars(each) | {"values": dict(each.values)} for each in found.fit.engines],
        "deployments": [vars(each) for each in found.fit.deployments],
        "median_error": {case: found.medians(case) for case in found.errors},
        "tried": {name: one.losses for name, one in found.chosen.items()},
        "rows": [
            {
                "run": row.benchmark.place,
                "deployment": row.deployment,
                "engine": row.benchmark.engine,
                "measured": _named(np.exp(row.logs)),
                "ratio": {
                    case: _named(np.exp(errors[place])) for case, errors in found.errors.items()
                },
            }
            for place, row in enumerate(found.rows)
        ],
    }


def _named(values: np.ndarray) -> dict[str, float | None]:
    return {
        name: float(value) if np.isfinite(value) else None
        for name, value in zip(METRICS, values, strict=True)
    }
