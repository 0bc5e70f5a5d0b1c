"""Checkpoints that people brought, against what their files weigh; and small parts, weighed."""

from typing import NamedTuple

import pytest
from checkpoint_cases import DENSE, REPORTS, gigabytes, read, written

from diffgenz import InputError

with_reports = pytest.mark.skipif(not REPORTS.exists(), reason="no reports here")


class Published(NamedTuple):
    """A checkpoint.

    Arguments:
        gigabytes: GB of its weights, from its file sizes, or by hand from its shapes.
        formats: the format of the weights of each entry.
        kv_cache: the format of keys and values.
    """

    gigabytes: float
    formats: dict[str, str]
    kv_cache: str | None = None


def dense(attention, mlp=None, head="bf16"):
    return {"attention": attention, "mlp": mlp or attention, "head": head}


NVFP4 = {
    **dict.fromkeys(("compress", "queries", "expand", "absorb"), "bf16"),
    **dict.fromkeys(("attention_out", "mlp", "experts"), "nvfp4"),
    "head": "bf16",
}
MIXED = {"attention": "fp8", "mlp": "nvfp4", "experts": "nvfp4", "head": "nvfp4"}
PUBLISHED = {
    "nvidia--DeepSeek-V3.1-NVFP4": Published(386.4, NVFP4, "fp8"),
    "nvidia--Llama-3.1-70B-Instruct-FP8": Published(71.6, dense("fp8"), "fp8"),
    "Qwen3.5-27B-GPTQ-Int4": Published(29.3, dense("bf16", "int4")),
    "Qwen3-8B-gptq-mlp-only": Published(8.17, dense("bf16", "int4")),
    "Llama-3.1-8B-FP8-KV-quark": Published(9.08, dense("fp8"), "fp8"),
    "Qwen--Qwen3-32B-FP8-Static-PerTensor": Published(34.3, dense("fp8"), "fp8"),
    "Qwen3.5-27B-FP8": Published(30.4, dense("fp8_block")),
    "Llama-3.1-405B-FP8": Published(487.2, dense("bf16", "fp8")),
    "nvidia--Qwen3.6-35B-A3B-NVFP4": Published(21.7, MIXED, "fp8"),
    "Llama-3.1-8B-kv-only": Published(16.06, dense("bf16"), "fp8"),
    "Qwen3-8B-ct-targets-mlp": Published(8.17, dense("bf16", "int4")),
}


@with_reports
@pytest.mark.parametrize("name", PUBLISHED)
def test_what_people_brought(name):
    case = PUBLISHED[name]
    stored = read(REPORTS / name)[1]
    assert {key: each.weights for key, each in stored.formats.items()} == case.formats
    assert stored.kv_cache == case.kv_cache
    assert gigabytes(REPORTS / name) == pytest.approx(case.gigabytes, rel=0.02)


NOT_YET = {
    "nvidia--NVIDIA-Nemotron-3-Super-120B-A12B-FP8": ({"in_projection": "fp8"}, "fp8"),
    "zai-org--GLM-5-FP8": ({"experts": "fp8_block", "mlp": "fp8_block"}, None),
    "deepseek-ai--DeepSeek-V4-Flash": ({"experts": "mxfp4", "mlp": "fp8_block"}, None),
}
"""Checkpoints of families that may not be modelled: some formats of each, and of the cache."""


@with_reports
@pytest.mark.parametrize("name", NOT_YET)
def test_checkpoints_of_further_families(name):
    formats, kv_cache = NOT_YET[name]
    try:
        stored = read(REPORTS / name)[1]
    except InputError as error:
        if "is not modelled" not in str(error):
            raise
        pytest.skip("its family is not modelled")
    found = {key: each.weights for key, each in stored.formats.items()}
    assert {key: found.get(key) for key in formats if key in found} == {
        key: each for key, each in formats.items() if key in found
    }
    assert stored.kv_cache == kv_cache


def test_a_small_part_left_wide_is_ignored_and_a_larger_one_counts(tmp_path):
    """An eighth of the MLP is 7.6 % of the linear layers; a sixteenth of attention 1.9 %."""
    one = {"quant_method": "fp8", "modules_to_not_convert": ["model.layers.0.mlp.down_proj"]}
    stored = read(written(tmp_path / "one", one))[1]
    assert stored.formats["mlp"].weight_size == pytest.approx(1 + 1 / 12)
    assert stored.notes == ("8% of the weights of mlp are in bf16",)
    wide = DENSE | {"num_hidden_layers": 120}
    stored = read(written(tmp_path / "many", one, wide))[1]
    assert stored.formats["mlp"].weight_size == 1.0
    assert stored.notes == ()


def test_what_is_mainly_wide_says_so(tmp_path):
    three = [f"model.layers.{layer}.mlp" for layer in range(3)]
    section = {"quant_method": "fp8", "modules_to_not_convert": three}
    stored = read(written(tmp_path, section))[1]
    assert stored.formats["mlp"].weights == "bf16"
    assert stored.formats["mlp"].weight_size == pytest.approx(1.75)
    assert stored.notes == ("25% of the weights of mlp are in fp8",)
    parts = {
        f"model.layers.{i}.mlp.{n}_proj": {"bits": b}
        for i in range(4)
        for n, b in (("gate", 8), ("up", 16), ("down", 4))
    }
    section = {"quant_method": "auto-round", "bits": 4, "group_size": 128, "extra_config": parts}
    stored = read(written(tmp_path, section))[1]
    assert stored.formats["down"].weights == "int4"
    assert stored.notes[0] == "50% of the weights of gate_up are in bf16"
