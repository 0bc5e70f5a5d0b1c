"""Sections that cannot be read: one line that names the checkpoint, the key and the remedy."""

import re

import pytest
from checkpoint_cases import DENSE, EXPERTS, LATENT, read, written

from diffgenz import InputError

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}
FP8 = {"quant_method": "fp8"}
CT = {"quant_method": "compressed-tensors"}
INT4 = {"num_bits": 4, "type": "int", "group_size": 32}
INT8 = {"num_bits": 8, "type": "int"}
MODELOPT = {"quant_method": "modelopt", "quant_algo": "FP8"}
MIXED = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}
QUARK = {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "int8"}}}

REFUSED = {
    "method": ({"quant_method": "aqlm"}, "quant_method: 'aqlm' is not known"),
    "no method": ({"bits": 4}, "quant_method: None is not known"),
    "method of a wrong type": ({"quant_method": ["fp8"]}, "quant_method:"),
    "no object": ("fp8", "quantization_config: 'fp8' is no object"),
    "no bits": ({"quant_method": "gptq"}, "lacks bits"),
    "three bits": (GPTQ | {"bits": 3}, "bits: 3 makes 3-bit weights"),
    "bits as a list": (GPTQ | {"bits": [4]}, r"bits: \[4\] is no whole number"),
    "a list as text of numbers": (FP8 | {"ignored_layers": [1]}, "ignored_layers: .* no list of"),
    "unknown list": (FP8 | {"modules_kept": ["a"]}, "modules_kept: .* is not known here"),
    "layer": (
        FP8 | {"ignored_layers": ["model.layers.4.mlp"]},
        "ignored_layers: 'model.layers.4.mlp' is in layer 4, but the model has 4 layers",
    ),
    "module": (
        FP8 | {"ignored_layers": ["model.layers.1.mlp.dawn_proj"]},
        "ignored_layers: 'model.layers.1.mlp.dawn_proj' is no module of this model",
    ),
    "module without a layer": (FP8 | {"ignored_layers": ["self_atn"]}, "'self_atn' is no module"),
    "override of a layer": (
        {
            "quant_method": "auto-round",
            "bits": 4,
            "group_size": 128,
            "extra_config": {"model.layers.9.mlp.up_proj": {"bits": 8}},
        },
        "extra_config: 'model.layers.9.mlp.up_proj' is in layer 9",
    ),
    "dynamic layer": (
        GPTQ | {"dynamic": {"+:model.layers.9.mlp.up_proj": {"bits": 8}}},
        "is in layer 9",
    ),
    "dynamic expression": (GPTQ | {"dynamic": {"-:(": {}}}, "dynamic: .* no regular expression"),
    "target": (
        CT | {"config_groups": {"a": {"targets": ["model.layers.4.mlp.up_proj"], "weights": INT4}}},
        "targets: .* is in layer 4",
    ),
    "class": (
        CT | {"config_groups": {"a": {"targets": ["Conv2d"], "weights": INT4}}},
        "targets: .* has 'Conv2d', which is not known",
    ),
    "two groups of all": (
        CT | {"config_groups": {"a": {"weights": INT4}, "b": {"weights": INT8}}},
        "targets: .* is that of another group",
    ),
    "no groups": (CT, "config_groups: None is needed"),
    "block": (FP8 | {"weight_block_size": ["a", 1]}, "weight_block_size: .* no size of a block"),
    "block of nothing": (FP8 | {"weight_block_size": [0, 0]}, "weight_block_size: .* no size"),
    "float": (
        CT | {"config_groups": {"a": {"weights": {"num_bits": 5, "type": "float"}}}},
        "num_bits: 5 of type float",
    ),
    "algorithm": (MODELOPT | {"quant_algo": "FP7"}, "quant_algo: 'FP7' is not known"),
    "no algorithm": ({"quant_method": "modelopt", "producer": {}}, "quant_algo: None is not known"),
    "mixed without layers": (MIXED, "quantized_layers: None must say"),
    "algorithm of a layer": (
        MIXED | {"quantized_layers": {"model.layers.0.mlp.up_proj": {"quant_algo": "FP7"}}},
        "quantized_layers: model.layers.0.mlp.up_proj: quant_algo: 'FP7' is not known",
    ),
    "cache": (MODELOPT | {"kv_cache_scheme": "FP7"}, "kv_cache_scheme: 'FP7' is not known"),
    "cache of a wrong type": (MODELOPT | {"kv_cache_scheme": 8}, "kv_cache_scheme: 8 is neither"),
    "dtype": (
        QUARK | {"global_quant_config": {"weight": {"dtype": "mx9"}}},
        "dtype: 'mx9' is not known",
    ),
    "cache of Quark": (
        QUARK | {"export": {"kv_cache_group": ["*k_proj"]}},
        "kv_cache_group: .* have no format",
    ),
    "neither": ({"quant_method": "bitsandbytes"}, "load_in_4bit: None must be true"),
    "torchao": ({"quant_method": "torchao", "quant_type": "autoquant"}, "quant_type: 'autoquant'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused(name, tmp_path):
    section, message = REFUSED[name]
    with pytest.raises(InputError, match=message) as refused:
        read(written(tmp_path / "checkpoint", section))
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("checkpoint: ")
    assert re.search("give the formats themselves|remove the entry|correct it", str(refused.value))


SIDECAR = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}


def test_a_sidecar_is_read_where_config_json_says_nothing(tmp_path):
    sidecar = {
        "quantization": {
            "quant_algo": "NVFP4",
            "kv_cache_quant_algo": "FP8",
            "exclude_modules": ["lm_head", "model.layers.4*", "*.self_attn*"],
        }
    }
    stored = read(written(tmp_path, None, LATENT, sidecar))[1]
    assert {key: each.weights for key, each in stored.formats.items()} == {
        "attention": "bf16",
        "mlp": "nvfp4",
        "experts": "nvfp4",
        "head": "bf16",
    }
    assert stored.kv_cache == "fp8"


def test_a_sidecar_adds_the_cache_that_config_json_leaves_out(tmp_path):
    sidecar = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}
    assert read(written(tmp_path, MODELOPT, DENSE, sidecar))[1].kv_cache == "fp8"
    assert read(written(tmp_path, MODELOPT, DENSE, SIDECAR))[1].kv_cache is None


