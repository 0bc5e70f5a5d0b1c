"""Numbers of an accelerator file that are set by name."""

import dataclasses

import pytest

from diffgenz.core.errors import InputError
from diffgenz.hardware.platform import Platform
from diffgenz.hardware.settings import with_settings
from diffgenz.hardware.specs import list_systems, read_spec

H100 = read_spec("h100_sxm")


@pytest.mark.parametrize("system", list_systems())
def test_every_number_of_every_file_may_be_set_by_its_full_name(system):
    spec = read_spec(system)
    tables = {
        **{name: getattr(spec, name) for name in ("peak_flops", "memory", "execution", "power")},
        "price": spec.price,
        **{f"network.{index}": level.figures for index, level in enumerate(spec.network)},
        **{f"memory_tier.{index}": tier[1] for index, tier in enumerate(spec.memory_tiers)},
    }
    units = {"peak_flops": "FLOP/s", "power": "W", "price": "USD/s"}
    keys = {"capacity": "B", "reserve": "B", "bandwidth": "B/s", "latency": "s"}
    keys |= {"launch_latency": "s", "compute_units": "", "size": "", "start": "s"}
    for table, figures in tables.items():
        for key, value in figures.items():
            unit = units.get(table) or keys[key]
            twice = with_settings(spec, [f"{table}.{key}={2 * value!r} {unit}"])
            changed = dataclasses.replace(twice, settings=(), changed=False)
            assert (changed == spec) == (value == 0), f"{table}.{key}"
            back = with_settings(changed, [f"{table}.{key}={value!r} {unit}"])
            assert dataclasses.replace(back, settings=(), changed=False) == spec


@pytest.mark.parametrize(
    ("typed", "table", "key", "value"),
    [
        ("memory_bandwidth=7 TB/s", "memory", "bandwidth", 7e12),
        ("memory.bandwidth = 7TB/s", "memory", "bandwidth", 7e12),
        ("platform.accelerator.memory_bandwidth=7 TB/s", "memory", "bandwidth", 7e12),
        ("fp8=4 PFLOPS", "peak_flops", "fp8", 4e15),
        ("peak_flops[fp8]=4 PFLOP/s", "peak_flops", "fp8", 4e15),
        ("nvfp4=9 PFLOP/s", "peak_flops", "nvfp4", 9e15),
        ("launch-latency=0 s", "execution", "launch_latency", 0.0),
        ("compute_units=160", "execution", "compute_units", 160),
        ("TDP=1 kW", "power", "tdp", 1000),
        ("price=3.6 USD/h", "price", "per_hour", 1e-3),
    ],
)
def test_names_may_be_short_where_they_are_clear(typed, table, key, value):
    assert getattr(with_settings(H100, [typed]), table)[key] == pytest.approx(value)


def test_network_levels_go_by_number_or_without_where_there_is_one():
    found = with_settings(H100, ["network[1].bandwidth=100 GB/s", "network.0.latency=1 us"])
    assert found.network[1].figures["bandwidth"] == 1e11
    assert found.network[0].figures["latency"] == 1e-6
    assert found.network[0].figures["bandwidth"] == H100.network[0].figures["bandwidth"]
    single = dataclasses.replace(H100, network=H100.network[:1])
    found = with_settings(single, ["network.bandwidth=900 GB/s"])
    assert found.network[0].figures["bandwidth"] == 9e11


def test_fits_are_reused_where_times_change_and_measured_where_not():
    for setting, end in (("tdp=1 kW", ")"), ("fp8=4 PFLOP/s", "; the fits of h100_sxm are reused")):
        (note,) = Platform.from_spec(with_settings(H100, [setting])).notes
        assert note.startswith("set ")
        assert note.endswith(end)
    own = H100.memory["bandwidth"]
    same = with_settings(H100, [f"memory.bandwidth={own!r} B/s"])
    assert same == H100
    assert Platform.from_spec(same).notes == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["memory_bandwith=7 TB/s"], "'memory_bandwith' is not known; did you mean memory.band"),
        (["bandwidth=7 TB/s"], "'bandwidth' may be memory.bandwidth or network.0.bandwidth or"),
        (["network.9.bandwidth=7 TB/s"], "'network.9.bandwidth' is not known"),
        (["memory_bandwidth"], "'memory_bandwidth' is not read; write NAME=VALUE"),
        (["=7 TB/s"], "is not read; write NAME=VALUE"),
        (["memory_bandwidth=7"], "--set memory.bandwidth: '7' has no unit"),
        (["memory_bandwidth=7 Tb/s"], "has the unit 'Tb/s', which some write for bits"),
        (["memory_bandwidth=0 TB/s"], "'0 TB/s' is not allowed; it must be finite and above zero"),
        (["latency=-1 us"], "'latency' may be"),
        (["network.0.latency=-1 us"], "is not allowed; it must be finite and not negative"),
        (["fp8=1 PFLOP/s", "peak_flops.fp8=2 PFLOP/s"], "peak_flops.fp8 is set twice"),
        (["on_chip.capacity=1 GB"], "'on_chip.capacity' is not known"),
    ],
)
def test_what_cannot_be_set_is_refused(settings, message):
    with pytest.raises(InputError) as caught:
        with_settings(H100, settings)
    assert message in str(caught.value)
    assert str(caught.value).startswith("--set")
