"""How fast `serving.py`'s fixed points are solved and differentiated, and how exactly."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from report import Report, timed

import diffgenz as dgz
from diffgenz.core.batches import keep_memory
from diffgenz.core.verb import as_if_traced
from diffgenz.inference.resolved import resolved
from diffgenz.serving.engine_state import EngineState, engine_state
from diffgenz.serving.figures import means_of
from diffgenz.serving.saturation import FILLED, saturation_of
from diffgenz.ui.tables import number, table

NUMBERS = ("load", "slots", "cache", "times", "slope")
"""What varies: the load as a share of the engine's saturation rate, and factors of the rest."""

BLOCK = 2**12
"""Fixed points in a call; each core has a thread of its own."""


def question() -> tuple[dgz.Scenario, dgz.Load, dgz.Engine]:
    """The engine of which the figures are."""
    model, platform = dgz.load_model("meta-llama/Llama-3.1-70B"), dgz.load_platform("h100_sxm", 8)
    chat = dgz.Workload(input_tokens=2048.0, output_tokens=256.0)
    case = dgz.Scenario(model, platform, chat, dgz.Parallelism(8))
    lengths = dgz.Lognormal(0.7)
    return case, dgz.Load(rate=1.0, prompts=lengths, outputs=lengths), dgz.Engine()


def latencies(numbers: Any, state: EngineState) -> tuple[Any, Any]:
    """Mean TTFT and TPOT of an engine with changed numbers (`NUMBERS`)."""
    load, slots, cache, times, slope = (numbers[i] for i in range(len(NUMBERS)))
    old = state.table
    slower = jnp.log(times) + jnp.linspace(0, 1, old.alone.shape[0]) * jnp.log(slope)
    table_ = type(old)(
        old.slots,
        old.budget,
        old.alone + slower,
        old.mixed + slower[:, None],
        old.pair * times,
    )
    slots = slots * state.slots
    most = saturation_of(table_, state.demand, slots, cache * state.most.cache / FILLED)
    changed = EngineState(state.demand, state.fine, table_, most, slots, state.fit, state.engines)
    at = dgz.Load(rate=load * most.rate)
    means = means_of(changed, changed.under(at), at)
    return means.ttft, means.tpot


def objective(numbers: Any, state: EngineState) -> Any:
    """What is differentiated: log TTFT + log TPOT."""
    ttft, tpot = latencies(numbers, state)
    return jnp.log(ttft) + jnp.log(tpot)


def drawn(count: int, seed: int, most: float) -> np.ndarray:
    """Random numbers, of shape (count, 5); loads go up to `most`."""
    random = np.random.default_rng(seed)
    load = random.uniform(0.05, most, (count, 1))
    return np.concatenate([load, random.uniform(0.7, 1.3, (count, 4))], axis=1)


def in_batches(function: Any) -> Any:
    """The compiled function of many numbers and one engine."""
    return jax.jit(jax.vmap(function, (0, None)))


def speeds(report: Report, quick: bool) -> None:
    """Time, compare with float64, print, and add the checks."""
    keep_memory()
    asked = question()
    compiling = compile_seconds(*asked)
    with as_if_traced():
        plain = engine_state(resolved(asked[0]), *asked[1:])
        state = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), plain)
        threads = os.cpu_count() or 1
        count, repeats = threads * BLOCK, 3 if quick else 15
        numbers = jnp.asarray(drawn(count, 0, 0.9), jnp.float32)
        blocks = jnp.split(numbers, threads)
        pool = ThreadPoolExecutor(threads)
        programs = {"fixed points": in_batches(latencies), "gradients": in_batches(gradient)}
        lines = []
        for name, program in programs.items():

            def run(block: Any, program: Any = program) -> Any:
                return jax.block_until_ready(program(block, state))

            took = timed(lambda run=run: list(pool.map(run, blocks)), repeats)
            lines.append((name, *(number(count / x) for x in (took.median, took.fastest))))
            target = 250_000 if name == "fixed points" else 120_000
            report.check(f"{name} per second", count / took.fastest, "/s", target, at_least=True)
            report.rows.append({"speed": name, "count": count, **vars(took)})
        found = jax.tree.map(np.asarray, programs["fixed points"](numbers, state))
        slopes = np.asarray(programs["gradients"](numbers, state))
        exact, differences = in_double(np.asarray(numbers, np.float64), plain)
    print("\n" + table(("", "per second", "fastest"), lines, "lrr"))
    finite = np.isfinite(slopes).all() and all(np.isfinite(each).all() for each in found)
    report.check(
        "share of values and gradients that are finite", float(finite), "", 1, at_least=True
    )
    for name, mine, its in zip(("TTFT", "TPOT"), found, exact, strict=True):
        off = np.max(np.abs(mine[: len(its)] / its - 1))
        report.check(f"{name} in float32 against float64, worst", off, "", 1e-3)
    off = np.abs(slopes[: len(differences)] - differences) / np.maximum(np.abs(differences), 0.01)
    report.check("gradients against float64 differences, worst", np.max(off), "", 1e-3)
    report.check("the same, 95 of 100", np.percentile(off.max(axis=1), 95), "", 1e-3)
    report.check("first compiled answer of `serve`, CPU", compiling, "s", 6)


def gradient(numbers: Any, state: EngineState) -> Any:
    """The derivatives of `objective`."""
    return jax.grad(objective)(numbers, state)


def in_double(numbers: np.ndarray, state: Any, most: int = 256) -> tuple[Any, np.ndarray]:
    """Latencies of the first few numbers in float64, and central differences of `objective`."""
    numbers = numbers[:most]
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), state)
        value = in_batches(latencies)
        exact = jax.tree.map(np.asarray, value(jnp.asarray(numbers), wide))
        slopes = []
        for i in range(len(NUMBERS)):
            step = np.zeros(len(NUMBERS))
            step[i] = 1e-5
            ends = (value(jnp.asarray(numbers * (1 + sign * step)), wide) for sign in (1, -1))
            high, low = (np.log(np.asarray(a) * np.asarray(b)) for a, b in ends)
            slopes.append((high - low) / (2e-5 * numbers[:, i]))
    return exact, np.stack(slopes, axis=1)


def compile_seconds(case: dgz.Scenario, load: dgz.Load, engine: dgz.Engine) -> float:
    """Seconds of CPU that the first compiled answer of `serve` takes."""
    arrays = jax.tree.map(jnp.asarray, (case, load, engine))
    start = time.process_time()
    jax.block_until_ready(dgz.serve(*arrays).ttft.mean)
    return time.process_time() - start
