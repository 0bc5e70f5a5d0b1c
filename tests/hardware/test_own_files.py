"""Accelerator files as people write them: datasheet spellings, no sources, no network."""

import pytest
from support import assert_close

import diffgenz as dgz
from diffgenz.core.errors import InputError
from diffgenz.hardware.platform import load_platform
from diffgenz.hardware.spec import UNSOURCED
from diffgenz.hardware.specs import read_spec
from diffgenz.scenario.from_words import from_words

HALVES = """
name = "A trainer"
vendor = "Them"
[sources]
sheet = "public figures"
[peak_flops]
fp16 = ["376 TFLOPS", "sheet"]
int8 = ["752 TOPS", "sheet"]
[memory]
capacity = ["64 GB HBM2e", "sheet"]
bandwidth = ["1.6 TB/s", "sheet"]
reserve = "4GB"
[execution]
compute_units = 24
launch_latency = "5 \u00b5s"
[power]
tdp = "400W"
[[network]]
name = "links"
topology = "mesh"
size = 8
bandwidth = ["196 GB/s", "sheet"]
latency = "2us"
"""

SINGLE = """
name = "A module"
vendor = "Them"
[peak_flops]
bf16 = "258 TFLOPS"
fp8 = "517 TFLOPS"
[memory]
capacity = "128 GB LPDDR5X"
bandwidth = "273 GB/s"
reserve = "4 GB"
[execution]
compute_units = "20"
launch_latency = "4 us"
[power]
tdp = "130 W"
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "own.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_datasheet_spellings_are_read(write):
    spec = read_spec(write(HALVES))
    assert spec.peak_flops == {"fp16": 376e12, "int8": 752e12}
    assert spec.memory == {"capacity": 64e9, "bandwidth": 1.6e12, "reserve": 4e9}
    assert spec.execution == {"compute_units": 24, "launch_latency": pytest.approx(5e-6)}
    assert spec.network[0].figures["latency"] == pytest.approx(2e-6)


def test_figures_without_a_source_say_so(write):
    sources = read_spec(write(HALVES)).sources
    assert sources["memory.bandwidth"] == "public figures"
    assert sources["memory.reserve"] == sources["power.tdp"] == UNSOURCED
    assert set(read_spec(write(SINGLE)).sources.values()) == {UNSOURCED}


@pytest.mark.parametrize("listed", ["", "network = []\n"], ids=["left out", "empty"])
def test_a_single_accelerator_needs_no_network(write, listed):
    platform = load_platform(write(listed + SINGLE))
    chip = platform.accelerator
    assert platform.network == ()
    assert_close(chip.idle_power + chip.compute_power + chip.memory_power, 130.0, 1e-6)
    assert_close(chip.compute_power / chip.memory_power, 2.0, 1e-6)


def test_more_than_one_accelerator_needs_a_network(write):
    with pytest.raises(
        InputError,
        match=r"accelerators: 2 exceeds 1, A module has no network; add .*\[\[network\]\]",
    ):
        load_platform(write(SINGLE), 2)
    with pytest.raises(
        InputError,
        match=r"accelerators: 2 exceeds 1, A module has no network; add .*\[\[network\]\]",
    ):
        from_words({"model": "Qwen/Qwen3-8B", "system": write(SINGLE), "gpus": 2})


@pytest.mark.parametrize(
    "model", ["Qwen/Qwen3-8B", "deepseek-ai/DeepSeek-V2-Lite"], ids=["dense", "experts"]
)
def test_a_single_accelerator_without_a_network_times_as_one_with_it(write, model):
    alone = from_words({"model": model, "system": write(SINGLE)}).scenario
    network = HALVES[HALVES.index("[[network]]") :].replace(', "sheet"', "")
    network = network.replace("[", "").replace("]", "").replace("network\n", "[[network]]\n")
    connected = from_words({"model": model, "system": write(SINGLE + network)}).scenario
    one, other = dgz.estimate(alone), dgz.estimate(connected)
    for metric in ("ttft", "tpot", "throughput", "memory"):
        assert_close(getattr(one, metric), getattr(other, metric), 1e-6)
    assert float(one.tpot) > 0


def test_an_accelerator_without_bf16_runs_in_fp16(write):
    words = {"model": "Qwen/Qwen3-8B", "system": write(HALVES), "gpus": 8}
    scenario = from_words(words).scenario
    assert scenario.precision.dtype == scenario.precision.weights == "fp16"
    assert float(dgz.estimate(scenario).throughput) > 0
    assert (
        from_words(words | {"system": write(SINGLE), "gpus": 1}).scenario.precision.dtype == "bf16"
    )
    with pytest.raises(InputError, match="has no bf16 arithmetic"):
        dgz.estimate(from_words(words | {"system": write(HALVES), "dtype": "bf16"}).scenario)
