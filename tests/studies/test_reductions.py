"""Reductions against brute force, in batches of any order, with ties and gaps.

Nothing is lost, and what overflows is counted.
"""

import itertools
from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sweep_cases import brute_front

import diffgenz as dgz
from diffgenz import InputError
from diffgenz.studies.pareto import front_of, strongest, unbeaten

BATCH = 1024


@partial(jax.jit, static_argnums=0)
def screened(reduction, columns, feasible, threshold):
    return reduction.screen(columns, feasible, threshold)


def reduced(reduction, columns, feasible, levels=None, order=None):
    """The state after all rows, in whole batches, in `order`."""
    size = len(feasible)
    state = reduction.start(levels or {})
    for batch in order if order is not None else range(-(-size // BATCH)):
        rows = np.arange(batch * BATCH, (batch + 1) * BATCH)
        there = rows < size
        mine = {name: column[np.minimum(rows, size - 1)] for name, column in columns.items()}
        keep, summary = screened(
            reduction,
            mine,
            feasible[np.minimum(rows, size - 1)] & there,
            reduction.threshold(state),
        )
        kept = np.zeros(0, int) if keep is None else np.flatnonzero(keep)
        state = reduction.absorb(
            state,
            {name: column[kept] for name, column in mine.items()} | {"index": rows[kept]},
            summary,
        )
    return reduction.settled(state)


@jax.jit
def dismissing(points, strong):
    return unbeaten(list(points.T), strong)


def cloud(objectives, size=10_000, steps=60, seed=0):
    """Points near a front, with ties and duplicates, and which are feasible."""
    rng = np.random.default_rng(seed)
    directions = np.abs(rng.normal(size=(size, objectives)))
    raw = (
        directions
        / np.linalg.norm(directions, axis=1, keepdims=True)
        * (1 + 0.2 * rng.random((size, 1)))
    )
    return (np.round((raw - 1) * steps) / steps).astype(np.float32), rng.random(size) < 0.8


# Fronts


@pytest.mark.parametrize(("objectives", "size"), [(2, 3000), (3, 10_000), (4, 3000), (5, 3000)])
def test_fronts_are_those_of_brute_force(objectives, size):
    points, feasible = cloud(objectives, size)
    names = [f"x{number}" for number in range(objectives)]
    front = dgz.Pareto(minimize=tuple(names[:-1]), maximize=(names[-1],))
    columns = dict(zip(names, (*points.T[:-1], -points.T[-1]), strict=True))
    state = reduced(front, columns, feasible)
    numbers = np.flatnonzero(feasible)
    expected = numbers[brute_front(points[feasible])]
    assert sorted(state["indices"]) == sorted(expected)
    np.testing.assert_array_equal(state["points"], points[state["indices"]])
    assert state["overflow"] == 0
    backwards = reduced(front, columns, feasible, order=range(-(-size // BATCH) - 1, -1, -1))
    np.testing.assert_array_equal(backwards["indices"], state["indices"])


grids = st.integers(2, 5).flatmap(
    lambda objectives: st.integers(0, 40).flatmap(
        lambda count: arrays(
            np.float32, (count, objectives), elements=st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0])
        )
    )
)


@given(grids, st.randoms(use_true_random=False))
def test_merging_fronts_is_associative_commutative_and_idempotent(points, rng):
    indices = np.array(rng.sample(range(2**40), len(points)), np.int64)
    whole = front_of(indices, points)
    order = np.argsort(indices)
    assert sorted(whole.indices) == sorted(indices[order][brute_front(points[order])])
    assert [tuple(point) for point in whole.points] == sorted(map(tuple, whole.points))
    a, b = sorted((rng.randint(0, len(points)), rng.randint(0, len(points))))
    parts = [(indices[:a], points[:a]), (indices[a:b], points[a:b]), (indices[b:], points[b:])]

    def joined(one, other):
        return front_of(np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]]))

    for first, second, third in itertools.permutations(parts):
        for merged in (
            joined(joined(front_of(*first), second), third),
            joined(front_of(*first), joined(front_of(*second), third)),
            joined(whole, first),
        ):
            np.testing.assert_array_equal(merged.indices, whole.indices)
            np.testing.assert_array_equal(merged.points, whole.points)


