"""What the tests of sweeps share, subprocesses included: a small scenario, spaces, a front."""

import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from support import make_cluster

import diffgenz as dgz
from diffgenz.studies.sweep.sobol import Sobol

HERE = str(Path(__file__).parent)
SCRIPT = f"import sys; sys.path.insert(0, {HERE!r}); from sweep_cases import *\n"


def scenario() -> dgz.Scenario:
    """A small dense model on eight accelerators."""
    return dgz.Scenario(
        dgz.load_model("Qwen/Qwen2.5-0.5B"),
        make_cluster(8),
        dgz.Workload(4, 600, 60),
        dgz.Parallelism(tensor=2),
    )


def varied() -> dict:
    """Grids of 24 combinations, and a range."""
    return {
        "memory_bandwidth": dgz.axes.geometric(1e12, 8e12, 4),
        "plan.tensor": dgz.axes.values(1, 2, 16),
        "peak_flops[bf16]": dgz.axes.log_uniform(1e14, 2e15),
        "batch": dgz.axes.values(1, 64),
    }


def space(samples: int = 100, **options) -> dgz.Space:
    """The axes above, sampled; a third of its plans are too large."""
    return dgz.Space(scenario(), varied(), samples=samples, **options)


def kept() -> dict:
    """One reduction of each kind that keeps its findings."""
    return {
        "front": dgz.Pareto(minimize=("tpot", "memory_bandwidth"), maximize=("throughput",)),
        "top": dgz.Top(minimize="energy_per_output_token", count=7),
        "best": dgz.Best(by=("batch", "plan.tensor"), maximize="tokens_per_second_per_accelerator"),
        "spread": dgz.Histogram("tpot", 1e-4, 1e-2, bins=20, logarithmic=True),
    }


def result(findings: dgz.Findings) -> dict[str, np.ndarray]:
    """All that a sweep found, without what only helped it on its way."""
    arrays = {"tally": np.asarray(findings.tally)}
    for name in findings.reductions:
        state = findings.state(name)
        arrays |= {
            f"{name}.{field}": array
            for field, array in state.items()
            if field not in ("strong", "batches", "known", "waiting_indices", "waiting_points")
        }
    return arrays


def assert_same(one: dgz.Findings, other: dgz.Findings) -> None:
    """Equal, bit by bit."""
    ours, theirs = result(one), result(other)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def sobol_points(sobol: Sobol, start: int, count: int) -> np.ndarray:
    """Points of the sequence from `start` on, shape (count, dimensions)."""
    return np.stack(sobol.place(start).points(jnp.arange(count, dtype=jnp.uint32)), 1)


def brute_front(points: np.ndarray) -> list[int]:
    """Which of `points` (n, objectives), all minimised, no other beats; of equal ones the first."""
    front = []
    for index, point in enumerate(points):
        covers = (points <= point).all(1)
        better = covers & (points < point).any(1)
        if not better.any() and not covers[:index].any():
            front.append(index)
    return front


def python(code: str, *, flags: str = "", **environment: str) -> subprocess.Popen:
    """A Python process that has these names, and this one's XLA flags and `flags`.

    Programs are then equal to the bit.
    """
    paths = os.pathsep.join([str(Path(dgz.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    setting = (
        os.environ
        | {"PYTHONPATH": paths, "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {flags}"}
        | environment
    )
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT + code],
        env=setting,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen) -> str:
    """What it printed."""
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return out
