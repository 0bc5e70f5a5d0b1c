"""Files of MoE families: every spelling of a fact, and damaged twins, which are refused by name."""

import pytest

from diffgenz import InputError, load_model, model_from_config
from diffgenz.models.files import read_config

M3, V4, STEP = "MiniMaxAI/MiniMax-M3", "deepseek-ai/DeepSeek-V4-Flash", "stepfun-ai/Step-3.5-Flash"
GLM, FLASH, MIMO = "zai-org/GLM-5.2", "zai-org/GLM-4.7-Flash", "XiaomiMiMo/MiMo-V2-Flash"
GEMMA, ERNIE, HUNYUAN = (
    "google/gemma-4-26B-A4B",
    "baidu/ERNIE-4.5-21B-A3B-PT",
    "tencent/Hunyuan-A13B-Instruct",
)


def changed(name, **changes):
    """A shipped file's language model with other values; None takes the field out."""
    config = dict(read_config(name)[1])
    inner = config.get("text_config")
    config = {"model_type": config.get("model_type")} | (dict(inner) if inner else config)
    config |= changes
    return {key: value for key, value in config.items() if value is not None}


def parameters(name, **changes):
    """Of the language model."""
    return float(
        model_from_config(changed(name, **changes), "changed").replace(vision=None).parameters
    )


def count(name):
    return float(load_model(name).replace(vision=None).parameters)


def layers(first, then, dense, total):
    return [first] * dense + [then] * (total - dense)


def test_layers_with_experts_in_every_spelling():
    assert parameters(FLASH, first_k_dense_replace=None) == count(FLASH)  # the class's default
    listed = {"mlp_layer_types": layers("dense", "sparse", 1, 47)}
    assert parameters(FLASH, **listed) == count(FLASH)
    assert parameters(FLASH, first_k_dense_replace=None, **listed) == count(FLASH)
    assert parameters(FLASH, moe_layer_freq=layers(0, 1, 1, 47)) == count(FLASH)
    other = {"mlp_layer_types": layers("dense", "sparse", 3, 47)}
    assert parameters(FLASH, first_k_dense_replace=None, **other) < count(FLASH)
    assert parameters(FLASH, first_k_dense_replace=3) == parameters(
        FLASH, first_k_dense_replace=None, **other
    )
    assert parameters(FLASH, moe_layer_freq=2) < count(FLASH)


def test_minimax_m3_as_its_class_writes_it():
    flat = {
        "sparse_attention_config": None,
        "moe_layer_freq": None,
        "index_n_heads": 4,
        "index_head_dim": 128,
        "index_block_size": 128,
        "index_topk_blocks": 16,
        "index_local_blocks": 1,
        "layer_types": layers("full_attention", "minimax_m3_sparse", 3, 60),
        "mlp_layer_types": layers("dense", "sparse", 3, 60),
    }
    assert parameters(M3, **flat) == count(M3)
    dense = flat | {"layer_types": None}
    indexes = 57 * (6144 * 5 * 128 + 2 * 128)
    assert count(M3) - parameters(M3, **dense) == pytest.approx(indexes, abs=4e4)


def test_deepseek_v4_as_its_class_writes_it():
    kinds = {0: "sliding_attention", 4: "compressed_sparse_attention"}
    kinds[128] = "heavily_compressed_attention"
    ratios = read_config(V4)[1]["compress_ratios"]
    listed = {
        "layer_types": [kinds[ratio] for ratio in ratios[:43]],
        "mlp_layer_types": layers("hash_moe", "moe", 3, 43),
        "compress_rates": {kinds[4]: 4, kinds[128]: 128},
    }
    assert parameters(V4, **listed) == count(V4)
    assert parameters(V4, **listed, compress_ratios=None, num_hash_layers=None) == count(V4)
    assert parameters(V4, compress_ratios=ratios[:43]) == count(V4)


def test_step_with_the_heads_of_windowed_layers_in_every_spelling():
    other = "attention_other_setting"
    assert parameters(STEP, **{other: None}, num_sliding_attention_heads=96) == count(STEP)
    windowed = [at for at in range(45) if at % 4]
    entries = {str(at): {"num_attention_heads": 96} for at in windowed}
    assert parameters(STEP, **{other: None}, per_layer_config=entries) == count(STEP)
    assert parameters(STEP, **{other: None}) < count(STEP)


def test_gemma_4_with_entries_for_its_full_layers():
    full = {f"{at:02d}": {"head_dim": 512, "num_key_value_heads": 2} for at in range(5, 30, 6)}
    bare = {"global_head_dim": None, "num_global_key_value_heads": None}
    assert parameters(GEMMA, **bare, per_layer_config=full) == count(GEMMA)