@given(grids, st.integers(0, 40))
def test_strong_points_dismiss_only_what_is_beaten(points, cut):
    front = front_of(np.arange(len(points[:cut])), points[:cut])
    strong = strongest(front.points, points, 16)
    assert strong.shape == (16, points.shape[1])
    padded = np.pad(points, ((0, 40 - len(points)), (0, 0)))  # one shape, one program
    alive = np.asarray(dismissing(padded, strong))[: len(points)]
    lost = np.asarray(
        [
            any((other <= point).all() and (other < point).any() for other in front.points)
            for point in points
        ],
        bool,
    )
    assert not (~alive & ~lost).any()


def test_strong_points_do_dismiss():
    points, _ = cloud(2)
    front = front_of(np.arange(len(points)), points)
    alive = np.asarray(dismissing(points, strongest(front.points, points[:1000], 16)))
    assert alive.mean() < 0.2


def test_an_overflow_is_counted_and_what_is_kept_lies_on_the_front():
    line = np.linspace(0, 1, 500, dtype=np.float32)
    columns = {"a": line, "b": 1 - line}  # every point is on the front
    state = reduced(dgz.Pareto(minimize=("a", "b"), capacity=120), columns, np.ones(500, bool))
    assert (len(state["indices"]), int(state["overflow"])) == (120, 380)
    assert (
        reduced(dgz.Pareto(minimize=("a", "b"), capacity=500), columns, np.ones(500, bool))[
            "overflow"
        ]
        == 0
    )
    merged = dgz.Pareto(minimize=("a", "b"), capacity=120).merge(
        state, reduced(dgz.Pareto(minimize=("a", "b")), columns, line > 0.9)
    )
    assert len(merged["indices"]) == 120
    assert merged["overflow"] > 380


def test_an_empty_front_stays_empty():
    for objectives in (2, 3, 4):
        assert (
            len(front_of(np.zeros(0, np.int64), np.zeros((0, objectives), np.float32)).indices) == 0
        )
    state = reduced(
        dgz.Pareto(minimize=("a", "b")),
        {"a": np.ones(10, np.float32), "b": np.ones(10, np.float32)},
        np.zeros(10, bool),
    )
    assert len(state["indices"]) == 0


# Top, best, histograms


@pytest.mark.parametrize("count", [1, 7, 4000, 20_000])
@pytest.mark.parametrize("maximize", [False, True])
def test_top_is_a_stable_sort(count, maximize):
    points, feasible = cloud(2, steps=20)
    values = points[:, 0]
    top = dgz.Top(**{"maximize" if maximize else "minimize": "x"}, count=count)
    order = sorted(
        np.flatnonzero(feasible),
        key=lambda index: (-values[index] if maximize else values[index], index),
    )[:count]
    for batches in (None, range(9, -1, -1)):
        assert reduced(top, {"x": values}, feasible, order=batches)["indices"].tolist() == order


@pytest.mark.parametrize("maximize", [False, True])
def test_best_is_the_first_best_of_each_cell(maximize):
    points, feasible = cloud(2, steps=10)
    rng = np.random.default_rng(3)
    rows, columns = rng.integers(0, 5, 10_000), rng.integers(0, 3, 10_000)
    feasible &= ~((rows == 4) & (columns == 1))  # a cell in which nothing is feasible
    best = dgz.Best(by=("a", "b"), **{"maximize" if maximize else "minimize": "x"})
    table = {
        "x": points[:, 0],
        "level of a": rows.astype(np.float32),
        "level of b": columns.astype(np.float32),
    }
    expected = np.full((5, 3), -1)
    for cell in itertools.product(range(5), range(3)):
        mine = np.flatnonzero(feasible & (rows == cell[0]) & (columns == cell[1]))
        if len(mine):
            expected[cell] = min(
                mine, key=lambda index: (-points[index, 0] if maximize else points[index, 0], index)
            )
    for batches in (None, range(9, -1, -1)):
        state = reduced(best, table, feasible, {"a": 5, "b": 3}, batches)
        np.testing.assert_array_equal(state["indices"], expected)
    again = best.absorb(
        state,
        {name: column[:0] for name, column in table.items()} | {"index": np.zeros(0, int)},
        None,
    )
    assert again is state


