"""Checkpoints: their config.json's quantization_config as formats, against published sizes and by
hand."""

import json
from typing import Any, NamedTuple

import pytest

from diffgenz import InputError, load_model, load_platform, load_precision
from diffgenz.models.files import model_ids
from diffgenz.operators.operator import Kind
from diffgenz.operators.step import Step

V3 = "deepseek-ai/DeepSeek-V3"
NVFP4 = {"num_bits": 4, "type": "float", "group_size": 16}
INT4 = {"num_bits": 4, "type": "int", "group_size": 32, "symmetric": True}
ATTENTION = "model.layers.*.self_attn"


class Read(NamedTuple):
    """A quantization_config, and how it is read.

    Arguments:
        quantization: what config.json says.
        formats: of weights, activations and KV cache.
        size: B of a weight.
    """

    quantization: dict[str, Any]
    formats: tuple[str, str, str]
    size: float


def method(name, **facts):
    return {"quant_method": name, **facts}


def group(weights, activations=None):
    """The only group of layers of a compressed-tensors file."""
    groups = {"g": {"weights": weights, "input_activations": activations}}
    return method("compressed-tensors", config_groups=groups)


FP8 = {"num_bits": 8, "type": "float"}
INT4_ALONE = ("int4", "bf16", "bf16")
NF4 = {"load_in_4bit": True}
DOUBLE = NF4 | {"bnb_4bit_use_double_quant": True}
MXFP4 = {"weight": {"dtype": "fp4", "group_size": 32}, "input_tensors": {"dtype": "fp4"}}

READ = {
    "fp8 blocks": Read(
        method("fp8", weight_block_size=[128, 128]), ("fp8_block", "fp8", "bf16"), 1 + 4 / 128**2
    ),
    "fp8": Read(method("fp8", activation_scheme="static"), ("fp8", "fp8", "bf16"), 1),
    "mxfp4": Read(method("mxfp4"), ("mxfp4", "bf16", "bf16"), 17 / 32),
    "gptq": Read(
        method("gptq", bits=4, group_size=128, sym=True), INT4_ALONE, (128 * 4 + 16) / 8 / 128
    ),
    "gptq, 8 bit": Read(method("gptq", bits=8, group_size=-1), ("int8", "bf16", "bf16"), 1),
    "awq, with zeros": Read(
        method("awq", bits=4, group_size=64, zero_point=True),
        INT4_ALONE,
        (64 * 4 + 16 + 4) / 8 / 64,
    ),
    "bitsandbytes, NF4": Read(method("bitsandbytes", **NF4), INT4_ALONE, (64 * 4 + 32) / 8 / 64),
    "bitsandbytes, double": Read(
        method("bitsandbytes", **DOUBLE), INT4_ALONE, 0.5 + (8 + 32 / 256) / 8 / 64
    ),
    "bitsandbytes, 8 bit": Read(
        method("bitsandbytes", load_in_8bit=True), ("int8", "int8", "bf16"), 1
    ),
    "modelopt": Read(
        method("modelopt", quant_algo="NVFP4", kv_cache_scheme=FP8),
        ("nvfp4", "nvfp4", "fp8"),
        0.5625,
    ),
    "quark": Read(method("quark", global_quant_config=MXFP4), ("mxfp4", "mxfp4", "bf16"), 17 / 32),
    "compressed-tensors, W8A8": Read(
        group(FP8 | {"strategy": "channel"}, FP8), ("fp8", "fp8", "bf16"), 1
    ),
    "compressed-tensors, W4A16": Read(group(INT4), INT4_ALONE, 0.5625),
    "compressed-tensors, W4A4": Read(group(NVFP4, NVFP4), ("nvfp4", "nvfp4", "bf16"), 0.5625),
}


def written(folder, quantization, key="quantization_config", **facts):
    path = folder / "config.json"
    path.write_text(
        json.dumps({"torch_dtype": "bfloat16", "num_hidden_layers": 4, key: quantization} | facts)
    )
    return path


@pytest.mark.parametrize("name", READ)
def test_every_method_is_read(name, tmp_path):
    quantization, formats, size = READ[name]
    precision = load_precision(written(tmp_path, quantization))
    assert (precision.weights, precision.activations, precision.kv_cache) == formats
    assert float(precision.weight_size) == pytest.approx(size, rel=1e-7)
    assert not precision.wide
    assert (
        load_precision(written(tmp_path, quantization, "compression_config")).weights == formats[0]
    )


