"""The shipped accelerators are sane, and are found by name."""

import re

import pytest
from support import assert_close

from diffgenz.core.errors import InputError
from diffgenz.hardware.platform import load_platform
from diffgenz.hardware.spec import UNSOURCED
from diffgenz.hardware.specs import list_systems, read_spec, specs_folder
from diffgenz.hardware.topology import TOPOLOGIES, topology_named

SYSTEMS = list_systems()

EXPECTED = set(
    [
        "a100_sxm",
        "a100_sxm_40gb",
        "h100_sxm",
        "h100_pcie",
        "h200_sxm",
        "gh200",
        "b200_sxm",
        "gb200",
        "b300_sxm",
        "l40s",
        "l4",
        "rtx_pro_6000",
        "mi300x",
        "mi325x",
        "mi355x",
        "tpu_v4",
        "tpu_v5e",
        "tpu_v5p",
        "tpu_v6e",
        "tpu_v7",
        "gaudi3",
        "trainium2",
        "groq_lpu",
        "cerebras_wse3",
        "cpu_xeon_6980p",
        "rtx_3090",
        "rtx_4090",
        "rtx_5090",
        "rtx_a6000",
        "rtx_6000_ada",
        "t4",
        "a10",
        "a30",
        "a40",
        "l40",
        "h20",
        "h800",
        "vr200",
        "gb10",
        "jetson_thor",
        "jetson_agx_orin",
        "mi210",
        "mi250x",
        "mi350x",
        "ascend_910b2",
        "ascend_910b3",
        "ascend_910c",
        "trainium3",
    ]
)

systems = pytest.mark.parametrize("system", SYSTEMS)


def test_the_systems_that_people_ask_for_are_there():
    assert set(SYSTEMS) >= EXPECTED


@systems
def test_every_figure_has_a_source(system):
    spec = read_spec(system)
    text = (specs_folder() / f"{system}.toml").read_text(encoding="utf-8")
    written = len(re.findall(r"^\w+\s*=\s*\[", text, re.MULTILINE))
    assert len(spec.sources) == written
    assert UNSOURCED not in spec.sources.values()
    assert all(len(source) > 10 for source in spec.sources.values())


@systems
def test_every_shipped_system_says_how_it_is_connected(system):
    assert read_spec(system).network


@systems
def test_figures_are_within_sane_ranges(system):
    spec = read_spec(system)
    assert all(1e11 <= peak <= 2e17 for peak in spec.peak_flops.values())
    assert 2e8 <= spec.memory["capacity"] <= 2e12
    assert 1e11 <= spec.memory["bandwidth"] <= 3e16
    assert 0 < spec.memory["reserve"] < 0.2 * spec.memory["capacity"] or spec.memory["reserve"] == 0
    assert 0 <= spec.execution["launch_latency"] <= 2e-5
    assert 50 <= spec.power["tdp"] <= 3e4
    assert spec.power.get("idle", 0) < 0.6 * spec.power["tdp"]
    assert all(0.1 <= 3600 * price <= 100 for price in spec.price.values())
    for level in spec.network:
        assert 1e9 <= level.figures["bandwidth"] <= 1e13
        assert 0 < level.figures["latency"] <= 5e-5
    rates = [level.figures["bandwidth"] for level in spec.network]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] < spec.memory["bandwidth"]


@systems
def test_memory_is_slower_the_farther_it_is(system):
    spec = read_spec(system)
    rates = [
        spec.on_chip.get("bandwidth"),
        spec.memory["bandwidth"],
        *(figures["bandwidth"] for _, figures in spec.memory_tiers),
    ]
    known = [rate for rate in rates if rate is not None]
    assert known == sorted(known, reverse=True)


@systems
def test_narrow_floats_are_never_slower_than_wide_ones(system):
    peaks = read_spec(system).peak_flops
    for wide, narrow in [
        ("fp32", "tf32"),
        ("fp32", "bf16"),
        ("bf16", "fp8"),
        ("fp16", "fp8"),
        ("fp8", "fp6"),
        ("fp8", "mxfp4"),
        ("fp8", "nvfp4"),
    ]:
        if wide in peaks and narrow in peaks:
            assert peaks[narrow] >= peaks[wide], (wide, narrow)


# compute units and boost clock, GHz, of one architecture: peaks go as their product
SAME_ARCHITECTURE = {
    "GA102": {"rtx_a6000": (84, 1.80), "a10": (72, 1.695), "a40": (84, 1.74)},
    "GA100": {"a100_sxm": (108, 1.41), "a30": (56, 1.44)},
    "CDNA 2": {"mi210": (104, 1.7), "mi250x": (220, 1.7)},
    "CDNA 4": {"mi350x": (256, 2.2), "mi355x": (256, 2.4)},
    "Ada": {"l40s": (142, 2.52), "rtx_6000_ada": (142, 2.505)},
    "Ascend": {"ascend_910b2": (24, 1.8), "ascend_910b3": (20, 1.8), "ascend_910c": (48, 1.8)},
    "Blackwell 12.x": {"rtx_pro_6000": (188, 2.43), "gb10": (48, 2.54)},
}


@pytest.mark.parametrize("architecture", SAME_ARCHITECTURE)
@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_peaks_of_one_architecture_go_as_units_times_clock(architecture, dtype):
    """No file took a figure with sparsity, or of another way to accumulate, for the dense one."""
    rates = [
        read_spec(system).peak_flops[dtype] / (units * clock * 1e9)
        for system, (units, clock) in SAME_ARCHITECTURE[architecture].items()
    ]
    assert_close(rates, [rates[0]] * len(rates), 0.02)


@pytest.mark.parametrize(
    ("geforce", "workstation"), [("rtx_3090", "rtx_a6000"), ("rtx_4090", "rtx_6000_ada")]
)
def test_geforce_accumulates_in_fp32_at_half_rate(geforce, workstation):
    """Integers, which accumulate in int32, are not throttled."""
    card, other = read_spec(geforce), read_spec(workstation)
    per_vector = [
        {dtype: peak / spec.peak_flops["fp32"] for dtype, peak in spec.peak_flops.items()}
        for spec in (card, other)
    ]
    assert_close(2 * per_vector[0]["bf16"], per_vector[1]["bf16"], 0.02)
    assert_close(per_vector[0]["int8"], per_vector[1]["int8"], 0.02)


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("h100", "did you mean h100_pcie or h100_sxm"),
        ("H100_SXM", "did you mean h100_sxm"),
        ("Trainium-2", "did you mean trainium2"),
        ("Ironwood", "did you mean tpu_v7"),
        ("NVIDIA H20 96GB", "did you mean h20"),
        ("rtx_3060", "see `diffgenz list systems`"),
        ("h101", "see `diffgenz list systems`"),
        ("x", "see `diffgenz list systems`"),
        ("", "see `diffgenz list systems`"),
    ],
)
def test_an_unknown_system_is_told_its_relatives_and_that_a_file_does(asked, hint):
    """A name that only looks like another is a different chip, and is not proposed."""
    with pytest.raises(InputError) as refusal:
        load_platform(asked)
    message = str(refusal.value)
    assert message.startswith(f"system: {asked!r} is not known; {hint}")
    assert "the path of your own .toml does too" in message
    assert "`diffgenz list systems --schema`" in message


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_topology_of_the_files_has_a_class(topology):
    assert type(topology_named(topology, 2)).__name__.lower() == topology
