"""Laws that hold for any scenario, on tables of configurations of every structure of model."""

from itertools import pairwise

import numpy as np
import pytest
from support import as_double, assert_close, explained
from whole_models import (
    PHASES,
    SCENARIOS,
    TABLES,
    configurations,
    is_hardware,
    rises_with,
    table,
)

from diffgenz import HARD
from diffgenz.inference.breakdown import RESOURCES
from diffgenz.inference.metrics import metrics_of

TIMES = ("ttft", "tpot", "mixed_tpot", "end_to_end")
structures = pytest.mark.parametrize("name", SCENARIOS)
tables = pytest.mark.parametrize(("name", "sharpness"), TABLES)


def times(metrics):
    return {name: metrics[name] for name in TIMES if name in metrics}


# ---- values


@tables
def test_everything_is_finite_and_nothing_negative(name, sharpness):
    found = table(name, sharpness)
    for metric, values in found.metrics.items():
        assert np.isfinite(values).all(), metric
        assert (values > 0).all() or (metric.startswith("memory.") and (values >= 0).all())
    for phase in PHASES:
        assert (found.rows[phase] >= 0).all()


@tables
def test_rows_add_up_to_the_times(name, sharpness):
    found = table(name, sharpness)
    for phase in PHASES:
        assert_close(found.rows[phase].sum(axis=(1, 2)), found.metrics[phase], rtol=1e-12)
    assert any(row.startswith("draft ") for row in found.operators) == (
        SCENARIOS[name].serving.draft is not None
    )
    waits = SCENARIOS[name].serving.offload is not None
    assert ("offload" in found.operators) == waits
    if waits:
        base = found.rows["tpot"][found.index["base"], found.operators.index("offload")]
        assert base[RESOURCES.index("memory")] > 0.1 * found.of("base")["tpot"]


@tables
def test_better_hardware_is_never_slower(name, sharpness):
    """Bandwidths, peaks and efficiencies help, latencies hurt, all else leaves the time alone.

    Where something may live in slower memory, main memory helps too.
    """
    found = table(name, sharpness)
    now, waits = found.of("base"), SCENARIOS[name].serving.offload is not None
    for number in filter(is_hardware, found.index):
        for time, seconds in times(found.of(number)).items():
            ratio = seconds / now[time]
            if number.endswith("latency") or (waits and number.endswith("memory_reserve")):
                assert ratio >= 1 - 1e-12, (number, time)
            elif (
                rises_with(number)
                or number.endswith("efficiency")
                or (waits and number.endswith("capacity"))
            ):
                assert ratio <= 1 + 1e-12, (number, time)
            elif not number.endswith(".size"):
                assert ratio == 1, (number, time)


@tables
def test_twice_as_fast_in_everything_is_twice_as_fast(name, sharpness):
    found = table(name, sharpness)
    half = {time: seconds / 2 for time, seconds in times(found.of("base")).items()}
    assert_close(times(found.of("twice as fast")), half, rtol=1e-12)


@tables
def test_more_work_takes_longer(name, sharpness):
    found = table(name, sharpness)
    now = found.of("base")
    for more in ("more requests", "longer prompts", "longer answers"):
        after = found.of(more)
        assert after["end_to_end"] > now["end_to_end"], more
        assert after["memory.kv_cache"] >= now["memory.kv_cache"], more
    assert found.of("more requests")["tpot"] >= now["tpot"]


@tables
def test_replicas_share_the_batch(name, sharpness):
    found = table(name, sharpness)
    now, twice = found.of("base"), found.of("more replicas")
    doubled = {metric: 2 if metric == "throughput" else 1 for metric in now}
    assert_close(
        twice, {metric: now[metric] * factor for metric, factor in doubled.items()}, rtol=1e-12
    )


@tables
def test_one_rank_sends_nothing(name, sharpness):
    found = table(name, sharpness)
    for phase in PHASES:
        alone = found.rows[phase][found.index["one rank"]]
        assert alone[:, RESOURCES.index("communication")].sum() == 0
        sent = [
            row for row, message in zip(alone, found.operators, strict=True) if "all_" in message
        ]
        assert len(sent) >= 2
        assert np.sum(sent) == 0


@structures
def test_sharpness_orders_the_times_of_one_rank_and_ends_at_the_hard_roofline(name):
    """Of one rank, times are sums of smooth maxima, and nothing is chosen by a minimum."""
    found = [times(table(*each).of("one rank")) for each in TABLES if each[0] == name]
    for time in found[0]:
        assert all(a[time] > b[time] for a, b in pairwise(found)), time
        assert found[-2][time] / found[-1][time] < 2 ** (2 / 8)


@pytest.mark.parametrize(("name", "sharpness"), [each for each in TABLES if each[1] != HARD])
def test_the_hard_roofline_is_the_limit(name, sharpness):
    """A smooth maximum of two is at most 2**(1/p) times the larger; they nest once.

    A smooth minimum of four (transports, algorithms) is at least 4**(-1/p) times the smallest.
    """
    soft, hard = table(name, sharpness), table(name, HARD)
    for time in times(soft.metrics):
        ratio = soft.metrics[time] / hard.metrics[time]
        assert (ratio <= 2 ** (2 / sharpness)).all()
        assert (ratio >= 4 ** (-1 / sharpness)).all()


@structures
def test_hard_rows_are_bound_by_one_resource(name):
    """Each row of one operator: compute or memory."""
    found = table(name, HARD)
    columns = [RESOURCES.index(resource) for resource in ("compute", "memory")]
    for phase in PHASES:
        for row, operator in zip(
            found.rows[phase][found.index["base"]], found.operators, strict=True
        ):
            if operator in ("gate_up", "lm_head", "draft gate_up", "vision_projector"):
                assert row[columns].min() == 0


# ---- batches


@structures
def test_a_batch_of_configurations_is_as_many_calls(name, double):
    """The rows of a table are what `estimate` and `breakdown` say of one configuration."""
    found, chosen = table(name, 8), as_double(configurations(name))
    for configuration in ("base", "too many"):
        result, rows = explained(chosen[configuration])
        assert_close(metrics_of(result), found.of(configuration), rtol=1e-12)
        assert rows.operators == found.operators
        for phase in PHASES:
            expected = found.rows[phase][found.index[configuration]]
            small = 1e-12 * expected.sum()  # waiting for slower memory is a difference of times
            assert_close(getattr(rows, phase), expected, rtol=1e-9, atol=small)
