"""The solver of `optimize` on problems whose optimum and multipliers are known by hand."""

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from diffgenz.studies.optimize.active_set import solve_active, solve_quadratic
from diffgenz.studies.optimize.interior import solve_interior
from diffgenz.studies.optimize.quadratic import Program
from diffgenz.studies.optimize.sqp import (
    BROKEN,
    CONVERGED,
    INFEASIBLE,
    STOPPED,
    Point,
    descend,
)


def geometric(objective, constraints):
    """A geometric program in logarithms: monomials of coefficient 1 as rows of exponents.

    The objective and each constraint (<= 1) is a posynomial: (coefficients, exponents).
    """

    def log_sum(x, posynomial):
        coefficients, exponents = (np.asarray(part, float) for part in posynomial)
        terms = coefficients * np.exp(x @ exponents.T)
        total = terms.sum(axis=1)
        return np.log(total), (terms / total[:, None]) @ exponents

    def evaluate(x, lanes):
        f, g = log_sum(x, objective)
        if not constraints:
            return Point(f, np.zeros((len(x), 0)), g, np.zeros((len(x), 0, x.shape[1])))
        parts = [log_sum(x, each) for each in constraints]
        return Point(
            f, np.stack([c for c, _ in parts], 1), g, np.stack([rows for _, rows in parts], 1)
        )

    return evaluate


def solved(evaluate, n, m, *, starts=16, low=-4.0, high=4.0, **options):
    start = np.random.default_rng(1).uniform(low, high, (starts, n))
    box = np.full(n, low), np.full(n, high)
    return descend(evaluate, start, *box, np.ones(m), tolerance=1e-9, **options)


def test_the_largest_box_of_a_given_surface_is_a_cube():
    # max x y z with 2 (x y + x z + y z) <= 6: x = y = z = 1; volume ~ surface**(3/2)
    volume = ([1], [[-1, -1, -1]])
    surface = ([1 / 3] * 3, [[1, 1, 0], [1, 0, 1], [0, 1, 1]])
    found = solved(geometric(volume, [surface]), 3, 1)
    assert set(found.status) <= {CONVERGED, STOPPED}
    np.testing.assert_allclose(found.point.f, 0, atol=1e-8)
    np.testing.assert_allclose(np.exp(found.x), 1, rtol=1e-6)
    np.testing.assert_allclose(found.multipliers, 1.5, rtol=1e-6)


def test_a_pipe_of_least_cost():
    # min a x + b / x**2 by hand: a x = 2 b / x**2, x**3 = 2 b / a
    a, b = 3.0, 5.0
    found = solved(geometric(([a, b], [[1], [-2]]), []), 1, 0)
    x = (2 * b / a) ** (1 / 3)
    np.testing.assert_allclose(found.point.f, np.log(a * x + b / x**2), atol=1e-8)
    np.testing.assert_allclose(np.exp(found.x), x, rtol=1e-6)


def test_a_vertex_with_bounds_is_that_of_linear_programming():
    # monomials are linear in logarithms
    rng = np.random.default_rng(0)
    for _ in range(5):
        cost, rows = rng.normal(size=4), rng.normal(size=(3, 4))
        offsets = rng.uniform(0.5, 2, 3)
        evaluate = geometric(
            ([1], [cost]), [([np.exp(-b)], [row]) for b, row in zip(offsets, rows, strict=True)]
        )
        found = solved(evaluate, 4, 3)
        truth = linprog(cost, rows, offsets, bounds=[(-4, 4)] * 4)
        np.testing.assert_allclose(found.point.f, truth.fun, atol=1e-7)
        np.testing.assert_allclose(
            found.multipliers, -np.tile(truth.ineqlin.marginals, (16, 1)), atol=1e-5
        )


