"""Accelerator files: a good one loads, every broken one is refused by name."""

import pytest
from support import assert_close

from diffgenz.core.errors import InputError
from diffgenz.hardware.platform import load_platform

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
    "torus without dimensions": (
        '"switch"',
        '"torus"',
        r"network\[0\]: dimensions: 1 is not allowed for a torus",
    ),
    "torus of four dimensions": (
        'topology = "switch"',
        'topology = "torus"\ndimensions = 4',
        r"network\[0\]: dimensions: 4 is not allowed for a torus",
    ),
    "shrinking sizes": ('["1024"', '["4"', "network: sizes .* must grow outwards"),
    "tier without name": ('name = "host"', "", r"memory_tier\[0\]\.name: a text is needed"),
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


def test_a_file_asked_for_without_its_ending_is_named(write):
    path = write(GOOD)
    with pytest.raises(InputError, match=r"write .*chip\.toml for the file"):
        load_platform(path.with_suffix(""))
    other = path.rename(path.with_suffix(".txt"))
    with pytest.raises(InputError, match=r"its name ends in \.toml"):
        load_platform(other)
