"""Engines and loads whose simulated figures are stored, and what stores them.

`python tests/serving_fixtures.py [NAME ...]` writes the fixtures of these names (`FIXTURES`), or
all of them, anew. Runs are long, for their noise to be small beside what is compared: an hour or
more each.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from serving_simulator import CLOCKS, GUESSES, Engine, Request, figures, lengths, pooled

FOLDER = Path(__file__).parent / "serving"

CASES = [
    # clock, kind, prompt, output, budget, slots, cache
    ("small", "constant", 512, 128, 2048, 256, np.inf),
    ("small", "constant", 2048, 256, 8192, 256, np.inf),
    ("small", "lognormal", 1024, 256, 2048, 256, np.inf),
    ("small", "lognormal", 4096, 128, 2048, 128, np.inf),
    ("small", "lognormal", 256, 512, 8192, 64, np.inf),
    ("small", "constant", 1024, 512, 8192, 32, np.inf),
    ("small", "lognormal", 2048, 512, 8192, 256, 200e3),
    ("large", "constant", 2048, 256, 2048, 256, np.inf),
    ("large", "lognormal", 512, 256, 512, 128, np.inf),
    ("large", "lognormal", 8192, 512, 8192, 128, np.inf),
    ("large", "constant", 128, 1024, 2048, 128, np.inf),
    ("large", "lognormal", 1024, 1024, 2048, 256, 420e3),
]
PREFILL_FIRST = [
    (*case, "prefill_first")
    for case in [
        ("small", "constant", 512, 128, 2048, 256, np.inf),
        ("small", "lognormal", 1024, 256, 8192, 64, np.inf),
        ("small", "lognormal", 4096, 128, 2048, 128, np.inf),
        ("small", "constant", 2048, 256, 8192, 128, np.inf),
        ("large", "lognormal", 512, 512, 2048, 128, np.inf),
        ("large", "constant", 128, 1024, 2048, 32, np.inf),
        ("large", "lognormal", 2048, 512, 8192, 256, 300e3),
        ("large", "lognormal", 4096, 512, 8192, 256, np.inf),
    ]
]
"""Prompts that are put first."""

SPECULATION = [
    ("small", "constant", 1024, 256, 8192, 64, np.inf, "two"),
    ("small", "lognormal", 2048, 256, 8192, 256, np.inf, "four"),
    ("small", "lognormal", 512, 512, 2048, 128, np.inf, "two"),
    ("large", "lognormal", 1024, 512, 4096, 128, np.inf, "two"),
    ("large", "constant", 2048, 128, 8192, 256, np.inf, "four"),
    ("large", "lognormal", 512, 1024, 2048, 64, np.inf, "four"),
]
"""Speculative decoding."""

FULL_CACHES = [
    (clock, kind, prompt, output, budget, 256, float(cache))
    for clock, kind, prompt, output, budget, cache in [
        ("small", "lognormal", 256, 1024, 2048, 60e3),
        ("small", "constant", 256, 512, 8192, 100e3),
        ("small", "lognormal", 1024, 512, 4096, 120e3),
        ("small", "lognormal", 512, 2048, 2048, 200e3),
        ("small", "constant", 2048, 128, 8192, 100e3),
        ("small", "lognormal", 4096, 256, 2048, 150e3),
        ("large", "lognormal", 128, 1024, 2048, 80e3),
        ("large", "constant", 1024, 1024, 8192, 150e3),
        ("large", "lognormal", 8192, 128, 8192, 200e3),
        ("large", "lognormal", 2048, 256, 2048, 120e3),
        ("large", "constant", 512, 1024, 2048, 60e3),
        ("large", "lognormal", 512, 512, 4096, 60e3),
    ]
]
"""Caches that fill up before slots or budgets do."""

LOADS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9)
CONCURRENCIES = (1, 4, 16, 64, 128)


class Plan(NamedTuple):
    """What is simulated of a fixture.

    Arguments:
        cases: its engines.
        loads: shares of the saturation rate.
        concurrencies: of closed loops.
        saturated: requests that arrive at once, whose middle ones tell the saturation rate.
        runs: how many runs at each load are pooled.
        requests: of a run, and three times as many at nine tenths of saturation.
    """

    cases: list
    loads: tuple
    concurrencies: tuple
    saturated: int
    runs: int
    requests: int


FIXTURES = {
    "simulated": Plan(CASES, LOADS, CONCURRENCIES, 100_000, 8, 60_000),
    "prefill_first": Plan(PREFILL_FIRST, (0.3, 0.5, 0.8), (4, 64), 50_000, 8, 60_000),
    "speculation": Plan(SPECULATION, (0.3, 0.5, 0.8), (4, 64), 6_000, 2, 40_000),
    "full_caches": Plan(FULL_CACHES, (0.7, 0.8), (), 20_000, 6, 20_000),
}
"""What each file holds; speculation.json is of single runs of 8,000 to 96,000 requests as yet."""


def engine_of(case) -> Engine:
    """The engine of a case; a last word of it, if any, says that prompts go first, or guesses."""
    clock, _, _, _, budget, slots, cache, *words = case
    word = words[0] if words else ""
    guesses = GUESSES.get(word)
    return Engine(CLOCKS[clock], budget, slots, cache, word == "prefill_first", guesses)


def simulate(case, count, seed, rate=None, concurrency=None, bursty=1.0) -> dict[str, float]:
    """The figures of one run; without a rate and a concurrency all arrive at once."""
    return figures(*served(case, count, seed, rate, concurrency, bursty))


def served(
    case, count, seed, rate=None, concurrency=None, bursty=1.0
) -> tuple[Engine, list[Request]]:
    """The engine and the requests of one run; arguments as of `simulate`."""
    kind, prompt, output = case[1:4]
    rng = np.random.default_rng(seed)
    engine = engine_of(case)
    arrivals = np.zeros(count)
    if rate is not None:
        gaps = rng.gamma(1 / bursty, bursty / rate, count)
        arrivals = np.cumsum(gaps)
    prompts, outputs = (lengths(kind, mean, count, rng) for mean in (prompt, output))
    return engine, engine.run(arrivals, prompts, outputs, concurrency)


def simulated(case, seed, plan: Plan) -> dict:
    """A row of a fixture; `seed` is that of its closed loops."""
    ends = np.sort([each.last for each in served(case, plan.saturated, 9)[1]])
    low, high = plan.saturated // 5, plan.saturated * 4 // 5
    most = float((high - low) / (ends[high] - ends[low]))
    row = {"case": list(case), "saturation": most, "open": {}, "closed": {}}
    row["case"][6] = None if np.isinf(case[6]) else case[6]
    for load in plan.loads:
        count = plan.requests * (3 if load >= 0.9 else 1)
        runs = [served(case, count, 1000 + i, load * most)[1] for i in range(plan.runs)]
        row["open"][load] = pooled(runs)
    for k in plan.concurrencies:
        if k <= case[5]:
            count = min(4000, 400 + 60 * k)
            row["closed"][k] = simulate(case, count, 200 + seed, concurrency=k)
    return row


def main() -> None:
    """Write the fixtures."""
    for name in sys.argv[1:] or FIXTURES:
        plan, rows = FIXTURES[name], []
        for seed, case in enumerate(plan.cases):
            rows.append(simulated(case, seed, plan))
            print(case, rows[-1]["saturation"], flush=True)
        (FOLDER / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
