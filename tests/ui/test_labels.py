"""How columns of sweeps are headed."""

import pytest

import diffgenz as dgz
from diffgenz.core.leaves import with_unset
from diffgenz.inference.metrics import METRICS
from diffgenz.ui.labels import shown


@pytest.fixture(scope="module")
def case(llama_8b):
    return dgz.Scenario(llama_8b, dgz.load_platform("h100_sxm", 8, fit="none"))


@pytest.mark.parametrize(
    ("name", "label", "factor"),
    [
        ("network[0].bandwidth", "network[0].bandwidth, GB/s", 1e-9),
        ("memory_bandwidth", "memory_bandwidth, TB/s", 1e-12),
        ("tiers[0].bandwidth", "tiers[0].bandwidth, TB/s", 1e-12),
        ("memory_capacity", "memory_capacity, GB", 1e-9),
        ("peak_flops[bf16]", "peak_flops[bf16], TFLOP/s", 1e-12),
        ("launch_latency", "launch_latency, us", 1e6),
        ("idle_power", "idle_power, W", 1.0),
        ("price", "price, USD/h", 3600.0),
        ("batch", "batch", 1.0),
        ("plan.tensor", "plan.tensor", 1.0),
        ("plan", "plan", 1.0),
        ("tpot / price", "tpot / price", 1.0),
        ("tpot", "TPOT, ms", 1e3),
        ("tpot[1]", "TPOT, ms [1]", 1e3),
        ("memory.kv_cache", "KV cache, GB", 1e-9),
        ("throughput", "tok/s", 1.0),
    ],
)
def test_columns_have_the_units_of_people(name, label, factor, case):
    assert shown(name, with_unset(case, name, 1.0)) == (label, factor)


def test_a_quantity_is_shown_as_it_is(case):
    assert shown("price", case, {"price"}) == ("price", 1.0)


def test_a_number_that_all_parts_of_a_mix_have(case):
    mix = dgz.Mix((case, case), (1.0, 1.0))
    assert shown("memory_bandwidth", mix) == ("memory_bandwidth, TB/s", 1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_a_label(name, case):
    label, factor = shown(name, case)
    assert label.replace(", ", " ") == METRICS[name].label
    assert factor == METRICS[name].factor
