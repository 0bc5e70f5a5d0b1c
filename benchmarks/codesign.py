"""Co-design by gradient against other optimizers, at equal processor time.

    python benchmarks/codesign.py [--quick] [--json OUT] [--problems NAME ...] [--seconds S]
                                  [--seeds N]

The problems of `codesign_problems.py` are solved by `diffgenz.optimize`'s solver (8 starts for
each plan, and many), by a Sobol sequence and by random search that shrinks around its best, by
NSGA-II and ISRES (pymoo), TPE (optuna), and by SciPy's SLSQP from random starts with our gradients.
All have the same evaluator, box, tolerance and processor seconds; compiling is left out of every
method and told. Reported are, for each method, how far the best feasible point is above the best
known when the time is spent (median and worst of the seeds), and the seconds to within 1 % of it.

A row says when a rival is as good: then gradients do not win there. SLSQP counts as a start what it
finished, successful or not, within the time.
"""

import importlib.util
import statistics
import time
from typing import Any

import numpy as np
from codesign_problems import PROBLEMS, Named
from codesign_rivals import Clock, Slsqp, Values, evolution, shrinking, sobol, tpe
from report import Report, parser_of

from diffgenz.studies.optimize.compiled import BLOCK
from diffgenz.studies.optimize.exact import exact_optimum
from diffgenz.studies.optimize.lanes import Lanes
from diffgenz.studies.optimize.problem import Problem
from diffgenz.studies.optimize.slopes import Slopes, compiled_slopes
from diffgenz.studies.optimize.sqp import Point, Solved, descend
from diffgenz.ui.tables import number, table

NEAR = np.log(1.01)
"""How near to the optimum a method must come for its time to count."""


