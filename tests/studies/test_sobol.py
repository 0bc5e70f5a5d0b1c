"""Sobol points: those of SciPy, nets when scrambled, and the same wherever a batch begins."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import qmc
from sweep_cases import sobol_points

from diffgenz import InputError
from diffgenz.studies.sweep.sobol import MOST_DIMENSIONS, Sobol
from diffgenz.studies.sweep.space import MOST_BATCH


def gray(number):
    return number ^ (number >> 1)


@pytest.mark.parametrize("start", [0, 3 * 2**17 + 12345])
def test_the_plain_sequence_is_that_of_scipy_in_gray_code_order(start):
    theirs = qmc.Sobol(MOST_DIMENSIONS, scramble=False, bits=32)
    if start:
        theirs.fast_forward(start)
    expected = np.floor(theirs.random(64 if start else 512) * 2**23)
    mine = Sobol(MOST_DIMENSIONS, None)
    order = [gray(start + n) for n in range(len(expected))]
    lowest = min(order)
    found = sobol_points(mine, lowest, max(order) - lowest + 1)[np.asarray(order) - lowest]
    np.testing.assert_array_equal(np.floor(found.astype(float) * 2**23), expected)


@pytest.mark.parametrize("block", [0, 5, 2**27, 2**50 + 3])
@pytest.mark.parametrize("seed", [0, 7])
def test_a_scrambled_block_is_a_net(seed, block):
    count = 2**6
    found = sobol_points(Sobol(MOST_DIMENSIONS, seed), block * count, count).astype(float)
    assert ((found > 0) & (found < 1)).all()
    for dimension in range(MOST_DIMENSIONS):
        assert sorted(np.floor(found[:, dimension] * count)) == list(range(count))
    for split in range(7):  # the first two dimensions: every elementary interval once
        rows, columns = np.floor(found[:, 0] * 2**split), np.floor(found[:, 1] * 2 ** (6 - split))
        assert len({*zip(rows, columns, strict=True)}) == count


def test_seeds_differ_and_repeat():
    one, again, other = (sobol_points(Sobol(3, seed), 0, 64) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize("start", [0, 2**18 - 3, 2**33 - 5, 2**62 - 8])
def test_points_do_not_depend_on_where_a_batch_begins(start):
    sobol = Sobol(4, 3)
    together = sobol_points(sobol, start, 8)
    np.testing.assert_array_equal(
        together, np.concatenate([sobol_points(sobol, start + n, 1) for n in range(8)])
    )


@pytest.mark.parametrize("start", [0, 2**18 - 3, 2**40 + 2**18 - 50_000])
def test_copied_runs_are_what_lookups_give(start):
    place, offsets = Sobol(3, 1).place(start), jnp.arange(MOST_BATCH, dtype=jnp.uint32)
    np.testing.assert_array_equal(
        np.stack(place.points(offsets, run=True)), np.stack(place.points(offsets))
    )


def test_more_sampled_axes_than_sobol_has_dimensions_are_refused():
    with pytest.raises(
        InputError,
        match=f"sampled axes: {MOST_DIMENSIONS + 1} are too many; at most {MOST_DIMENSIONS}",
    ):
        Sobol(MOST_DIMENSIONS + 1, 0)