@pytest.mark.parametrize("logarithmic", [False, True])
def test_histograms_count_everything_once(logarithmic):
    rng = np.random.default_rng(5)
    values = np.exp(rng.normal(size=5000)).astype(np.float32)
    values[:3] = 0.25, 4, 1  # edges
    feasible = rng.random(5000) < 0.5
    feasible[:3] = True
    histogram = dgz.Histogram("x", 0.25, 4, bins=4, logarithmic=logarithmic)
    counts = reduced(histogram, {"x": values}, feasible)["counts"]
    edges = np.asarray([0.25, 0.5, 1, 2, 4] if logarithmic else [0.25, 1.1875, 2.125, 3.0625, 4])
    np.testing.assert_allclose(histogram.edges, edges)
    mine = values[feasible]
    expected = [
        (mine < 0.25).sum(),
        *(((mine >= a) & (mine < b)).sum() for a, b in itertools.pairwise(edges)),
        (mine >= 4).sum(),
    ]
    assert counts.tolist() == expected
    assert counts.sum() == feasible.sum()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_states_merge_like_their_ranges(sizes, rng):
    total = sum(sizes)
    columns = {
        name: np.asarray([rng.choice([0.0, 1.0, 2.0]) for _ in range(total)], np.float32)
        for name in ("x", "y")
    }
    columns["level of a"] = np.asarray([rng.choice([0.0, 1.0]) for _ in range(total)], np.float32)
    kinds = [
        dgz.Pareto(minimize=("x",), maximize=("y",)),
        dgz.Top(maximize="x", count=3),
        dgz.Best(by=("a",), minimize="x"),
    ]
    for kind in kinds:

        def state(numbers, kind=kind):
            rows = {name: column[numbers] for name, column in columns.items()} | {"index": numbers}
            return kind.settled(kind.absorb(kind.start({"a": 2}), rows, np.zeros((0, 2))))

        whole = state(np.arange(total))
        bounds = np.cumsum([0, *sizes])
        parts = [state(np.arange(a, b)) for a, b in itertools.pairwise(bounds)]
        rng.shuffle(parts)
        joined = kind.start({"a": 2})
        for part in parts:
            joined = kind.merge(part, joined) if rng.random() < 0.5 else kind.merge(joined, part)
        for name in set(whole) - {"strong", "batches", "known"}:
            np.testing.assert_array_equal(joined[name], whole[name])


# Bad input


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: dgz.Pareto(minimize=("a",)), "pareto: 1 objectives are not possible; give 2 to 5"),
        (
            lambda: dgz.Pareto(minimize=tuple("abc"), maximize=tuple("def")),
            "pareto: 6 objectives are not possible; give 2 to 5",
        ),
        (
            lambda: dgz.Pareto(minimize=("a", "b"), capacity=0),
            "pareto: a capacity of 0 is not allowed; it must be at least 1",
        ),
        (lambda: dgz.Pareto(minimize=("a", "b +")), "expression: 'b +' cannot be read"),
        (lambda: dgz.Top(), "top: give either minimize or maximize"),
        (lambda: dgz.Top(minimize="a", maximize="b"), "top: give either minimize or maximize"),
        (
            lambda: dgz.Top(minimize="a", count=0),
            "top: a count of 0 is not allowed; it must be at least 1",
        ),
        (lambda: dgz.Best(by=("a",)), "best: give either minimize or maximize"),
        (
            lambda: dgz.Best(by=(), minimize="a"),
            "best: a map by no axes is not possible; name each axis once",
        ),
        (lambda: dgz.Best(by=("a", "a"), minimize="a"), "best: a map by a, a is not possible"),
        (
            lambda: dgz.Best(by=("a",), minimize="x").start({"b": 3}),
            "best by: 'a' is not known; known are b",
        ),
        (
            lambda: dgz.Best(by=("a", "b"), minimize="x").start({"a": 2**13, "b": 2**12}),
            "best: a map of 8192 x 4096 cells is too large; use fewer",
        ),
        (lambda: dgz.Histogram("a", 2, 1), "histogram: 100 bins from 2 to 1 are not possible"),
        (lambda: dgz.Histogram("a", 0, 1, logarithmic=True), "above 0 if logarithmic"),
        (lambda: dgz.Histogram("a", 0, np.inf), "finite bounds"),
        (lambda: dgz.Histogram("a", 0, 1, bins=0), "histogram: 0 bins"),
        (lambda: dgz.Rows(of=()), "rows: no columns; give at least one formula"),
    ],
)
def test_bad_reductions_are_refused(build, message):
    with pytest.raises(InputError) as error:
        build()
    assert message in str(error.value)