def lanes(problem: Problem, starts: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random starts of each plan: x and plans.

    Arguments:
        problem: the problem.
        starts: of each plan.
        seed: of the starts.
    """
    plans = np.repeat(np.arange(len(problem.layouts)), starts)
    shape = len(plans), len(problem.variables)
    return np.random.default_rng(seed).uniform(problem.low, problem.high, shape), plans


def ours(
    problem: Problem, at: Slopes, starts: int, seed: int, clock: Clock, *, prunes: bool = True
) -> Solved:
    """All plans at once, as `optimize` searches, its test of convexity included.

    Arguments:
        problem: the problem.
        at: values and slopes.
        starts: of each plan.
        seed: of the starts.
        clock: notes the best so far.
        prunes: whether plans that are certain to be far behind are left out.
    """

    def observed(x: np.ndarray, plans: np.ndarray) -> Point:
        point = at(x, plans)
        clock.saw(point.f, point.c)
        return point

    others = [] if prunes else None
    return Lanes(problem, starts, seed, None, others, observed).searched()[0]


def polished(problem: Problem, at: Slopes, found: Solved, starts: int) -> tuple[Solved, np.ndarray]:
    """The best of each feasible plan to a small KKT residual, the least first, and their plans."""
    f = np.where(found.violation <= 1e-3, found.point.f, np.inf).reshape(-1, starts)
    plans = np.flatnonzero(np.isfinite(f).any(axis=1))
    best = plans * starts + f[plans].argmin(axis=1)
    ends = descend(
        lambda x, which: at(x, plans[which]),
        found.x[best],
        problem.low,
        problem.high,
        problem.weights,
        tolerance=1e-7,
        curvature=found.curvature[best],
    )
    order = np.argsort(ends.point.f, kind="stable")
    return ends.at(order), plans[order]


def health(problem: Problem, found: Solved, starts: int) -> float:
    """The share of starts within 0.1 % of the best of their plan, in percent; of feasible plans."""
    f = found.point.f.reshape(-1, starts)
    met = (found.violation <= 1e-4).reshape(-1, starts)
    kept = met.any(axis=1)
    least = np.where(met, f, np.inf).min(axis=1)[kept]
    near = met[kept] & (f[kept] < least[:, None] + 1e-3)
    return 100 * float(near.mean()) if kept.any() else 0.0


def seconds_to(clock: Clock, best: float) -> float:
    """Seconds until a method was within 1 % of the best; infinite where it never was."""
    return next((t for t, f in clock.trace if f <= best + NEAR), float("inf"))


def rivals() -> dict[str, Any]:
    """The other methods that are installed, by name; what is missing is said."""
    found: dict[str, Any] = {"Sobol": sobol, "random, shrinking": shrinking}
    for package, methods in (
        ("pymoo", {name: evolution(name) for name in ("NSGA-II", "ISRES")}),
        ("optuna", {"TPE": tpe}),
    ):
        if importlib.util.find_spec(package) is None:
            names = " and ".join(methods)
            print(f"{package} is missing: {names} left out; pip install '.[peers]'")
        else:
            found |= methods
    return found


def solve(named: Named, options: Any, seeds: range, report: Report) -> None:
    """One problem by all methods: rows and checks.

    Arguments:
        named: the problem.
        options: of the command line.
        seeds: of the methods.
        report: what they go into.
    """
    problem = named.make()
    n, plans = len(problem.variables), len(problem.layouts)
    start = time.process_time()
    at, values = compiled_slopes(problem, BLOCK), Values(problem)
    x, plan = lanes(problem, 1, 0)
    at(x, plan)
    compiled = time.process_time() - start
    many = min(named.starts, 64) if options.quick else named.starts
    clock = Clock(0)
    found = ours(problem, at, many, 0, clock, prunes=False)
    seconds, share = clock.spent, health(problem, found, many)
    ends, kept = polished(problem, at, found, many)
    best, kkt = (float(ends.point.f[0]), float(ends.kkt[0])) if len(kept) else (np.nan, np.nan)
    exact = exact_optimum(problem, ends, kept) if len(kept) else None
    hard = exact.hardness if exact else np.nan
    title = f"{named.name}: {n} variables, {len(problem.limits)} limits, {plans} plans"
    print(f"\n{title}; compiled in {compiled:.1f} cpu-s; {many} starts of each plan in "
          f"{seconds:.2f} cpu-s, {share:.1f} % within 0.1 % of their plan's best; "
          f"least {np.exp(best):.6g}, KKT {kkt:.0e}, hard maxima {hard:+.2f} %",
          flush=True)  # fmt: skip
    report.rows.append(
        {"problem": named.name, "variables": n, "limits": len(problem.limits), "plans": plans,
         "compile": compiled, "starts": many, "seconds": seconds, "within": share, "kkt": kkt,
         "least": float(np.exp(best)), "hardness": hard, "rounding": exact and exact.rounding}
    )  # fmt: skip
    report.check(f"{named.name}: {many} starts x {plans} plans", seconds, "cpu-s", named.most)
    report.check(f"{named.name}: starts within 0.1 %", share, "%", named.within, at_least=True)
    report.check(f"{named.name}: hard against smooth", abs(hard), "%", named.hardness)
    report.check(f"{named.name}: KKT at the optimum", kkt, "", 1e-5)
    report.check(f"{named.name}: compile", compiled, "cpu-s", 8)
    own = []
    for seed in seeds:
        own.append(Clock(0))
        ours(problem, at, 8, seed, own[-1])
        own[-1].budget = own[-1].spent
    few = statistics.median(clock.budget for clock in own)
    report.check(f"{named.name}: 8 starts x {plans} plans", few, "cpu-s", 0.3)
    clocks = {"ours, 8 starts a plan": own}
    if np.isfinite(best) and named.rivals:
        clocks |= _rivals(
            problem, values, options.seconds, seeds, best, many * plans / seconds, named, report
        )
        _table(clocks, best, n >= 9 or plans >= 10, named, report)


def _rivals(
    problem: Problem,
    values: Values,
    budget: float,
    seeds: range,
    best: float,
    rate: float,
    named: Named,
    report: Report,
) -> dict[str, list[Clock]]:
    """The clocks of all other methods, warmed up."""
    clocks: dict[str, list[Clock]] = {}
    for size in (4096, 128, 1):
        x, plan = lanes(problem, -(-size // len(problem.layouts)), 0)
        values(x[:size], plan[:size])
    for name, method in rivals().items():
        clocks[name] = []
        for seed in seeds:
            clock = Clock(budget)
            method(problem, values, clock, seed)
            clocks[name].append(clock)
    at_one = compiled_slopes(problem, 1)
    at_one(*(part[:1] for part in lanes(problem, 1, 0)))
    clocks["SLSQP, our gradients"], ends, starts = [], [], 0
    for seed in seeds:
        method, clock = Slsqp(), Clock(budget)
        method(problem, at_one, clock, seed)
        clocks["SLSQP, our gradients"].append(clock)
        ends.append(method.best)
        starts += method.starts
    if np.isfinite(min(ends)):
        apart = 100 * abs(np.expm1(best - min(ends)))
        report.check(f"{named.name}: apart from SLSQP", apart, "%", 0.01)
    ratio = rate / max(starts / (budget * len(seeds)), 1e-9)
    report.check(f"{named.name}: starts per second, of SLSQP's", ratio, "x", 100, at_least=True)
    return clocks


def _table(
    clocks: dict[str, list[Clock]], best: float, large: bool, named: Named, report: Report
) -> None:
    """Print how far each method came, and check ours against it."""
    cells, least = [], float("inf")
    for name, runs in clocks.items():
        gaps = [100 * np.expm1(clock.best - best) for clock in runs]
        times = [seconds_to(clock, best) for clock in runs]
        row = {
            "problem": named.name,
            "method": name,
            "seconds": statistics.median(clock.budget for clock in runs),
            "gap": statistics.median(gaps),
            "worst": max(gaps),
            "to_one_percent": statistics.median(times),
            "evaluations": statistics.median(clock.evaluations for clock in runs),
        }  # fmt: skip
        report.rows.append(
            {key: None if value == float("inf") else value for key, value in row.items()}
        )
        cells.append(
            (name, *(
                "-" if row[key] == float("inf") else number(row[key], 3)
                for key in ("seconds", "gap", "worst", "to_one_percent", "evaluations")
            ))
        )  # fmt: skip
        if name not in ("ours, 8 starts a plan", "SLSQP, our gradients"):
            least = min(least, row["to_one_percent"], float("inf"))
    head = ("method", "cpu-s", "gap, %", "worst, %", "s to 1 %", "evaluations")
    print(table(head, cells, "lrrrrr"), flush=True)
    own = report.rows[-len(clocks)]
    if own["gap"] is not None:
        others = [row["gap"] for row in report.rows[-len(clocks) + 1 :] if row["gap"] is not None]
        report.check(
            f"{named.name}: behind the best rival", own["gap"] - min(others, default=0), "%", 0.02
        )
        budget = max(clock.budget for runs in clocks.values() for clock in runs)
        share = (
            own["to_one_percent"] / min(least, budget) if own["to_one_percent"] else float("inf")
        )
        report.check(f"{named.name}: time to 1 %, of the best black box's", share, "",
                     0.05 if large else 1)  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, "three problems, one seed, one second for each method")
    parser.add_argument("--problems", nargs="+", metavar="NAME", help="some problems alone")
    parser.add_argument("--seconds", type=float, help="processor seconds of each rival")
    parser.add_argument("--seeds", type=int, help="of each method")
    options = parser.parse_args()
    options.seconds = options.seconds or (1.0 if options.quick else 4.0)
    seeds = range(options.seeds or (1 if options.quick else 5))
    report = Report()
    for named in PROBLEMS:
        if named.name in options.problems if options.problems else named.quick or not options.quick:
            solve(named, options, seeds, report)
    report.finish(options.json)


if __name__ == "__main__":
    main()
