"""Precisions of checkpoints: what their sections say, as far as a `Precision` can say it."""

import pytest
from checkpoint_cases import DENSE, EXPERTS, written

from diffgenz import InputError, load_model, load_platform, load_precision
from diffgenz.models.files import list_models
from diffgenz.operators.layer_format import DTYPE
from diffgenz.operators.operator import Kind
from diffgenz.operators.step import Step

V3 = "deepseek-ai/DeepSeek-V3"
NVFP4 = {
    "quant_method": "modelopt",
    "quant_algo": "NVFP4",
    "kv_cache_scheme": {"num_bits": 8, "type": "float"},
}
FP8 = {"quant_method": "fp8"}
INT4 = {"num_bits": 4, "type": "int", "group_size": 32, "symmetric": True}
ATTENTION = "model.layers.*.self_attn"


def test_formats_sizes_and_cache_come_from_the_checkpoint(tmp_path):
    precision = load_precision(written(tmp_path, NVFP4))
    assert (precision.weights, precision.activations, precision.kv_cache) == (
        "nvfp4",
        "nvfp4",
        "fp8",
    )
    assert float(precision.weight_size) == 0.5625
    assert not precision.wide
    section = {
        "config_groups": {"g": {"weights": INT4 | {"group_size": 64}}},
        "ignore": ["lm_head"],
    }
    precision = load_precision(written(tmp_path, section))
    assert (precision.weights, precision.activations) == ("int4", "bf16")
    assert float(precision.weight_size) == pytest.approx(0.5 + 2 / 64)


def test_the_cache_alone_may_be_narrow(tmp_path):
    section = {"quant_method": "compressed-tensors", "config_groups": {}, "kv_cache_scheme": "fp8"}
    precision = load_precision(written(tmp_path, section), dtype="fp16")
    assert precision.summary == "weights fp16, activations fp16, KV cache fp8, else fp16"
    assert float(precision.weight_size) == 2.0


def test_shipped_models_are_what_their_checkpoints_are():
    quantised = {
        name: precision
        for name in list_models()
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
    path = written(tmp_path, NVFP4)
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
            written(tmp_path, None, DENSE | {"torch_dtype": None, "dtype": "float32"})
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
    ("config", "modules", "experts_only"),
    [
        (DENSE, ["lm_head", "model.embed_tokens", "model.layers.0.mlp.gate", "re:visual.*"], False),
        (DENSE | {"num_nextn_predict_layers": 1}, ["model.layers.4.self_attn"], False),
        (EXPERTS, [ATTENTION, "lm_head"], True),
        (EXPERTS, ["re:.*self_attn.*", "re:.*mlp\\.(gate|up|gate_up|down)_proj.*"], True),
    ],
)
def test_layers_left_wide(config, modules, experts_only, tmp_path):
    path = written(tmp_path, FP8 | {"modules_to_not_convert": modules}, config)
    assert (load_precision(path).layer("qkv", "attention").part == DTYPE) == experts_only


def test_a_dense_model_may_be_wide_in_part(tmp_path):
    precision = load_precision(written(tmp_path, FP8 | {"ignored_layers": [ATTENTION]}))
    assert (precision.weights, precision.activations) == ("fp8", "fp8")
    assert precision.modules_named == {"attention": "bf16"}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"quant_method": "aqlm"}, "quant_method: 'aqlm' is not known"),
    ],
)
def test_what_cannot_be_said_is_refused_with_the_remedy(section, message, tmp_path):
    with pytest.raises(
        InputError, match=f"{message}.*give the formats themselves: weights, activations"
    ):
        load_precision(written(tmp_path, section))
