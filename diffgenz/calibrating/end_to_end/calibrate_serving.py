"""`calibrate_serving`: what benchmarks say that hosts add, with errors on held-out runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffgenz.calibrating.end_to_end.choosing import Chosen, chosen, extra_of, held_out
from diffgenz.calibrating.end_to_end.fitting import Measured, fitted, nothing
from diffgenz.calibrating.end_to_end.folds import BY, folds_of
from diffgenz.calibrating.end_to_end.predicted import METRICS, lines_of
from diffgenz.calibrating.end_to_end.rows import Row, rows_of
from diffgenz.calibrating.end_to_end.terms import NAMES, OFF, STARTS
from diffgenz.calibrating.readers.serving.benchmark import Benchmark
from diffgenz.serving.load import Engine
from diffgenz.serving.serving_fit import DeploymentFit, EngineFit, ServingFit

_ROUNDS = 6
"""How often seconds are asked anew at most where the fit has moved."""

_NEAR = 0.02
"""How far it may have moved, relatively, to have arrived."""


@dataclass(frozen=True)
class ServingCalibration:
    """A fit to serving benchmarks, and how well it does.

    Arguments:
        fit: what `save_serving_fit` saves, and serving loads.
        rows: the runs that were fitted to.
        chosen: by engine, which terms helped, and which did not.
        errors: ln(predicted / measured) by case: "nothing fitted", "in sample", and by what was
            held out (`folds.BY`); NaN where a metric is not known; each of shape (runs, metrics),
            metrics being those of `predicted.METRICS`.
    """

    fit: ServingFit
    rows: tuple[Row, ...]
    chosen: Mapping[str, Chosen]
    errors: Mapping[str, np.ndarray]

    def medians(self, case: str) -> dict[str, float]:
        """The median of |predicted / measured - 1| by metric, of those that are known.

        Arguments:
            case: a key of `errors`.
        """
        found = {}
        for place, name in enumerate(METRICS):
            known = self.errors[case][:, place]
            known = known[np.isfinite(known)]
            if len(known):
                found[name] = float(np.median(np.abs(np.expm1(known))))
        return found

    @property
    def wins(self) -> bool:
        """Whether anything fitted helped with runs that were held out."""
        return any(each.found.free.any() or each.has_own for each in self.chosen.values())


def calibrate_serving(
    benchmarks: Sequence[Benchmark],
    words: Mapping[str, Any] | None = None,
    settings: Sequence[str] = (),
    engine: Engine | None = None,
    skipped: Callable[[str], None] | None = None,
    told: Callable[[str], None] | None = None,
) -> ServingCalibration:
    """What serving benchmarks say of engines, beyond the time of their kernels.

    Each engine is fitted apart, by least squares on ln(predicted / measured) of TTFT and TPOT, or
    of whole answers where these are unknown. Only what makes held-out runs less wrong is kept.

    Arguments:
        benchmarks: what was measured (`read_benchmarks`).
        words: what the files do not say, by word, as of `compare`. Default: nothing.
        settings: numbers of the system to change (`hardware.settings`).
        engine: what servers are set to, as far as files do not say it. Default: `Engine()`.
        skipped: called with what is left out, and why.
        told: called now and then with how far it is.

    Raises:
        InputError: no benchmark is left that can be predicted.
    """
    say = told or (lambda text: None)
    rows = rows_of(benchmarks, words or {}, settings, engine, skipped, say)
    engines = sorted({row.benchmark.engine for row in rows})
    errors = {
        name: np.full((len(rows), len(METRICS)), np.nan)
        for name in ("nothing fitted", "in sample", *BY[:4])
    }
    found, engine_fits, deployments = {}, [], []
    for name in engines:
        places = np.array([i for i, row in enumerate(rows) if row.benchmark.engine == name])
        own = [rows[place] for place in places]
        label = name or "the engine"
        one, measured, first = _engine(own, lambda text, label=label: say(f"{label}: {text}"))
        none = np.zeros((len(own), 2))
        errors["nothing fitted"][places] = first.errors(nothing().values, none)
        extra = extra_of(measured, one.own)
        errors["in sample"][places] = measured.errors(one.found.values, extra)
        for by in BY[:4]:
            folds = folds_of([row.benchmark for row in own], by)
            if len(np.unique(folds)) > 1:
                out = held_out(measured, one.found.free, folds, one.has_own)
                errors[by][places] = out
        found[name] = one
        fitted_names = [NAMES[i] for i in np.flatnonzero(one.found.free)]
        values = dict(zip(NAMES, one.found.values.tolist(), strict=True))
        spread = dict(zip(NAMES, one.found.errors.tolist(), strict=True))
        engine_fits.append(
            EngineFit(
                name,
                {each: values[each] for each in fitted_names},
                {each: spread[each] for each in fitted_names},
                len(own),
            )
        )
        for cluster, its in one.own.items():
            mine = [row for row, at in zip(own, measured.clusters, strict=True) if at == cluster]
            pace, host = np.exp(its.logs).tolist()
            spread_of = dict(zip(("pace_error", "host_error"), its.errors.tolist(), strict=True))
            deployments.append(
                DeploymentFit(name, mine[0].deployment, pace, host, runs=len(mine), **spread_of)
            )
    if len(engines) > 1:
        errors["backend"] = _other_backends(rows, found, say)
    known = {name: each for name, each in errors.items() if np.isfinite(each).any()}
    fit = ServingFit(tuple(engine_fits), tuple(deployments))
    result = ServingCalibration(fit, tuple(rows), found, known)
    medians = {name: result.medians(name) for name in known}
    fit = ServingFit(tuple(engine_fits), tuple(deployments), medians)
    return ServingCalibration(fit, tuple(rows), found, known)


def _measured(rows: Sequence[Row], values: np.ndarray) -> Measured:
    """Rows as they are fitted, their seconds asked near some values of the terms."""
    clusters = {name: place for place, name in enumerate(dict.fromkeys(r.deployment for r in rows))}
    steps = np.array([max(float(row.case.workload.output_tokens) - 1, 1.0) for row in rows])
    return Measured(
        lines_of([row.run for row in rows], steps, values),
        np.stack([row.logs for row in rows]),
        np.array([clusters[row.deployment] for row in rows]),
    )


def _engine(rows: Sequence[Row], say: Callable[[str], None]) -> tuple[Chosen, Measured, Measured]:
    """What is fitted to the rows of one engine; they near the fit, and near nothing fitted."""
    benchmarks = [row.benchmark for row in rows]
    by_deployment, by_configuration, by_system = (
        folds_of(benchmarks, by) for by in ("deployment", "configuration", "system")
    )
    folds = by_deployment, by_configuration, by_system
    say("predicting all runs")
    first = measured = _measured(rows, OFF.copy())
    one = chosen(measured, *folds, say)
    for _ in range(_ROUNDS):
        before = one.found.values
        if not one.found.free.any():
            break
        say("predicting all runs anew")
        measured = _measured(rows, before)
        one = chosen(measured, *folds, say)
        if (np.abs(one.found.values - before) <= _NEAR * np.maximum(before, STARTS)).all():
            break
    return one, measured, first


def _other_backends(
    rows: Sequence[Row], found: Mapping[str, Chosen], say: Callable[[str], None]
) -> np.ndarray:
    """Errors of each engine's runs by what is fitted to those of the others."""
    say("holding out each backend")
    measured = _measured(rows, OFF.copy())
    free = np.any([each.found.free for each in found.values()], axis=0)
    folds = folds_of([row.benchmark for row in rows], "backend")
    errors = np.full(measured.logs.shape, np.nan)
    for fold in np.unique(folds):
        out = folds == fold
        others = fitted(measured, free, (~out).astype(float))
        errors[out] = measured.errors(others.values, np.zeros((len(rows), 2)))[out]
    return errors