def test_hunyuan_may_state_one_number_for_each_layer_or_for_all():
    alone = {"moe_topk": 8, "num_shared_expert": 1, "moe_intermediate_size": 3072}
    assert parameters(HUNYUAN, **alone) == count(HUNYUAN)
    assert parameters(HUNYUAN, num_experts=[64] * 32) == count(HUNYUAN)


def test_an_indexer_that_every_layer_has_is_glm_5():
    every = {"indexer_types": None, "index_topk_freq": None, "index_skip_topk_offset": None}
    assert parameters(GLM, **every) == count("zai-org/GLM-5")
    assert parameters(GLM, indexer_types=None) == count(GLM)


DAMAGED = [
    (FLASH, {"mlp_layer_types": ["dense"]}, "mlp_layer_types must list 47 layers"),
    (FLASH, {"mlp_layer_types": ["moe"] * 47}, "mlp_layer_types: layer 0 is 'moe'"),
    (
        FLASH,
        {"mlp_layer_types": layers("dense", "sparse", 2, 47)},
        "mlp_layer_types contradicts first_k_dense_replace",
    ),
    (FLASH, {"moe_layer_freq": [1, 2]}, "moe_layer_freq must list 47 layers"),
    (GLM, {"indexer_types": ["shared"] * 78}, "indexer_types: its first layer is 'shared'"),
    (GLM, {"indexer_types": ["full"] * 78}, "indexer_types contradicts index_topk_freq, 4"),
    (GLM, {"indexer_types": ["half"] * 78}, "indexer_types: layer 0 is 'half'"),
    (GLM, {"index_topk_pattern": "FS" * 39}, "index_topk_pattern: .* is not modelled"),
    (M3, {"qk_norm_type": "per_layer"}, "qk_norm_type: .* is not modelled"),
    (M3, {"sparse_attention_config": {"sparse_attention_freq": [1]}}, "must list 60 layers"),
    (V4, {"compress_ratios": [0] * 7}, "compress_ratios must list 43 layers"),
    (V4, {"compress_ratios": [8] * 43}, "compress_ratios: layer 0 is 8"),
    (V4, {"layer_types": ["sliding_attention"] * 43}, "compress_ratios: contradicts layer_types"),
    (V4, {"compress_ratios": None}, "lacks compress_ratios"),
    (V4, {"mlp_layer_types": ["moe"] * 43}, "num_hash_layers: 3 contradicts mlp_layer_types"),
    (V4, {"num_key_value_heads": 2}, "num_key_value_heads: .* = 2 is not modelled"),
    (STEP, {"moe_layers_enum": "3,four"}, "moe_layers_enum: '3,four' must list layers below 45"),
    (STEP, {"moe_layers_enum": [99]}, r"moe_layers_enum: \[99\] must list layers below 45"),
    (STEP, {"moe_layers_enum": 3}, "moe_layers_enum: 3 must list layers"),
    (STEP, {"layer_types": ["full_attention"] * 7}, "layer_types must list 45 layers"),
    (MIMO, {"hybrid_layer_pattern": [2] * 48}, "hybrid_layer_pattern: layer 0 is 2"),
    (MIMO, {"sliding_window": None}, "lacks sliding_window"),
    (GEMMA, {"per_layer_config": {"3": {"head_dim": 512}}}, "per_layer_config: .* not modelled"),
    (GEMMA, {"per_layer_config": [1]}, "per_layer_config: .* is not an object"),
    (GEMMA, {"num_kv_shared_layers": 30}, "num_kv_shared_layers: 30 leaves none of 30 layers"),
    (GEMMA, {"moe_intermediate_size": None}, "lacks moe_intermediate_size"),
    (GEMMA, {"expert_intermediate_size": 7}, "contradicts expert_intermediate_size, 7"),
    (ERNIE, {"moe_layer_end_index": "last"}, "moe_layer_end_index: 'last' is not a layer"),
    (HUNYUAN, {"moe_topk": [8, 4] * 16}, "moe_topk: .* is not modelled"),
    (HUNYUAN, {"group_limited_greedy": True}, "group_limited_greedy: .* is not modelled"),
]


@pytest.mark.parametrize(("name", "changes", "error"), DAMAGED, ids=str)
def test_damaged_files_are_refused_in_one_line(name, changes, error):
    with pytest.raises(InputError, match=error) as refused:
        model_from_config(changed(name, **changes), "damaged")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        (M3, "moe_latent_size", 1024),
        (V4, "kv_lora_rank", 512),
        (GLM, "hc_mult", 4),
        (FLASH, "v_head_gate", True),
        (ERNIE, "zero_expert_num", 64),
    ],
)
def test_a_field_of_another_family_is_refused(name, field, value):
    with pytest.raises(InputError, match=f"{field}: .* is not modelled"):
        model_from_config(changed(name, **{field: value}), "other")
