"""Pipelines: the counted passes against a simulation of micro-batches moving through stages, and
against sums by hand."""

import jax.numpy as jnp
import pytest
from support import assert_close

from diffgenz import Parallelism, Workload
from diffgenz.inference.timing.pipeline import Parts, PerToken, Pipeline, UntilFirst

CASES = [
    (batch, stages, layers, head)
    for batch in (1, 3, 8, 10)
    for stages, layers in ((1, 10), (2, 10), (4, 10), (5, 32), (8, 80))
    for head in (0.0, 0.3)
]


def split(batch, stages, layers, data=1):
    return Pipeline.of(
        Workload(batch), Parallelism(pipeline=stages, data=data), jnp.asarray(float(layers))
    )


def stage_seconds(stages, layers, head):
    """One second for all layers, dealt out evenly, the surplus to the first stages; the head on the
    last."""
    per_stage = [layers // stages + (stage < layers % stages) for stage in range(stages)]
    return [count / layers for count in per_stage[:-1]] + [per_stage[-1] / layers + head]


def leaving_times(stages, micro_batches, rounds):
    """When each round of the micro-batches leaves the last stage; each starts its next round when
    it has left and the first stage is free."""
    free, done, leaving = [0.0] * len(stages), [0.0] * micro_batches, []
    for _ in range(rounds):
        for item in range(micro_batches):
            for stage, seconds in enumerate(stages):
                done[item] = free[stage] = max(done[item], free[stage]) + seconds
        leaving.append(list(done))
    return leaving


@pytest.mark.parametrize(
    ("batch", "stages", "layers", "data", "expected"),
    [
        (10, 1, 32, 1, (10, 10, 1, 1, 1)),
        (10, 4, 10, 1, (10, 3, 4, 0.3, 0.2)),
        (8, 4, 80, 1, (8, 2, 4, 0.25, 0.25)),
        (2, 4, 80, 1, (2, 1, 2, 0.25, 0.25)),
        (9, 4, 80, 1, (9, 3, 3, 0.25, 0.25)),
        (10, 2, 3, 4, (3, 2, 2, 2 / 3, 1 / 3)),
    ],
)
def test_split_by_hand(batch, stages, layers, data, expected):
    pipeline = split(batch, stages, layers, data)
    actual = (
        pipeline.requests,
        pipeline.micro_batch,
        pipeline.micro_batches,
        pipeline.widest,
        pipeline.narrowest,
    )
    assert [float(x) for x in actual] == pytest.approx(expected, rel=3e-7)


@pytest.mark.parametrize(("batch", "stages", "layers", "head"), CASES)
def test_the_first_pass_ends_when_the_last_micro_batch_leaves(batch, stages, layers, head):
    pipeline, times = (
        split(batch, stages, layers),
        Parts(jnp.asarray(1.0), jnp.asarray(head), jnp.asarray(0.0)),
    )
    leaving = leaving_times(stage_seconds(stages, layers, head), int(pipeline.micro_batches), 1)
    assert_close(times.total(UntilFirst(pipeline).of(times)), leaving[0][-1], 1e-6)


@pytest.mark.parametrize(("batch", "stages", "layers", "head"), CASES)
def test_the_steady_state_is_the_period_of_a_full_pipeline(batch, stages, layers, head):
    pipeline, times = (
        split(batch, stages, layers),
        Parts(jnp.asarray(1.0), jnp.asarray(head), jnp.asarray(0.0)),
    )
    leaving = leaving_times(stage_seconds(stages, layers, head), int(pipeline.micro_batches), 60)
    period = (leaving[-1][0] - leaving[-31][0]) / 30
    assert_close(times.total(PerToken(pipeline).of(times)), period, 1e-6)


def test_with_one_stage_everything_counts_once():
    pipeline, times = split(7, 1, 32), Parts(jnp.asarray(1.0), jnp.asarray(0.3), jnp.asarray(0.1))
    for passes in (UntilFirst(pipeline).of(times), PerToken(pipeline).of(times)):
        assert (passes.layers, passes.head, passes.rest) == (1, 1, 1)
