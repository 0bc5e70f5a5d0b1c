"""Fronts by gradient against NSGA-II, at equal processor time.

    python benchmarks/codesign_front.py [--quick] [--json OUT]

The accelerator of `mix70b` (`codesign_problems.py`: a mix of three workloads on 70B, ten numbers,
all plans of eight ranks) between cost per token and time per token; then with time to first token
as a third objective. `diffgenz.front`'s solver makes its front, and its processor seconds are what
NSGA-II (pymoo, a population of 128) gets, then four times as much. Of NSGA-II every feasible point
that it ever evaluated counts, not its last population alone. Both have the same box, tolerance and
compiled evaluator; compiling is left out of both, and told.

The hypervolume is in logarithms. Its reference point is the nadir of the front of all that anybody
found, a dense front of ours among it, and a tenth of the front's range more, as is usual for two
objectives (Ishibuchi et al., How to specify a reference point in hypervolume calculation for fair
performance comparison, Evolutionary Computation 26(3), 2018). What the dense front has is the most
that anybody can reach, and told of each method.
"""

import importlib.util
import statistics
import time
from typing import Any

import numpy as np
from codesign_problems import DERIVED, PACKAGE, QUANTITIES, mix70b
from codesign_rivals import TOLERATED, Clock, Values
from report import Report, parser_of

import diffgenz as dgz
from diffgenz.studies.optimize.compiled import Compiled
from diffgenz.studies.optimize.front import front_between
from diffgenz.studies.optimize.problem import Problem
from diffgenz.studies.optimize.scalarized import Scalarized
from diffgenz.studies.pareto import front_of
from diffgenz.ui.tables import number, table

COST = "8e6 * rate / throughput"
PARTS = 3
"""Parts of the mix: a limit on the worst of them is a row for each."""
CASES = {
    "cost, TPOT": ((COST, "tpot"), ("fits", "ttft <= 3", *PACKAGE), (1, PARTS), 24, 200),
    "cost, TPOT, TTFT": ((COST, "tpot", "ttft"), ("fits", *PACKAGE), (1, PARTS, PARTS), 8, 14),
}
"""Objectives, limits, rows of each objective, and points of the front and of the dense one."""
LONGER = 4
"""So many times our seconds NSGA-II gets, beside as many as ours."""
POPULATION, BLOCK = 128, 32
"""Points of a generation of NSGA-II, and lanes of one call of ours."""


def problem_of(goals: tuple[str, ...], limits: tuple[str, ...]) -> Problem:
    """The problem of `mix70b` whose last limits are objectives.

    Arguments:
        goals: the objectives, of which less is better.
        limits: the other limits.
    """
    first = mix70b()
    over = {each.name: (each.low, each.high) for each in first.variables}
    rows = (*limits, *(f"{goal} <= 1" for goal in goals))
    return Problem(
        first.question, over, goals[0], False, rows, DERIVED, QUANTITIES, first.layouts
    ).hardened(sharpness=8, smooth_batch=True)


def nsga2(solver: Scalarized, values: Values, seconds: float, seed: int) -> np.ndarray:
    """The front of all feasible points of NSGA-II, of shape (points, objectives).

    Arguments:
        solver: says which limits are objectives.
        values: of a problem at many points.
        seconds: of the processor.
        seed: of the run.
    """
    from pymoo.algorithms.moo.nsga2 import NSGA2  # pyright: ignore[reportMissingImports]
    from pymoo.core.problem import Problem as Vectorized  # pyright: ignore[reportMissingImports]

    problem = solver.problem
    plans, first = len(problem.layouts), solver.first
    seen = [np.zeros((0, solver.objectives))]

    class Task(Vectorized):
        def __init__(self) -> None:
            n = len(problem.variables) + 1
            super().__init__(
                n_var=n, n_obj=solver.objectives, n_ieq_constr=first, xl=0.0, xu=1.0 - 1e-12
            )

        def _evaluate(self, x: Any, out: Any, *args: Any, **options: Any) -> None:
            u = np.resize(x, (POPULATION, x.shape[1]))
            at = problem.low + u[:, :-1] * (problem.high - problem.low)
            _, c = values(at, np.minimum((u[:, -1] * plans).astype(int), plans - 1))
            c = np.nan_to_num(c[: len(x)], nan=1e3)
            out["F"], out["G"] = solver.values(c), c[:, :first] - TOLERATED
            good = (out["G"] <= 0).all(axis=1)
            points = np.concatenate([seen[0], out["F"][good]])
            seen[0] = front_of(np.arange(len(points)), points).points

    algorithm = NSGA2(pop_size=POPULATION)
    algorithm.setup(Task(), termination=("n_gen", 10**9), seed=seed)
    clock = Clock(seconds)
    while clock.spent < clock.budget:
        algorithm.next()
    return seen[0]


