"""Accelerator files and the records made of them: every shipped one is sane, every broken one is refused by name."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from support import CHIP, FABRIC, NODE, assert_close

from diffgenz.core.errors import InputError
from diffgenz.hardware.platform import Accelerator, Level, MemoryTier, Platform, load_platform
from diffgenz.hardware.specs import TOPOLOGIES, read_spec, specs_folder, system_ids
from diffgenz.hardware.topology import topology_named

SYSTEMS = system_ids()

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
    ]
)

systems = pytest.mark.parametrize("system", SYSTEMS)

# ---- the shipped files


def test_the_systems_that_people_ask_for_are_there():
    assert set(SYSTEMS) >= EXPECTED


@systems
def test_every_figure_has_a_source(system):
    spec = read_spec(system)
    text = (specs_folder() / f"{system}.toml").read_text(encoding="utf-8")
    written = len(re.findall(r"^\w+\s*=\s*\[", text, re.MULTILINE))
    assert len(spec.sources) == written
    assert all(len(source) > 10 for source in spec.sources.values())


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


@pytest.mark.parametrize(
    "system",
    [
        system
        for system in SYSTEMS
        if system not in ("groq_lpu", "cerebras_wse3") and not system.startswith("cpu")
    ],
)
def test_ridge_point_of_accelerators_with_dram(system):
    ridge = load_platform(system).accelerator.ridge_point
    assert 10 <= float(ridge.get("bf16", ridge.get("fp16"))) <= 2000


@systems
def test_a_platform_carries_the_figures_of_its_file(system):
    spec, platform = read_spec(system), load_platform(system)
    chip = platform.accelerator
    assert float(chip.memory_bandwidth) == pytest.approx(spec.memory["bandwidth"], rel=1e-7)
    assert {
        key: pytest.approx(float(peak), rel=1e-7) for key, peak in chip.peak_flops.items()
    } == spec.peak_flops
    assert [float(level.size) for level in platform.network] == [
        level.figures["size"] for level in spec.network
    ]
    assert (chip.price is None) == (not spec.price)


@systems
def test_full_use_draws_tdp(system):
    """Idle power, and compute, memory and network at full use: together TDP, the last three as 4 : 2 : 1."""
    platform, tdp = load_platform(system), read_spec(system).power["tdp"]
    chip, link = platform.accelerator, platform.network[0]
    memory = chip.energy_per_byte * chip.memory_bandwidth
    for key, peak in chip.peak_flops.items():
        assert_close(chip.flop_energy(key) * peak, 2 * memory, 1e-6)
        assert_close(
            chip.idle_power
            + chip.flop_energy(key) * peak
            + memory
            + link.energy_per_byte * link.bandwidth,
            tdp,
            1e-6,
        )


# ---- a file of one's own

GOOD = """
name = "Chip"
vendor = "Us"

[sources]
datasheet = "Chip datasheet, Us (2025)"

[peak_flops]
bf16 = ["100 TFLOP/s", "datasheet"]

[memory]
capacity = ["80 GB", "datasheet"]
bandwidth = ["2 TB/s", "datasheet"]
reserve = ["1 GB", "datasheet"]

[execution]
compute_units = ["100", "datasheet"]
launch_latency = ["0 us", "datasheet"]

[power]
tdp = ["400 W", "datasheet"]

[[memory_tier]]
name = "host"
capacity = ["256 GB", "datasheet"]
bandwidth = ["64 GB/s", "datasheet"]

[[network]]
name = "node"
topology = "switch"
size = ["8", "datasheet"]
bandwidth = ["400 GB/s", "datasheet"]
latency = ["1 us", "datasheet"]

