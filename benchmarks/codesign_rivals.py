"""Other ways to solve the problems of `codesign.py`, each with the same evaluator and clock.

All get the same box, the plan as one more variable, and the same tolerance of violations. The clock
is processor time of the process. Values come from one compiled program, by the batch; pymoo's and
optuna's own time counts, as ours does.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize
from scipy.stats import qmc

from diffgenz.core.batches import COMPILED_QUICKLY
from diffgenz.core.differences import in_double
from diffgenz.core.verb import as_if_traced
from diffgenz.studies.optimize.problem import Problem
from diffgenz.studies.optimize.robust import Robust
from diffgenz.studies.optimize.slopes import Slopes

TOLERATED = 1e-4
"""The violation of a limit, in its logarithm, that all methods are allowed."""


class Clock:
    """The best feasible value against processor seconds.

    Arguments:
        budget: seconds.
    """

    def __init__(self, budget: float):
        self.budget, self.evaluations = budget, 0
        self.trace: list[tuple[float, float]] = []
        self._start = time.process_time()

    @property
    def spent(self) -> float:
        """Seconds since it was made."""
        return time.process_time() - self._start

    @property
    def best(self) -> float:
        """The best ln objective so far; infinite where nothing was feasible."""
        return self.trace[-1][1] if self.trace else np.inf

    def saw(self, f: np.ndarray, c: np.ndarray) -> None:
        """Note what some points gave."""
        self.evaluations += len(f)
        good = np.isfinite(f) & np.isfinite(c).all(axis=1) & (c <= TOLERATED).all(axis=1)
        if good.any() and f[good].min() < self.best:
            self.trace.append((self.spent, float(f[good].min())))


class Values:
    """Objective and limits of a problem at many points, compiled for each size of batch.

    Arguments:
        problem: the problem.
    """

    def __init__(self, problem: Problem):
        self.problem = problem
        self._of_draws = Values(problem.inner) if isinstance(problem, Robust) else None

        @partial(jax.jit, compiler_options=COMPILED_QUICKLY)
        def program(question: Any, x: jax.Array, plans: Any) -> Any:
            def one(point: jax.Array, plan: Any) -> jax.Array:
                now = problem.placed(*problem.with_layout(question, plan, jnp.exp(point)))
                found = problem.metrics(now)
                return jnp.stack([jnp.asarray(found[name], x.dtype) for name in problem.needed])

            return jax.vmap(one)(x, plans)

        self._program = program

    def __call__(self, x: np.ndarray, plans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ln objective and ln of limits at each x."""
        problem = self.problem
        if self._of_draws is not None:
            assert isinstance(problem, Robust)
            f, c = self._of_draws(np.repeat(x, problem.draws, axis=0), problem.drawn_layouts(plans))
            shape = len(x), problem.draws
            return problem.counted(f.reshape(shape), c.reshape(*shape, -1))
        with in_double(), as_if_traced():
            own = problem.table_at(plans)
            metrics = np.asarray(self._program(problem.double, x, own))
            by_name = dict(zip(problem.needed, metrics.T, strict=True))
            question, numbers = problem.with_layout(problem.double, own, np.exp(x).T)
            question = problem.placed(question, numbers)
            found = problem.formulas(partial(problem.number, question), numbers, by_name)
            rows = [np.broadcast_to(np.asarray(row, float), len(x)) for row in found]
        return rows[0], np.stack(rows[1:], axis=1)