@pytest.mark.parametrize(
    ("section", "sidecar", "message"),
    [
        (None, '{"quantization": {"quant_algo": "FP8", "exclu', "not valid JSON .* truncated"),
        (None, "[]", "holds no JSON object"),
        (None, {}, "quant_algo: None is not known"),
        (MODELOPT, {"quantization": {"quant_algo": "NVFP4"}}, "quant_algo FP8 contradicts .*NVFP4"),
        (
            MODELOPT | {"kv_cache_scheme": "FP8"},
            {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "NVFP4"}},
            "KV format fp8 contradicts .*nvfp4",
        ),
        (FP8, {"quantization": {"quant_algo": "NVFP4"}}, "fp8 contradicts .*NVFP4"),
    ],
)
def test_damaged_and_contradicting_sidecars(section, sidecar, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read(written(tmp_path, section, DENSE, sidecar))


ACCEPTED = [
    "lm_head",
    "model.embed_tokens",
    "model.layers.0.mlp.gate",
    "re:visual.*",
    "model.visual.blocks.31.attn.qkv",
    "vision_tower.encoder.layers.40.mlp.fc1",
    "mtp.layers.0.mlp.experts.3.up_proj",
    "model.layers.3.input_layernorm",
    "model.layers.4.eh_proj",
    "model.layers.0.mlp.shared_expert_gate",
    "model.layers.2.linear_attn.conv1d",
    "model.layers.1.self_attn.indexer.weights_proj",
    "model.layers.1.mlp.experts.7.up_proj",
]


@pytest.mark.parametrize("entry", ACCEPTED)
def test_what_is_wide_anyhow_changes_nothing(entry, tmp_path):
    plain = read(written(tmp_path / "a", FP8, LATENT))[1]
    section = FP8 | {"modules_to_not_convert": [entry]}
    assert read(written(tmp_path / "b", section, LATENT))[1] == plain


@pytest.mark.parametrize(
    ("entry", "kinds"),
    [
        ("model.layers.*.self_attn", {"attention"}),
        ("*.mlp.experts.*", {"experts"}),
        ("*mlp*", {"experts"}),
        ("mlp", {"experts"}),
        ("model", {"attention", "experts"}),
        ("model.layers", {"attention", "experts"}),
        (r"mlp\.experts\.\d+\.(gate|up|down)_proj$", {"experts"}),
        ("re:.*(qkv_proj|o_proj)$", {"attention"}),
        ("language_model.model.layers.[0-9].self_attn.*", {"attention"}),
        ("re:^(?!.*experts).*", {"attention"}),
    ],
)
def test_entries_of_every_spelling(entry, kinds, tmp_path):
    section = FP8 | {"modules_to_not_convert": [entry]}
    stored = read(written(tmp_path, section, EXPERTS))[1]
    found = {key for key, each in stored.formats.items() if each.weights == "bf16"}
    assert found == kinds | {"head"}


def test_a_layer_is_not_those_whose_numbers_start_with_its_own(tmp_path):
    many = DENSE | {"num_hidden_layers": 20}
    for entry in ("model.layers.1*", "model.layers.1.*", "model.layers.1", r"re:.*layers\.1\."):
        section = FP8 | {"modules_to_not_convert": [entry]}
        stored = read(written(tmp_path, section, many))[1]
        assert stored.formats["mlp"].weight_size == pytest.approx(1.05), entry


def test_a_fused_name_is_no_name_of_its_parts(tmp_path):
    section = GPTQ | {"dynamic": {"-:.*up_proj.*": {}}}
    stored = read(written(tmp_path, section))[1]
    assert stored.formats["mlp"].weight_size == pytest.approx((2 * 0.515625 + 2) / 3)
    section = GPTQ | {"dynamic": {"-:.*gate_up_proj.*": {}}}
    stored = read(written(tmp_path, section))[1]
    assert stored.formats["gate_up"].weights == "bf16"