def test_shipped_models_are_what_their_checkpoints_are():
    quantised = {
        name: precision
        for name in model_ids()
        if (precision := load_precision(name)).weights != precision.dtype
    }
    blocks = (
        "DeepSeek-V3",
        "DeepSeek-V3.1",
        "DeepSeek-V3.2",
        "DeepSeek-R1",
        "Kimi-K2-Instruct",
        "MiniMax-M2",
    )
    assert {name.split("/")[1]: precision.weights for name, precision in quantised.items()} == {
        **dict.fromkeys(blocks, "fp8_block"),
        **dict.fromkeys(("gpt-oss-120b", "gpt-oss-20b"), "mxfp4"),
    }


def test_what_is_given_replaces_what_is_stored(tmp_path):
    path = written(tmp_path, READ["modelopt"].quantization)
    precision = load_precision(
        path, dtype="fp16", activations="fp8", kv_cache="gear-int4", messages="int8"
    )
    assert precision.names == {
        "dtype": "fp16",
        "weights": "nvfp4",
        "activations": "fp8",
        "kv_cache": "gear-int4",
        "messages": "int8",
    }


def test_without_quantisation_everything_is_in_torch_dtype(tmp_path):
    assert (
        load_precision("meta-llama/Llama-2-7b-hf").summary
        == "weights fp16, activations fp16, KV cache fp16, else fp16"
    )
    assert (
        load_precision(
            written(tmp_path, None, torch_dtype=None, text_config={"dtype": "float32"})
        ).dtype
        == "fp32"
    )


def test_a_format_the_accelerator_lacks_is_read_narrow_and_multiplied_wide():
    """W8A16 on A100; fp8 on H100."""
    old, new = (
        load_precision(V3, load_platform(system).accelerator) for system in ("a100_sxm", "h100_sxm")
    )
    assert (old.weights, old.activations, old.linear_peak) == ("fp8_block", "bf16", "bf16")
    assert (new.weights, new.activations, new.linear_peak) == ("fp8_block", "fp8", "fp8")


@pytest.mark.parametrize(
    ("name", "published"), [("openai/gpt-oss-120b", 60.8), ("openai/gpt-oss-20b", 12.8)]
)
def test_gpt_oss_takes_the_published_bytes(name, published):
    """Checkpoint sizes in GiB: gpt-oss model card, table 1 (arXiv 2508.10925); experts in mxfp4,
    all else in bf16."""
    model, step = load_model(name), Step(1.0, 1.0, 0.0, 1.0, load_precision(name))
    operators = (
        *model.embedding_operators(step),
        *model.layer_operators(step),
        *model.head_operators(step),
    )
    assert sum(
        float(op.repeats * op.parameters * op.parameter_size) for op in operators
    ) / 2**30 == pytest.approx(published, rel=0.01)
    assert {
        op.name: op.kind for op in operators if "qkv" in op.name or "expert_down" in op.name
    } == {"qkv": Kind.WIDE, "expert_down": Kind.LINEAR}


@pytest.mark.parametrize(
    ("modules", "facts", "experts_only"),
    [
        (["lm_head", "model.embed_tokens", "model.layers.0.mlp.gate", "re:visual.*"], {}, False),
        (["model.layers.4.self_attn"], {}, False),  # of a multi-token-prediction layer
        ([ATTENTION, "lm_head"], {"num_experts": 8}, True),
        (
            [
                "re:.*self_attn.*",
                "re:.*shared_experts.*",
                "re:.*mlp\\.(gate|up|gate_up|down)_proj.*",
            ],
            {"n_routed_experts": 8},
            True,
        ),
    ],
)
def test_layers_left_wide(modules, facts, experts_only, tmp_path):
    path = written(tmp_path, {"quant_method": "mxfp4", "modules_to_not_convert": modules}, **facts)
    assert (load_precision(path).wide == ("attention", "mlp")) == experts_only


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        ({"quant_method": "aqlm"}, "quant_method: 'aqlm' is not known"),
        ({"quant_method": "gptq"}, "cannot read gptq"),
        ({"quant_method": "gptq", "bits": 3}, "3-bit weights"),
        (
            {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"},
            "quant_algo: 'MIXED_PRECISION' is not known",
        ),
        (
            {"quant_method": "fp8", "ignored_layers": [ATTENTION]},
            r"leaves model.layers.\*.self_attn wide",
        ),
        (
            {"config_groups": {"a": {"weights": INT4}, "b": {"weights": NVFP4}}},
            "2 different formats",
        ),
    ],
)
def test_what_cannot_be_said_is_refused_with_the_remedy(quantization, message, tmp_path):
    with pytest.raises(
        InputError, match=f"{message}.*give the formats themselves: weights, activations"
    ):
        load_precision(written(tmp_path, quantization))
