"""Accelerator files: every shipped one is sane, every broken one is refused by name."""

import re

import pytest
from support import assert_close

from diffgenz.core.errors import InputError
from diffgenz.hardware.platform import load_platform
from diffgenz.hardware.specs import UNSOURCED, list_systems, read_spec, specs_folder
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
    "unknown architecture": (
        'vendor = "Us"',
        'vendor = "Us"\narchitecture = "Hopper"',
        "architecture: 'Hopper' is not known; write what compilers call it",
    ),
    "missing vendor": ('vendor = "Us"', "vendor = 3", "vendor: a text is needed"),
    "missing table": (
        '[execution]\ncompute_units = ["100", "datasheet"]\nlaunch_latency = ["0 us", "datasheet"]',
        "",
        "execution.*is needed",
    ),
    "bare number": ('["400 W", "datasheet"]', "400", "power.tdp: 400 is not a quantity"),
    "half a pair": ('["400 W", "datasheet"]', '["400 W"]', r"power.tdp: \['400 W'\] is no figure"),
    "three in a pair": (
        '["400 W", "datasheet"]',
        '["400 W", "datasheet", "datasheet"]',
        "power.tdp: .* is no figure; write",
    ),
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
    "empty source": ('"Chip datasheet, Us (2025)"', '" "', "sources.datasheet: ' ' is no source"),
    "no sources, but a key of one": (
        '[sources]\ndatasheet = "Chip datasheet, Us (2025)"',
        "",
        "source: 'datasheet' is not known.*of \\[sources\\]",
    ),
    "no unit": ('"2 TB/s"', '"2"', "memory.bandwidth: '2' has no unit"),
    "ambiguous unit": (
        '"400 GB/s"',
        '"400 Gb/s"',
        r"network\[0\].bandwidth: '400 Gb/s' has the unit 'Gb/s'",
    ),
    "ambiguous terabits": ('"2 TB/s"', '"2 Tb/s"', 'memory.bandwidth: .*write "2 Tbit/s" for bits'),
    "an amount for a rate": ('"2 TB/s"', '"2 TB"', "memory.bandwidth: '2 TB' has the unit 'TB'"),
    "sparse peak": ('"100 TFLOP/s"', '"100 TFLOPS*"', "peak_flops.bf16: .*write the dense one"),
    "no unit and no source": (
        '["2 TB/s", "datasheet"]',
        '"2"',
        "memory.bandwidth: '2' has no unit",
    ),
    "truth for a count": ('["100", "datasheet"]', "true", "compute_units: True is not a quantity"),
    "network of one": ('["8", "datasheet"]', '["1", "datasheet"]', "2 accelerators or more"),
    "network of half of one": ('["8", "datasheet"]', "0.5", "2 accelerators or more"),
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
    "network that is no table": (
        GOOD[GOOD.index("[[network]]") :],
        "[network]",
        r"network: must be tables; write each under a line \[\[network\]\]",
    ),
    "unknown topology": (
        '"switch"',
        '"swich"',
        r"network\[0\]: topology: 'swich' is not known; known are switch, mesh, torus, fabric",
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


def test_a_file_asked_for_without_its_ending_is_named(write):
    path = write(GOOD)
    with pytest.raises(InputError, match=r"write .*chip\.toml for the file"):
        load_platform(path.with_suffix(""))
    other = path.rename(path.with_suffix(".txt"))
    with pytest.raises(InputError, match=r"its name ends in \.toml"):
        load_platform(other)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_topology_of_the_files_has_a_class(topology):
    assert type(topology_named(topology, 2)).__name__.lower() == topology