def solve(name: str, seeds: range, report: Report) -> None:
    """One case: rows and checks.

    Arguments:
        name: of the case.
        seeds: of both methods.
        report: what they go into.
    """
    goals, limits, rows, count, many = CASES[name]
    problem = problem_of(goals, limits)
    start = time.process_time()
    at, values = Compiled(problem, BLOCK), Values(problem)
    plans = np.resize(np.arange(len(problem.layouts)), POPULATION)
    middle = np.tile((problem.low + problem.high) / 2, (POPULATION, 1))
    at(middle, plans)
    values(middle, plans)
    compiled = time.process_time() - start
    print(f"{name}: compiled in {compiled:.1f} cpu-s", flush=True)
    fronts: dict[str, list[np.ndarray]] = {"ours": [], "NSGA-II": [], f"NSGA-II, {LONGER} x": []}
    spent: dict[str, list[float]] = {method: [] for method in fronts}
    for seed in seeds:
        solver, clock = Scalarized(problem, rows, at, None), Clock(0)
        found, _ = front_between(solver, count, seed)
        seconds, lanes = clock.spent, solver.lanes
        print(f"{name}, seed {seed}: {len(found.values)} points of {lanes} optimizations in "
              f"{seconds:.2f} cpu-s", flush=True)  # fmt: skip
        fronts["ours"].append(found.values)
        spent["ours"].append(seconds)
        if importlib.util.find_spec("pymoo") is None:
            print("pymoo is missing: NSGA-II left out; pip install '.[peers]'")
            continue
        for method, times in (("NSGA-II", 1), (f"NSGA-II, {LONGER} x", LONGER)):
            fronts[method].append(nsga2(solver, values, times * seconds, seed))
            spent[method].append(times * seconds)
    clock = Clock(0)
    dense, _ = front_between(Scalarized(problem, rows, at, None), many, 0)
    fronts["dense"], spent["dense"] = [dense.values], [clock.spent]
    every = np.concatenate([part for parts in fronts.values() for part in parts])
    best = front_of(np.arange(len(every)), every).points
    reference = best.max(axis=0) + 0.1 * np.ptp(best, axis=0)
    most = dgz.hypervolume(best, reference)
    print(f"\n{name}: {len(problem.variables)} variables, {len(problem.limits)} limits, "
          f"{len(problem.layouts)} plans", flush=True)  # fmt: skip
    cells, volumes = [], {}
    for method, parts in fronts.items():
        if not parts:
            continue
        each = [dgz.hypervolume(part, reference) for part in parts]
        volumes[method] = statistics.median(each)
        report.rows.append(
            {"case": name, "method": method, "seconds": statistics.median(spent[method]),
             "hypervolume": volumes[method], "least": min(each), "most": max(each),
             "of_all": volumes[method] / most,
             "points": statistics.median(len(part) for part in parts)}
        )  # fmt: skip
        row = list(report.rows[-1].values())[2:]
        cells.append((method, *(number(value, 4) for value in row)))
    head = ("method", "cpu-s", "hypervolume", "least", "most", "of all", "points")
    print(table(head, cells, "lrrrrrr"), flush=True)
    if "NSGA-II" in volumes:
        ratio = volumes["ours"] / volumes["NSGA-II"]
        report.check(f"{name}: hypervolume, of NSGA-II's", ratio, "x", 1.15, at_least=True)


def main() -> None:
    """Measure, print, write."""
    options = parser_of(__doc__, "two objectives, one seed").parse_args()
    report = Report()
    for name in list(CASES)[:1] if options.quick else CASES:
        solve(name, range(1 if options.quick else 3), report)
    report.finish(options.json)


if __name__ == "__main__":
    main()
