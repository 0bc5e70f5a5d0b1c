"""Which runs are held out together, so that nothing is asked of what was fitted.

A configuration is everything about a run but when it was repeated; a deployment is a model in some
formats on some accelerators by some software, whatever its load.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from diffgenz.calibrating.readers.serving.benchmark import Benchmark

FOLDS = 5
"""Parts that groups are dealt to."""

BY = ("configuration", "deployment", "model", "system", "backend")
"""What can be held out."""


def deployment_of(benchmark: Benchmark) -> tuple[Any, ...]:
    """A model in its formats, where it runs, and on what software."""
    ranks = tuple(sorted(benchmark.ranks.items()))
    return (
        benchmark.model,
        benchmark.system,
        benchmark.engine,
        benchmark.precision,
        benchmark.kv_cache,
        ranks,
    )


def configuration_of(benchmark: Benchmark) -> tuple[Any, ...]:
    """A deployment and its load."""
    lengths = benchmark.input_tokens, benchmark.output_tokens
    load = (
        benchmark.concurrency,
        benchmark.rate,
        benchmark.burstiness,
        benchmark.in_flight if benchmark.together else None,
    )
    log = None if benchmark.log is None else benchmark.place
    return (*deployment_of(benchmark), *lengths, *load, log)


def folds_of(benchmarks: Sequence[Benchmark], by: str) -> np.ndarray:
    """The fold of each run, counted from 0; runs of one group are in one fold.

    Configurations and deployments are dealt to `FOLDS` folds by a hash, which no order of files
    changes; models, systems and backends are a fold each.

    Arguments:
        benchmarks: the runs.
        by: one of `BY`.
    """
    of = {
        "configuration": configuration_of,
        "deployment": deployment_of,
        "model": lambda each: each.model,
        "system": lambda each: each.system,
        "backend": lambda each: each.engine,
    }[by]
    keys = [repr(of(each)) for each in benchmarks]
    groups = sorted(set(keys), key=lambda key: hashlib.sha256(key.encode()).hexdigest())
    fold = {key: index for index, key in enumerate(groups)}
    if by in BY[:2]:
        fold = {key: index % FOLDS for key, index in fold.items()}
    return np.array([fold[key] for key in keys], int)