def test_random_geometric_programs_agree_with_slsqp():
    rng = np.random.default_rng(3)
    for _ in range(4):
        terms = [(rng.uniform(0.1, 2, 4), rng.normal(size=(4, 3))) for _ in range(4)]
        limits = [(c / c.sum(), e) for c, e in terms[1:]]  # all hold at x = 0
        evaluate = geometric(terms[0], limits)
        found = solved(evaluate, 3, 3, low=-2.0, high=2.0)

        def value(x, evaluate=evaluate):
            return evaluate(x[None], None)

        truth = minimize(
            lambda x: value(x).f[0],
            np.zeros(3),
            jac=lambda x: value(x).g[0],
            bounds=[(-2, 2)] * 3,
            constraints={
                "type": "ineq",
                "fun": lambda x: -value(x).c[0],
                "jac": lambda x: -value(x).rows[0],
            },
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        np.testing.assert_allclose(found.point.f, truth.fun, atol=1e-7)
        assert found.violation.max() <= 1e-8


def test_limits_that_exclude_each_other_end_where_the_violation_is_least():
    # x >= e and x <= 1 / e, and y moves nothing of it
    evaluate = geometric(([1], [[1, 1]]), [([np.e], [[-1, 0]]), ([np.e], [[1, 0]])])
    found = solved(evaluate, 2, 2)
    assert set(found.status) == {INFEASIBLE}
    total = np.maximum(found.point.c, 0).sum(axis=1)
    np.testing.assert_allclose(total, 2, atol=1e-6)  # of the sum; anywhere between is least


def test_a_start_without_a_number_is_left_out():
    good = geometric(([1], [[1]]), [([1], [[-1]])])

    def evaluate(x, lanes):
        point = good(x, lanes)
        return point._replace(f=np.where(lanes == 2, np.nan, point.f))

    found = solved(evaluate, 1, 1, starts=4)
    assert found.status[2] == BROKEN
    np.testing.assert_allclose(found.point.f[[0, 1, 3]], 0, atol=1e-8)


def programs(n, m=5, lanes=8):
    """Random quadratic programs, some of whose limits cannot be met."""
    rng = np.random.default_rng(n)
    root = rng.normal(size=(lanes, n, n))
    curvature = root @ root.swapaxes(1, 2) + 0.1 * np.eye(n)
    slope, rows = rng.normal(size=(lanes, n)), rng.normal(size=(lanes, m, n))
    values, penalty = rng.normal(size=(lanes, m)), np.full((lanes, m), 3.0)
    low, high = np.full((lanes, n), -0.5), np.full((lanes, n), 0.7)
    return Program(curvature, slope, rows, values, penalty, low, high)


def check_conditions(program, d, lam, near):
    """The conditions of an optimum (Karush, Kuhn and Tucker), as far as `near`."""
    assert (d >= program.low).all()
    assert (d <= program.high).all()
    left = program.values + np.einsum("lmn,ln->lm", program.rows, d)
    gradient = np.einsum("lnk,lk->ln", program.curvature, d) + program.slope
    gradient += np.einsum("lmn,lm->ln", program.rows, lam)
    low, high = d - program.low <= near, program.high - d <= near
    np.testing.assert_allclose(gradient[~low & ~high], 0, atol=near)
    assert (gradient[low] >= -near).all()
    assert (gradient[high] <= near).all()
    np.testing.assert_allclose(lam[left < -near], 0, atol=near)
    np.testing.assert_allclose(lam[left > near], 3, atol=10 * near)


@pytest.mark.parametrize("n", [1, 3, 14])
def test_quadratic_programs_meet_their_conditions(n):
    program = programs(n)
    nothing = np.zeros_like(program.values)
    d, lam = solve_quadratic(program, nothing, np.zeros(len(nothing)))
    check_conditions(program, d, lam, 1e-6)
    d, lam = solve_interior(program)
    check_conditions(program, d, lam, 1e-6)


@pytest.mark.parametrize("n", [1, 3, 14])
def test_where_a_lane_is_at_its_optimum_the_multipliers_tell_the_next_step_exactly(n):
    """It is none, and is found in one or two linear systems, but for limits that are just met."""
    program = programs(n)
    d, guess = solve_interior(program)
    here = program._replace(
        slope=program.slope + np.einsum("lnk,lk->ln", program.curvature, d),
        values=program.values + np.einsum("lmn,ln->lm", program.rows, d),
        low=program.low - d,
        high=program.high - d,
    )
    step, lam, solved = solve_active(here, guess)
    assert solved.mean() > 0.8
    check_conditions(here.at(solved), step[solved], lam[solved], 1e-10)
    np.testing.assert_allclose(step[solved], 0, atol=1e-5)


def test_limits_that_depend_on_each_other_share_their_multiplier():
    """min d^2/2 + d, where -1/2 - d <= 0 twice: d = -1/2, the multipliers make 1/2 together."""
    one = np.ones((1, 1))
    program = Program(
        one[:, :, None], one, -np.ones((1, 2, 1)), np.full((1, 2), -0.5), np.full((1, 2), 4.0),
        -2 * one, 2 * one,
    )  # fmt: skip
    d, lam, solved = solve_active(program, np.full((1, 2), 0.1))
    assert solved.all()
    np.testing.assert_allclose(d, -0.5, atol=1e-10)
    np.testing.assert_allclose(lam.sum(), 0.5, atol=1e-10)