[[network]]
name = "fabric"
topology = "fabric"
size = ["1024", "datasheet"]
bandwidth = ["50 GB/s", "datasheet"]
latency = ["5 us", "datasheet"]
"""

BROKEN = {  # what is replaced, by what, and what the error says
    "unknown table": ("[power]", "[powers]", "'powers' is not known; did you mean power"),
    "unknown key": ("tdp =", "tpd =", "power: key: 'tpd' is not known"),
    "unknown format": (
        "bf16 =",
        "bf17 =",
        "peak_flops: key: 'bf17' is not known; did you mean bf16",
    ),
    "unknown network key": ("size = ", "sise = ", "network.*'sise' is not known"),
    "missing figure": ('bandwidth = ["2 TB/s", "datasheet"]', "", "memory.bandwidth: is missing"),
    "missing name": ('name = "Chip"', "", "name: a text is needed"),
    "missing vendor": ('vendor = "Us"', "vendor = 3", "vendor: a text is needed"),
    "missing table": (
        '[execution]\ncompute_units = ["100", "datasheet"]\nlaunch_latency = ["0 us", "datasheet"]',
        "",
        "execution.*is needed",
    ),
    "no source": ('["400 W", "datasheet"]', '"400 W"', "power.tdp: has no source"),
    "bare number": ('["400 W", "datasheet"]', "400", "power.tdp: has no source"),
    "unknown source": (
        '["400 W", "datasheet"]',
        '["400 W", "datashet"]',
        "power.tdp: source: 'datashet' is not known; did you mean datasheet",
    ),
    "source that is no text": (
        '["400 W", "datasheet"]',
        '["400 W", ["datasheet"]]',
        "power.tdp: source",
    ),
    "empty source": ('"Chip datasheet, Us (2025)"', '" "', "sources: every figure needs a source"),
    "no sources": ('[sources]\ndatasheet = "Chip datasheet, Us (2025)"', "", "sources.*is needed"),
    "no unit": ('"2 TB/s"', '"2"', "memory.bandwidth: '2' has no unit"),
    "ambiguous unit": (
        '"400 GB/s"',
        '"400 Gb/s"',
        r"network\[0\].bandwidth: '400 Gb/s' has the unit 'Gb/s'",
    ),
    "wrong dimension": ('"80 GB"', '"80 GB/s"', "memory.capacity: '80 GB/s' has the unit"),
    "number for a text": (
        '["80 GB", "datasheet"]',
        '[80, "datasheet"]',
        "memory.capacity: 80 is not a quantity",
    ),
    "negative": ('"80 GB"', '"-80 GB"', "memory.capacity: '-80 GB' must be finite and above zero"),
    "negative latency": (
        '"5 us"',
        '"-5 us"',
        r"network\[1\].latency: '-5 us' must be finite and not negative",
    ),
    "zero bandwidth": (
        '"2 TB/s"',
        '"0 TB/s"',
        "memory.bandwidth: '0 TB/s' must be finite and above zero",
    ),
    "infinite bandwidth": (
        '"2 TB/s"',
        '"1e999 TB/s"',
        "memory.bandwidth: '1e999 TB/s' must be finite",
    ),
    "nan": ('"2 TB/s"', '"nan TB/s"', "memory.bandwidth: 'nan TB/s' is not a quantity"),
    "no peak": (
        'bf16 = ["100 TFLOP/s", "datasheet"]',
        "",
        "peak_flops: at least one peak is needed",
    ),
    "no network": (GOOD[GOOD.index("[[network]]") :], "", "network: at least one"),
    "network that is no table": (
        GOOD[GOOD.index("[[network]]") :],
        "[network]",
        "network: at least one",
    ),
    "unknown topology": (
        '"switch"',
        '"swich"',
        r"network\[0\]: topology: 'swich' is not known; did you mean switch",
    ),
    "torus without dimensions": ('"switch"', '"torus"', r"network\[0\]: a torus has dimensions"),
    "torus of four dimensions": (
        'topology = "switch"',
        'topology = "torus"\ndimensions = 4',
        r"network\[0\]: a torus has dimensions",
    ),
    "shrinking sizes": ('["1024"', '["4"', "network: sizes .* must grow outwards"),
    "tier without name": ('name = "host"', "", "name: a text is needed"),
    "tier without capacity": (
        'capacity = ["256 GB", "datasheet"]',
        "",
        r"memory_tier\[0\].capacity: is missing",
    ),
    "levels that are no tables": (
        "[sources]",
        "network = [1]\n[sources]",
        "network",
        GOOD[GOOD.index("[[network]]") :],
    ),
    "tiers that are no tables": (
        "[sources]",
        "memory_tier = [1]\n[sources]",
        "memory_tier",
        GOOD[GOOD.index("[[memory_tier]]") : GOOD.index("[[network]]")],
    ),
    "not TOML": ("[power]", "[power", "not valid TOML"),
}


@pytest.fixture
def write(tmp_path):
    def write(text, name="chip.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("how", [str, lambda path: path], ids=["text", "Path"])
def test_a_file_loads_by_path(write, how):
    platform = load_platform(how(write(GOOD)), accelerators=16)
    assert platform.accelerator.name == "Chip"
    assert float(platform.accelerator.memory_capacity) == 80e9
    assert [level.name for level in platform.network] == ["node", "fabric"]
    assert [tier.name for tier in platform.accelerator.tiers] == ["host"]
    assert_close(platform.accelerator.idle_power, 0.3 * 400, 1e-7)


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_by_name(write, case):
    old, new, message, *removed = BROKEN[case]
    text = GOOD
    for part in removed:
        text = text.replace(part, "")
    assert old in text
    with pytest.raises(InputError, match=message):
        load_platform(write(text.replace(old, new, 1)))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*nowhere\.toml"):
        load_platform(tmp_path / "nowhere.toml")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "chip.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not valid TOML"):
        load_platform(tmp_path / "chip.toml")


def test_an_unknown_system_suggests_the_nearest():
    with pytest.raises(InputError, match="system: 'h100' is not known; did you mean .*h100_sxm"):
        load_platform("h100")


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_topology_of_the_files_has_a_class(topology):
    assert type(topology_named(topology, 2)).__name__.lower() == topology


# ---- records

RECORDS = {  # a record, how it is built, and the fields that must be above zero, may be zero, or are shares
    "Accelerator": (
        Accelerator,
        CHIP,
        ("memory_bandwidth", "memory_capacity"),
        ("memory_reserve", "launch_latency", "idle_power", "energy_per_byte", "price"),
    ),
    "Level": (Level, NODE, ("bandwidth",), ("latency", "energy_per_byte")),
    "MemoryTier": (
        MemoryTier,
        {"name": "host", "capacity": 1e12, "bandwidth": 6e10},
        ("capacity", "bandwidth"),
        (),
    ),
}
SHARES = [
    ("Accelerator", "compute_efficiency"),
    ("Accelerator", "memory_efficiency"),
    ("Level", "efficiency"),
]

BAD = [
    *(
        (record, field, value)
        for record, (_, _, above, _) in RECORDS.items()
        for field in above
        for value in (0.0, -1.0, float("nan"), float("inf"))
    ),
    *(
        (record, field, value)
        for record, (*_, least) in RECORDS.items()
        for field in least
        for value in (-1.0, float("nan"), float("inf"))
    ),
    *(
        (record, field, value)
        for record, field in SHARES
        for value in (0.0, -1.0, 1.5, float("nan"))
    ),
    *(("Level", "size", value) for value in (0.0, 0.5, -8.0, float("nan"))),
]


@pytest.mark.parametrize(("record", "field", "value"), BAD)
def test_a_bad_number_is_refused_by_field_and_value(record, field, value):
    kind, arguments, *_ = RECORDS[record]
    with pytest.raises(InputError, match=f"{field}: {value:g} is not allowed"):
        kind(**arguments | {field: value})
    with pytest.raises(InputError, match=f"{field}: {value:g} is not allowed"):
        kind(**arguments).replace(**{field: value})
    with pytest.raises(InputError, match=f"{field}: {value:g} is not allowed"):
        kind(**arguments | {field: jnp.array([arguments.get(field, 1.0), value])})


@pytest.mark.parametrize("field", ["peak_flops", "energy_per_flop"])
def test_a_bad_number_in_a_table_is_refused_by_key(field):
    with pytest.raises(InputError, match=rf"{field}\[fp8\]: -1 is not allowed"):
        Accelerator(**CHIP | {field: {"bf16": 1.0, "fp8": -1.0}})


@pytest.mark.parametrize("accelerators", [0, -1, float("nan"), float("inf")])
def test_a_bad_number_of_accelerators_is_refused(cluster, accelerators):
    with pytest.raises(InputError, match=f"accelerators: {accelerators:g} is not allowed"):
        cluster.replace(accelerators=accelerators)


def test_more_accelerators_than_the_network_connects_are_refused(cluster):
    with pytest.raises(
        InputError, match=r"accelerators: 2000 .*1024.*fabric|accelerators: 2000 .*fabric.*1024"
    ):
        cluster.replace(accelerators=2000)
    with pytest.raises(InputError, match="accelerators: 2 .*network"):
        Platform(Accelerator(**CHIP), (), 2)


def test_levels_that_do_not_grow_outwards_are_refused():
    with pytest.raises(InputError, match="network"):
        Platform(
            Accelerator(**CHIP), (Level(**NODE | {"size": 16}), Level(**FABRIC | {"size": 8})), 4
        )


def test_replace_refuses_unknown_fields_with_the_nearest(cluster):
    with pytest.raises(
        InputError,
        match="Accelerator field: 'memory_bandwith' is not known; did you mean memory_bandwidth",
    ):
        cluster.accelerator.replace(memory_bandwith=1.0)


def test_replace_changes_one_field_only(cluster):
    faster = cluster.accelerator.replace(memory_bandwidth=8e12)
    assert faster.memory_bandwidth == 2 * cluster.accelerator.memory_bandwidth
    assert eqx.tree_equal(faster.replace(memory_bandwidth=4e12), cluster.accelerator)


def test_records_are_built_under_jit_and_vmap(cluster):
    def ridge(bandwidth):
        return cluster.replace(
            accelerator=cluster.accelerator.replace(memory_bandwidth=bandwidth)
        ).accelerator.ridge_point["bf16"]

    bandwidths = jnp.array([1e12, 2e12, 4e12])
    assert_close(jax.jit(jax.vmap(ridge))(bandwidths), 1e15 / bandwidths, 1e-6)


def test_counts_are_floating_point(cluster):
    assert all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(cluster))


def test_a_format_that_the_accelerator_lacks_is_refused_with_those_it_has(cluster):
    with pytest.raises(InputError, match="chip has no nvfp4 arithmetic; it has bf16, fp8"):
        cluster.accelerator.peak("nvfp4")