def _unit(problem: Problem, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From points of the unit cube, the last coordinate being the plan, to x and plans."""
    x = problem.low + u[:, :-1] * (problem.high - problem.low)
    count = len(problem.layouts)
    return x, np.minimum((u[:, -1] * count).astype(int), count - 1)


def sobol(problem: Problem, values: Values, clock: Clock, seed: int) -> None:
    """A scrambled Sobol sequence."""
    points = qmc.Sobol(len(problem.variables) + 1, rng=np.random.default_rng(seed))
    while clock.spent < clock.budget:
        clock.saw(*values(*_unit(problem, points.random(4096))))


def shrinking(problem: Problem, values: Values, clock: Clock, seed: int) -> None:
    """Random search around the best so far, in a region that shrinks where nothing is better."""
    rng = np.random.default_rng(seed)
    n = len(problem.variables) + 1
    centre, width, score = np.full(n, 0.5), 1.0, np.inf
    while clock.spent < clock.budget:
        u = np.clip(centre + width * rng.normal(size=(4096, n)) / 2, 0, 1 - 1e-12)
        u[: 4096 // 8, -1] = rng.uniform(size=4096 // 8)
        f, c = values(*_unit(problem, u))
        clock.saw(f, c)
        merit = np.nan_to_num(f + 10 * np.maximum(c - TOLERATED, 0).sum(axis=1), nan=np.inf)
        best = int(merit.argmin())
        if merit[best] < score:
            score, centre = float(merit[best]), u[best]
        else:
            width = max(0.7 * width, 1e-5)


def evolution(name: str) -> Callable[[Problem, Values, Clock, int], None]:
    """NSGA-II or ISRES by pymoo, 128 evaluations for each generation.

    Arguments:
        name: "NSGA-II" or "ISRES".
    """

    def run(problem: Problem, values: Values, clock: Clock, seed: int) -> None:
        from pymoo.algorithms.moo.nsga2 import NSGA2  # pyright: ignore[reportMissingImports]
        from pymoo.algorithms.soo.nonconvex.isres import ISRES  # pyright: ignore[reportMissingImports]
        from pymoo.core.problem import Problem as Vectorized  # pyright: ignore[reportMissingImports]

        class Task(Vectorized):
            def __init__(self) -> None:
                super().__init__(
                    n_var=len(problem.variables) + 1,
                    n_obj=1,
                    n_ieq_constr=len(problem.limits),
                    xl=0.0,
                    xu=1.0 - 1e-12,
                )

            def _evaluate(self, x: Any, out: Any, *args: Any, **options: Any) -> None:
                rows = np.resize(x, (128 * -(-len(x) // 128), x.shape[1]))
                found = [values(*_unit(problem, part)) for part in np.split(rows, len(rows) // 128)]
                f, c = (np.concatenate(part)[: len(x)] for part in zip(*found, strict=True))
                f, c = np.nan_to_num(f, nan=1e3), np.nan_to_num(c, nan=1e3)
                clock.saw(f, c)
                out["F"], out["G"] = f[:, None], c - TOLERATED

        algorithm = NSGA2(pop_size=128) if name == "NSGA-II" else ISRES(mu=20, n_offsprings=128)
        algorithm.setup(Task(), termination=("n_gen", 10**9), seed=seed)
        while clock.spent < clock.budget:
            algorithm.next()

    return run


def tpe(problem: Problem, values: Values, clock: Clock, seed: int) -> None:
    """The tree-structured Parzen estimator of optuna, with constraints."""
    import warnings

    import optuna  # pyright: ignore[reportMissingImports]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = optuna.samplers.TPESampler(
            seed=seed, constraints_func=lambda trial: trial.user_attrs["c"]
        )
    study = optuna.create_study(sampler=sampler)

    def objective(trial: Any) -> float:
        x = [
            trial.suggest_float(each.name, low, high)
            for each, low, high in zip(problem.variables, problem.low, problem.high, strict=True)
        ]
        plan = trial.suggest_categorical("plan", list(range(len(problem.layouts))))
        f, c = values(np.array([x]), np.array([plan]))
        clock.saw(f, c)
        trial.set_user_attr("c", list(np.nan_to_num(c[0] - TOLERATED, nan=1e3)))
        return float(np.nan_to_num(f[0], nan=1e3))

    while clock.spent < clock.budget:
        study.optimize(objective, n_trials=1)


class Slsqp:
    """SciPy's SLSQP from random starts, plan after plan, with our gradients.

    SciPy 1.17 reads slopes as if they were contiguous, and takes wrong ones from a view with
    strides, silently: they are copied.
    """

    def __init__(self) -> None:
        self.starts, self.best = 0, np.inf

    def __call__(self, problem: Problem, at_one: Slopes, clock: Clock, seed: int) -> None:
        """Run until the budget is spent."""
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(problem.layouts))
        while clock.spent < clock.budget:
            self._run(problem, at_one, clock, rng, int(order[self.starts % len(order)]))
            self.starts += 1

    def _run(self, problem: Problem, at_one: Slopes, clock: Clock, rng: Any, plan: int) -> None:
        seen: dict[bytes, Any] = {}

        def at(x: np.ndarray) -> Any:
            key = x.tobytes()
            if key not in seen:
                if clock.spent > clock.budget:
                    raise TimeoutError
                seen[key] = at_one(np.clip(x, problem.low, problem.high)[None], np.array([plan]))
                clock.saw(seen[key].f, seen[key].c)
            return seen[key]

        try:
            end = minimize(
                lambda x: at(x).f[0],
                rng.uniform(problem.low, problem.high),
                jac=lambda x: np.ascontiguousarray(at(x).g[0]),
                bounds=list(zip(problem.low, problem.high, strict=True)),
                constraints={
                    "type": "ineq",
                    "fun": lambda x: -at(x).c[0],
                    "jac": lambda x: np.ascontiguousarray(-at(x).rows[0]),
                },
                method="SLSQP",
                options={"ftol": 1e-9, "maxiter": 200},
            )
        except TimeoutError:
            return
        if end.success and at(end.x).c.max(initial=0.0) <= 1e-6:
            self.best = min(self.best, float(end.fun))
