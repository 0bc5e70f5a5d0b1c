"""Gradients of whole estimates: differences, finite at the edges, elasticities that sum to one.

Every family of blocks and every serving option is in one of the structures of `whole_models`.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import as_double, assert_close, assert_finite, named_leaves, rows_of
from whole_models import SCENARIOS, configurations, is_hardware, padded, renewed, rises_with

from diffgenz import estimate
from diffgenz.core.leaves import leaf_names, number_at
from diffgenz.inference.metrics import metrics_of

structures = pytest.mark.parametrize("name", SCENARIOS)
TIMES = ("ttft", "tpot", "mixed_tpot")
STEP = 1e-5
"""Of central differences, relative."""

ROUNDED = re.compile(
    r"(batch|heads|groups|inner|intermediate|vocabulary|count|image_size|patch|merge|widths\[1\])$"
)
"""Numbers that ranks share in whole parts: there the derivative is that of the unrounded share
(tested in `test_smooth`), which differences of one configuration do not see."""


def cost(case):
    """The logarithms of all metrics, summed."""
    return sum(jnp.log(x) for x in metrics_of(estimate(case)).values())


@structures
def test_slopes_are_the_differences(name, double):
    """Of the sum of the logarithms of all metrics; jitted and batched, in float64."""
    case = as_double(SCENARIOS[name])
    if case.plan.sequence is not None:  # it rounds tokens, too: off, but not absent
        case = case.replace(plan=case.plan.replace(sequence=jnp.zeros(())))
    numbers = named_leaves(case)
    moved = [
        renewed(case, lambda n, x, number=number, f=factor: x * f if n == number else x)
        for number in numbers
        for factor in (1 + STEP, 1 - STEP)
    ]
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(cost)))(
        padded([case, *moved], 2 * len(numbers) + 1)
    )
    assert_finite((values, slopes))
    structure, checked = 0, set()
    for index, (number, slope) in enumerate(named_leaves(rows_of(slopes, 0)).items()):
        up, down = values[2 * index + 1], values[2 * index + 2]
        about = number_at(case, leaf_names(case)[number])
        if about is not None and about.structure:
            assert slope == 0, number
            structure += 1
        elif not ROUNDED.search(number):
            difference = (up - down) / (2 * STEP)
            np.testing.assert_allclose(
                slope * numbers[number], difference, rtol=2e-6, atol=2e-8, err_msg=number
            )
            checked.add(number)
    assert structure >= 6
    assert len(checked) > 25
    assert {each for each in numbers if each.startswith(("serving.", "precision."))} <= checked | {
        each for each in numbers if each.startswith("serving.speculation.draft.")
    }


@structures
def test_slopes_are_finite_at_the_edges_and_elasticities_of_times_sum_to_one(name):
    """With respect to everything, in float32: one rank and many, one token and more than fit.

    Twice as fast in all rates and latencies is twice as fast: the elasticities of a time to
    latencies, less those to peaks and bandwidths, are 1.
    """
    chosen = configurations(name)
    batch = padded([case for edge, case in chosen.items() if not is_hardware(edge)], 16)

    def slopes(case):
        def of(case):
            metrics = metrics_of(estimate(case))
            return jnp.stack(
                [
                    *(metrics[time] for time in TIMES if time in metrics),
                    sum(jnp.log(x) for x in metrics.values()),
                ]
            )

        values, pullback = jax.vjp(of, case)
        return values, jax.vmap(pullback)(jnp.eye(len(values)))[0]

    with jax.disable_jit():
        values, found = jax.vmap(slopes)(batch)
    assert_finite((values, found))
    total = 0
    for number, value in named_leaves(batch).items():
        elasticity = named_leaves(found)[number] * value[:, None] / values
        if number.endswith("latency"):
            total = total + elasticity
        elif rises_with(number):
            total = total - elasticity
    assert_close(total[:, :-1], jnp.ones_like(total[:, :-1]), rtol=2e-5)
