"""Quantisation sections of every method, with the formats that each says, by hand."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from checkpoint_cases import DELTA, DENSE, EXPERTS, HYBRID, LATENT


class Case(NamedTuple):
    """A quantisation section, and what it says.

    Arguments:
        section: the section.
        formats: "weights/activations" of each entry, without activations where they are in dtype.
            Entries that are not named must be in bf16.
        sizes: B per weight of some entries.
        kv_cache: the format of keys and values.
        config: what stands beside it.
    """

    section: dict[str, Any]
    formats: dict[str, str]
    sizes: Mapping[str, float] = MappingProxyType({})
    kv_cache: str | None = None
    config: dict[str, Any] = DENSE


def all_linear(name):
    return {"attention": name, "mlp": name}


def method(name, **facts):
    return {"quant_method": name, **facts}


def groups(*given, **facts):
    """A compressed-tensors section of groups."""
    named = {f"group_{index}": each for index, each in enumerate(given)}
    return method("compressed-tensors", config_groups=named, **facts)


def group(weights, inputs=None, targets=("Linear",)):
    return {"targets": list(targets), "weights": weights, "input_activations": inputs}


def tensors(dtype, inputs=None, **facts):
    """What Quark says of a layer."""
    given = None if inputs is None else {"dtype": inputs, "qscheme": "per_tensor"}
    return {"weight": {"dtype": dtype, **facts}, "input_tensors": given, "output_tensors": None}


INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}
INT8 = {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True}
FP8 = {"num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": True}
NVFP4 = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
BLOCK = {"num_bits": 8, "type": "float", "strategy": "block"}
G128 = 0.5 + 2 / 128
ATTENTION = [f"model.layers.{i}.self_attn.{p}_proj" for i in range(4) for p in "qkvo"]
GPTQ = method("gptq", bits=4, group_size=128, sym=True)
ROUND = method("auto-round", bits=4, group_size=128, sym=True)
WIDE = {"bits": 16, "data_type": "float"}
SPARSE = {"format": "sparse-24-bitmask", "sparsity_structure": "2:4", "targets": ["Linear"]}
CACHE = tensors("fp8_e4m3", "fp8_e4m3") | {"output_tensors": {"dtype": "fp8_e4m3"}}
MLP_ALONE = {"mlp": "int4"}

CASES = {
    # fp8 and its kin
    "fp8": Case(method("fp8"), all_linear("fp8/fp8"), {"mlp": 1.0}),
    "fp8, blocks": Case(
        method("fp8", weight_block_size=[128, 128]),
        all_linear("fp8_block/fp8"),
        {"mlp": 1 + 4 / 128**2},
    ),
    "fp8, one number": Case(
        method("fp8", weight_block_size=[64]), all_linear("fp8_block/fp8"), {"mlp": 1 + 4 / 64**2}
    ),
    "fp8, attention wide": Case(
        method("fp8", modules_to_not_convert=["lm_head", *ATTENTION]), {"mlp": "fp8/fp8"}
    ),
    "fp8, ignored": Case(method("fp8", ignored_layers=["self_attn"]), {"mlp": "fp8/fp8"}),
    "fp8, fp4 experts": Case(
        method("fp8", weight_block_size=[128, 128], scale_fmt="ue8m0"),
        {**all_linear("fp8_block/fp8"), "experts": "mxfp4/fp8"},
        {"mlp": 1 + 1 / 128**2, "experts": 17 / 32},
        config=LATENT | {"expert_dtype": "fp4"},
    ),
    "fbgemm": Case(
        method("fbgemm_fp8", activation_scale_ub=1200.0, modules_to_not_convert=ATTENTION),
        {"mlp": "fp8/fp8"},
    ),
    "mxfp4 is of experts": Case(method("mxfp4"), {"experts": "mxfp4"}, config=EXPERTS),
    "w4afp8": Case(
        method("w4afp8"),
        {"attention": "fp8_block/fp8", "experts": "int4/fp8"},
        {"experts": G128},
        config=EXPERTS,
    ),
    "w8a8_int8": Case(method("w8a8_int8"), all_linear("int8/int8")),
    # integers in groups
    "gptq": Case(GPTQ, all_linear("int4"), {"mlp": G128}),
    "gptq with zeros": Case(GPTQ | {"sym": False}, all_linear("int4"), {"mlp": 0.5 + 2.5 / 128}),
    "gptq, 8 bit, channels": Case(
        GPTQ | {"bits": 8, "group_size": -1}, all_linear("int8"), {"mlp": 1.0}
    ),
    "gptq, head": Case(GPTQ | {"lm_head": True}, {**all_linear("int4"), "head": "int4"}),
    "gptq, modules": Case(
        GPTQ
        | {"modules_in_block_to_quantize": [["mlp.up_proj", "mlp.gate_proj"], ["mlp.down_proj"]]},
        MLP_ALONE,
    ),
    "gptq, modules, flat": Case(
        GPTQ | {"modules_in_block_to_quantize": ["self_attn.o_proj"]},
        {"attention_out": "int4"},
    ),
    "gptq, dynamic": Case(
        GPTQ | {"dynamic": {"-:.*attn.*": {}, "lm_head": {}, "-:.*visual.*": {}}}, MLP_ALONE
    ),
    "gptq, dynamic bits": Case(
        GPTQ | {"dynamic": {r"+:.*\.down_proj$": {"bits": 8, "group_size": 64}}},
        {"attention": "int4", "gate_up": "int4", "down": "int8"},
        {"down": 1 + 2 / 64, "gate_up": G128},
    ),
    "gptq, dynamic layers": Case(
        GPTQ | {"dynamic": {r"model\.layers\.(0)\..*": {"bits": 8}, "-:^lm_head": {}}},
        all_linear("int4"),
        {"mlp": (3 * 0.5 + 1) / 4 + 2 / 128},
    ),
    "awq": Case(
        method("awq", bits=4, group_size=64, zero_point=True),
        all_linear("int4"),
        {"mlp": 0.5 + 2.5 / 64},
    ),
    "awq, llm-awq's keys": Case(
        method("awq", w_bit=4, q_group_size=128, zero_point=False, modules_to_not_convert=["mlp"]),
        {"attention": "int4"},
        {"attention": G128},
    ),
    "auto-round": Case(
        ROUND | {"extra_config": dict.fromkeys(ATTENTION, WIDE), "packing_format": "auto_round"},
        MLP_ALONE,
    ),
    "auto-round, 8 bit": Case(
        ROUND
        | {"extra_config": {f"model.layers.{i}.mlp.down_proj": {"bits": 8} for i in range(4)}},
        {"attention": "int4", "gate_up": "int4", "down": "int8"},
        {"down": 1 + 2 / 128},
    ),
    "auto-round, blocks": Case(
        ROUND | {"block_name_to_quantize": "model.layers.0,model.layers.1"},
        all_linear("int4"),
        {"mlp": (G128 + 2) / 2},
    ),
    "auto-round, all blocks": Case(
        ROUND | {"block_name_to_quantize": "model.layers"}, all_linear("int4"), {"mlp": G128}
    ),
    "auto-round, expression": Case(
        ROUND | {"extra_config": {".*self_attn.*": {"bits": 16}}}, MLP_ALONE
    ),
    "auto-round, mx": Case(
        ROUND | {"data_type": "mx_fp", "act_bits": 4, "act_data_type": "mx_fp_rceil"},
        all_linear("mxfp4/mxfp4"),
        {"mlp": 17 / 32},
    ),
    # on the fly
    "bitsandbytes, NF4": Case(
        method("bitsandbytes", load_in_4bit=True), all_linear("int4"), {"mlp": 0.5 + 4 / 64}
    ),
    "bitsandbytes, double": Case(
        method("bitsandbytes", _load_in_4bit=True, bnb_4bit_use_double_quant=True),
        all_linear("int4"),
        {"mlp": 0.5 + (8 + 32 / 256) / 8 / 64},
    ),
    "bitsandbytes, 8 bit": Case(
        method("bitsandbytes", load_in_8bit=True, llm_int8_skip_modules=["self_attn", "lm_head"]),
        {"mlp": "int8/int8"},
    ),
    "torchao": Case(
        method("torchao", quant_type="int8_dynamic_activation_int8_weight"),
        all_linear("int8/int8"),
    ),
    "torchao, configuration": Case(
        method(
            "torchao",
            quant_type={"default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 64}}},
        ),
        all_linear("int4"),
        {"mlp": 0.5 + 4 / 64},
    ),
    "torchao, by name": Case(
        method(
            "torchao",
            quant_type={
                "default": {
                    "_type": "ModuleFqnToConfig",
                    "_data": {
                        "module_fqn_to_config": {
                            "_default": {"_type": "Int8WeightOnlyConfig", "_data": {}},
                            **dict.fromkeys(ATTENTION),
                        }
                    },
                }
            },
        ),
        {"mlp": "int8"},
    ),
    "hqq": Case(
        method("hqq", quant_config={"weight_quant_params": {"nbits": 4, "group_size": 64}}),
        all_linear("int4"),
        {"mlp": 0.5 + 4 / 64},
    ),
    "hqq, by name": Case(
        method("hqq", quant_config={"mlp.up_proj": {"weight_quant_params": {"nbits": 8}}}),
        {"mlp": "bf16"},
        {"mlp": (2 + 2 + 1 + 4 / 64) / 3},
    ),
    "eetq": Case(method("eetq", weights="int8"), all_linear("int8")),
    "quanto": Case(method("quanto", weights="float8"), all_linear("fp8")),
    "higgs": Case(method("higgs", bits=4, p=2), all_linear("int4"), {"mlp": 0.5 + 2 / 256}),
    "fp_quant": Case(method("fp_quant", forward_dtype="nvfp4"), all_linear("nvfp4/nvfp4")),
    # compressed-tensors
    "compressed-tensors": Case(
        groups(group(FP8 | {"strategy": "channel"}, FP8), ignore=["lm_head"]), all_linear("fp8/fp8")
    ),
    "compressed-tensors, unstated method": Case(
        {"config_groups": {"g": group(INT8, INT8)}, "ignore": ["lm_head"]}, all_linear("int8/int8")
    ),
    "compressed-tensors, head": Case(
        groups(group(INT4)), {**all_linear("int4"), "head": "int4"}, {"head": 0.5625}
    ),
    "compressed-tensors, zeros": Case(
        groups(group(INT4 | {"symmetric": False}), ignore=["re:.*lm_head"]),
        all_linear("int4"),
        {"mlp": 0.5 + 2.5 / 32},
    ),
    "compressed-tensors, targets": Case(
        groups(group(INT4, targets=["re:.*mlp.*proj$"]), ignore=["lm_head"]), MLP_ALONE
    ),
    "compressed-tensors, two groups": Case(
        groups(group(FP8, FP8, ["re:.*self_attn.*"]), group(NVFP4, NVFP4, ["re:.*mlp\\..*"])),
        {"attention": "fp8/fp8", "mlp": "nvfp4/nvfp4"},
        {"mlp": 0.5625},
    ),
    "compressed-tensors, names before classes": Case(
        groups(group(INT8, None), group(INT4, None, ATTENTION), ignore=["lm_head"]),
        {"attention": "int4", "mlp": "int8"},
    ),
    "compressed-tensors, blocks as text": Case(
        groups(group(BLOCK | {"block_structure": "64x32"}, FP8), ignore=["lm_head"]),
        all_linear("fp8_block/fp8"),
        {"mlp": 1 + 4 / (64 * 32)},
    ),
    "compressed-tensors, blocks as list": Case(
        groups(group(BLOCK | {"block_structure": [128, 128]}, FP8), ignore=["lm_head"]),
        all_linear("fp8_block/fp8"),
        {"mlp": 1 + 4 / 128**2},
    ),
    "compressed-tensors, cache alone": Case(
        method("compressed-tensors", config_groups={}, kv_cache_scheme=FP8), {}, kv_cache="fp8"
    ),
    "compressed-tensors, sparse alone": Case(
        method("compressed-tensors", config_groups={}, ignore=["lm_head"], sparsity_config=SPARSE),
        {},
        {"mlp": 1.125, "attention": 1.125, "head": 2.0},
    ),
    "compressed-tensors, sparse and fp8": Case(
        groups(group(FP8, FP8), ignore=["lm_head"], sparsity_config=SPARSE),
        all_linear("fp8/fp8"),
        {"mlp": 0.625},
    ),
    # ModelOpt
    "modelopt": Case(
        method("modelopt", quant_algo="NVFP4", kv_cache_scheme=FP8),
        all_linear("nvfp4/nvfp4"),
        {"mlp": 0.5625},
        "fp8",
    ),
    "modelopt, wrapped": Case(
        method(
            "modelopt",
            producer={"name": "modelopt"},
            quantization={
                "quant_algo": "fp8",
                "kv_cache_quant_algo": "NVFP4",
                "exclude_modules": ["lm_head", "*self_attn*"],
            },
        ),
        {"mlp": "fp8/fp8"},
        kv_cache="nvfp4",
    ),
    "modelopt, flat": Case(
        {
            "quant_algo": "FP8",
            "config_groups": {"group_0": {"weights": FP8, "input_activations": FP8}},
            "ignore": ["lm_head"],
            "kv_cache_scheme": "fp8",
            "producer": {"name": "modelopt"},
        },
        all_linear("fp8/fp8"),
        kv_cache="fp8",
    ),
    "modelopt, head too": Case(
        method("modelopt", quant_algo="FP8", ignore=["model.layers.0.mlp*"]),
        {**all_linear("fp8/fp8"), "head": "fp8/fp8"},
        {"mlp": 1.25},
    ),
    "modelopt, W4A16": Case(
        method("modelopt", quant_algo="W4A16_AWQ", group_size=64),
        all_linear("int4"),
        {"mlp": 0.5 + 2 / 64},
    ),
    "modelopt, W4A8": Case(method("modelopt", quant_algo="W4A8_AWQ"), all_linear("int4/fp8")),
    "modelopt, W4A16_NVFP4": Case(
        method("modelopt", quant_algo="W4A16_NVFP4"), all_linear("nvfp4")
    ),
    "modelopt, FP8_PB_WO": Case(
        method("modelopt", quant_algo="fp8_pb_wo"), all_linear("fp8_block")
    ),
    "modelopt, MXFP8": Case(
        method("modelopt", quant_algo="MXFP8"), all_linear("mxfp8/mxfp8"), {"mlp": 33 / 32}
    ),
    "modelopt, mixed": Case(
        method(
            "modelopt",
            quant_algo="MIXED_PRECISION",
            quantized_layers={
                **{name: {"quant_algo": "FP8"} for name in ATTENTION},
                "lm_head": {"quant_algo": "W4A16_NVFP4", "group_size": 16},
                **{
                    f"model.layers.{i}.mlp.experts": {"quant_algo": "NVFP4", "group_size": 16}
                    for i in range(4)
                },
            },
            ignore=["mtp*"],
        ),
        {"attention": "fp8/fp8", "experts": "nvfp4/nvfp4", "head": "nvfp4"},
        config=EXPERTS,
    ),
    "modelopt, cache alone": Case(
        method("modelopt", quantization={"quant_algo": None, "kv_cache_quant_algo": "INT8"}),
        {},
        kv_cache="int8",
    ),
    "modelopt, latent": Case(
        method(
            "modelopt",
            quant_algo="NVFP4",
            ignore=[
                "lm_head",
                "model.layers.4*",
                *(
                    f"model.layers.{i}.self_attn.{name}"
                    for i in range(4)
                    for name in ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj")
                ),
            ],
        ),
        {"attention_out": "nvfp4/nvfp4", "mlp": "nvfp4/nvfp4", "experts": "nvfp4/nvfp4"},
        config=LATENT,
    ),
    # Quark
    "quark": Case(
        method(
            "quark",
            global_quant_config=tensors("fp8_e4m3", "fp8_e4m3"),
            layer_quant_config={"*k_proj": CACHE, "*v_proj": CACHE},
            kv_cache_quant_config={"*k_proj": CACHE, "*v_proj": CACHE},
            kv_cache_post_rope=False,
            layer_type_quant_config={},
            exclude=["lm_head"],
            export={"kv_cache_group": ["*k_proj", "*v_proj"]},
        ),
        all_linear("fp8/fp8"),
        kv_cache="fp8",
    ),
    "quark, cache of layers": Case(
        method(
            "quark",
            global_quant_config=tensors("int8", "int8"),
            layer_quant_config={"*k_proj": CACHE, "*v_proj": CACHE},
            exclude=["re:.*lm_head", "*.self_attn.*"],
            export={"kv_cache_group": ["*k_proj", "*v_proj"]},
        ),
        {"mlp": "int8/int8"},
        kv_cache="fp8",
    ),
    "quark, mxfp4": Case(
        method(
            "quark",
            global_quant_config=tensors("fp4", qscheme="per_group", group_size=32),
            layer_quant_config={
                "*.self_attn.*": tensors("fp8_e4m3", "fp8_e4m3", qscheme="per_channel")
            },
            exclude=["lm_head"],
        ),
        {"attention": "fp8/fp8", "mlp": "mxfp4"},
        {"mlp": 17 / 32},
    ),
    "quark, groups of int4": Case(
        method(
            "quark",
            global_quant_config=tensors(
                "uint4", qscheme="per_group", group_size=128, symmetric=False
            ),
            exclude=["lm_head"],
        ),
        all_linear("int4"),
        {"mlp": 0.5 + 2.5 / 128},
    ),
    "quark, two levels": Case(
        method(
            "quark",
            global_quant_config={
                "weight": [
                    {"dtype": "fp8_e4m3", "qscheme": "per_tensor"},
                    {"dtype": "int4", "qscheme": "per_channel"},
                ],
                "input_tensors": {"dtype": "fp8_e4m3"},
            },
            exclude=["lm_head"],
        ),
        all_linear("int4/fp8"),
        {"mlp": 0.5},
    ),
    "quark, class": Case(
        method(
            "quark",
            global_quant_config={},
            layer_type_quant_config={"torch.nn.Linear": tensors("int8")},
            exclude=["lm_head"],
        ),
        all_linear("int8"),
    ),
    "quark, experts alone": Case(
        method(
            "quark",
            global_quant_config=tensors("fp4", "fp4", qscheme="per_group", group_size=32),
            exclude=[r"re:^(?!.*\.mlp\.experts(?:\.|$)).*$"],
        ),
        {"experts": "mxfp4/mxfp4"},
        config=EXPERTS,
    ),
    # other families
    "hybrid": Case(
        method("modelopt", quant_algo="FP8", ignore=["backbone.layers.2.mixer*", "lm_head"]),
        {"in_projection": "fp8/fp8", "out_projection": "fp8/fp8", "mlp": "fp8/fp8"},
        config=HYBRID,
    ),
    "delta nets": Case(
        GPTQ | {"dynamic": {"-:.*attn.*": {}, "model.language_model.embed_tokens": {}}},
        MLP_ALONE,
        config=DELTA,
    ),
    "delta nets, one projection": Case(
        method(
            "fp8",
            modules_to_not_convert=[
                f"model.language_model.layers.{i}.linear_attn.{name}"
                for i in range(3)
                for name in ("in_proj_qkvz", "in_proj_ba", "conv1d")
            ],
        ),
        {
            **dict.fromkeys(("out_projection", "qkv", "attention_out"), "fp8/fp8"),
            "mlp": "fp8/fp8",
        },
        config=DELTA,
    ),
}
