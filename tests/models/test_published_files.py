"""config.json files as they are published: fields of all kinds, class defaults, contradictions."""

import pytest

from diffgenz import InputError, load_model, model_from_config
from diffgenz.models.files import kind_of, list_models, read_config
from diffgenz.models.huggingface import FAMILIES

WRITTEN_BY_4 = {
    "_name_or_path": "checkpoint",
    "add_cross_attention": False,
    "bad_words_ids": None,
    "begin_suppress_tokens": None,
    "chunk_size_feed_forward": 0,
    "cross_attention_hidden_size": None,
    "diversity_penalty": 0.0,
    "do_sample": False,
    "early_stopping": False,
    "encoder_no_repeat_ngram_size": 0,
    "exponential_decay_length_penalty": None,
    "finetuning_task": None,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "is_composition": True,
    "length_penalty": 1.0,
    "max_length": 20,
    "no_repeat_ngram_size": 0,
    "num_beam_groups": 1,
    "num_beams": 1,
    "num_return_sequences": 1,
    "output_scores": False,
    "pruned_heads": {},
    "repetition_penalty": 1.0,
    "return_dict": True,
    "return_dict_in_generate": False,
    "temperature": 1.0,
    "tf_legacy_loss": False,
    "tie_encoder_decoder": False,
    "top_k": 50,
    "top_p": 1.0,
    "torchscript": False,
    "typical_p": 1.0,
    "unsloth_fixed": True,
    "use_bfloat16": False,
}
"""What transformers 4 writes of every configuration (`to_dict`), and what people's tools add."""

PUBLISHED = {
    "tiiuae/falcon-7b": {"num_kv_heads": 71, "ff_factor": 4, "hidden_dropout": 0.0},
    "bigcode/starcoder2-15b": {"mlp_type": "default", "norm_type": "layer_norm"},
    "state-spaces/mamba-2.8b-hf": {
        "d_inner": 5120,
        "d_model": 2560,
        "n_layer": 64,
        "rms_norm": True,
        "fused_add_norm": True,
        "pad_vocab_size_multiple": 8,
        "ssm_cfg": {},
        "residual_in_fp32": True,
    },
    "EleutherAI/gpt-j-6b": {
        "rotary": True,
        "summary_type": "cls_index",
        "scale_attn_weights": True,
    },
    "EleutherAI/pythia-6.9b": {"custom_pipelines": {"text-generation": {"impl": "x.Y"}}},
    "zai-org/chatglm3-6b": {
        "bias_dropout_fusion": True,
        "fp32_residual_connection": False,
        "num_hidden_layers": 28,
        "pre_seq_len": None,
        "prefix_projection": False,
        "quantization_bit": 0,
    },
    "tencent/Hunyuan-7B-Instruct": {
        "attention_head_dim": 128,
        "cla_share_factor": 2,
        "class_num": 0,
        "dense_list": [4096, 0],
        "enable_lm_head_fp32": True,
        "im_end_id": 6,
        "org_vocab_size": 128167,
        "pool_type": "last",
        "use_rotary_pos_emb": True,
    },
    "baidu/ERNIE-4.5-0.3B-PT": {"compression_ratio": 1.0},
    "google/recurrentgemma-2b": {"embeddings_scale_by_sqrt_dim": True},
    "ai21labs/AI21-Jamba-1.5-Mini": {"mamba_inner_layernorms": True, "num_logits_to_keep": 1},
    "ibm-granite/granite-4.0-h-tiny": {"normalization_function": "rmsnorm", "init_method": "mup"},
    "Qwen/Qwen3.5-27B": {"length_penalty": 1.0},
    "microsoft/Phi-3-mini-4k-instruct": {"full_attn_mod": 1, "interpolate_factor": 1},
    "tiiuae/Falcon-H1-7B-Base": {"mamba_use_mlp": True, "mlp_multipliers": [0.9, 0.2]},
    "mosaicml/mpt-7b": {"verbose": 0, "init_config": {"name": "kaiming_normal_"}},
}
"""Fields that published files have beside those of the shipped ones, and that change nothing."""


def parameters(config):
    return float(model_from_config(config, "m").parameters)


def shipped():
    """A shipped model of each family, by the type of its language model."""
    found = {}
    for name in list_models():
        config = read_config(name)[1]
        for kind in (kind_of(config), config.get("text_config", {}).get("model_type")):
            if kind in FAMILIES:
                found.setdefault(kind, config)
    return found


SHIPPED = shipped()


@pytest.mark.parametrize("family", SHIPPED)
def test_fields_that_every_configuration_has_change_nothing(family):
    config = SHIPPED[family]
    key = "text_config" if "text_config" in config else None
    longer = {**config, key: config[key] | WRITTEN_BY_4} if key else config | WRITTEN_BY_4
    assert parameters(longer) == parameters(config)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_fields_change_nothing(name):
    config = read_config(name)[1]
    assert parameters(config | PUBLISHED[name]) == parameters(config)


NESTED = [  # published counts of the language models whose sizes are those of the class
    ("llama", {"vocab_size": 32064}, 6738939904),  # LLaVA 1.5 7B
    ("mistral", {"vocab_size": 32064}, 7242256384),  # LLaVA 1.6 Mistral 7B
    ("gpt_neox", {}, 20554567680),
    ("falcon", {"vocab_size": 65024}, 6921720704),
]


@pytest.mark.parametrize(("kind", "stated", "expected"), NESTED)
def test_a_nested_language_model_leaves_sizes_to_its_class(kind, stated, expected):
    text = {"model_type": kind, **stated}
    actual = parameters({"model_type": "llava", "text_config": text})
    assert actual == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("kind", [kind for kind, _, _ in NESTED])
def test_a_file_of_its_own_states_its_sizes(kind):
    with pytest.raises(InputError, match=r"config\.json lacks .*take the complete file"):
        model_from_config({"model_type": kind, "vocab_size": 32064}, "m")


def test_a_null_field_is_stated():
    """Mistral's class has a window of 4096, and null says that there is none."""
    text = {"model_type": "mistral", "vocab_size": 32064}
    windows = [
        {
            None if each.block.window is None else float(each.block.window)
            for each in model_from_config({"text_config": one}, "m").blocks
            if each.block.mixes_tokens
        }
        for one in (text, text | {"sliding_window": None})
    ]
    assert windows == [{4096.0}, {None}]


def test_mamba_files_without_a_model_type_are_those_of_transformers():
    """state-spaces/mamba-2.8b and mamba-2.8b-hf are one model."""
    file = {"d_model": 2560, "n_layer": 64, "vocab_size": 50277, "ssm_cfg": {}, "rms_norm": True}
    expected = float(load_model("state-spaces/mamba-2.8b-hf").parameters)
    assert parameters(file | {"pad_vocab_size_multiple": 8}) == expected


def changed(name, **fields):
    return read_config(name)[1] | fields


NAS = "nvidia/Llama-3_3-Nemotron-Super-49B-v1"
BLOCKS = read_config(NAS)[1]["block_configs"]

BAD = [
    # both spellings, in contradiction
    (changed("bigscience/bloom", hidden_size=4096), "hidden_size: 4096 contradicts n_embed, 14336"),
    (
        changed("LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct", num_hidden_layers=30),
        "num_hidden_layers: 30 contradicts num_layers, 32",
    ),
    (changed("mistralai/Mamba-Codestral-7B-v0.1", expand=4), "expand: 4 x 4096 .* contradicts"),
    (changed("ibm-ai-platform/Bamba-9B-v2", mamba_expand=3), "mamba_expand: 3 x 4096 .* contradic"),
    (changed("tiiuae/Falcon-H1-7B-Base", mamba_d_ssm=4096), "mamba_d_ssm: 4096 contradicts"),
    (changed("ibm-granite/granite-4.0-h-tiny", mamba_expand=3), "mamba_expand: 3 x 1536"),
    # lists of the wrong length
    (changed("allenai/Olmo-3-1025-7B", layer_types=["full_attention"]), "layer_types must list 32"),
    (changed(NAS, block_configs=BLOCKS[:-1]), "block_configs must list 80 layers"),
    (changed("apple/OpenELM-270M", num_kv_heads=[3]), "num_kv_heads must list 16 layers"),
    (changed("EleutherAI/gpt-neo-2.7B", attention_layers=["local"]), "attention_layers must list"),
    (
        changed("EleutherAI/gpt-neo-2.7B", attention_layers=None, attention_types=[[["local"], 3]]),
        "attention_layers: lists 3 layers, and the model has 32",
    ),
    (changed("EleutherAI/gpt-neo-2.7B", attention_types=3, attention_layers=None), "must list pai"),
    # layers that do not exist
    (changed("LiquidAI/LFM2-1.2B", full_attn_idxs=[2, 16]), "full_attn_idxs: .* from 0 to 15"),
    (changed("LiquidAI/LFM2-1.2B", full_attn_idxs=True), "full_attn_idxs: True must list layers"),
    (changed("ibm-ai-platform/Bamba-9B-v2", attn_layer_indices=[-1]), "attn_layer_indices: .-1. "),
    # kinds of layers that do not exist
    (
        changed("allenai/Olmo-3-1025-7B", layer_types=["full_attention"] * 31 + ["linear"]),
        "layer_types: layer 31 is 'linear'; those that are modelled are sliding_attention",
    ),
    (
        changed("Qwen/Qwen3-8B", use_sliding_window=True, layer_types=["chunked_attention"] * 36),
        "layer_types: layer 0 is 'chunked_attention'",
    ),
    (changed("LiquidAI/LFM2-1.2B", layer_types=["mamba"] * 16), "layer 0 is 'mamba'"),
    (changed("google/recurrentgemma-2b", block_types=["recurrent", "moe"]), "layer 1 is 'moe'"),
    (changed("google/recurrentgemma-2b", block_types="recurrent"), "is not a list of kinds"),
    (changed("LGAI-EXAONE/EXAONE-4.0-32B", sliding_window_pattern="LXG"), "'LXG' must spell"),
    # entries that make no sense
    (
        changed(NAS, block_configs=[{**BLOCKS[0], "ffn": {"ffn_mult": -1}}, *BLOCKS[1:]]),
        r"block_configs\[0\]: ffn: ffn_mult: -1 is not a positive number",
    ),
    (
        changed(NAS, block_configs=[{"ffn": {"ffn_mult": 1}}, *BLOCKS[1:]]),
        r"block_configs\[0\]: config.json lacks attention",
    ),
    (
        changed(
            NAS, block_configs=[{**BLOCKS[0], "attention": {"n_heads_in_group": 7}}, *BLOCKS[1:]]
        ),
        "n_heads_in_group: 7 does not divide num_attention_heads, 64",
    ),
    (
        changed(
            NAS,
            block_configs=[
                {**BLOCKS[0], "attention": {"n_heads_in_group": 8, "window_length": 512}},
                *BLOCKS[1:],
            ],
        ),
        r"window_length: this section with window_length = 512 is not modelled",
    ),
    # what would change a shape and is not modelled
    (changed("openai-community/gpt2", add_cross_attention=True), "add_cross_attention: model_type"),
    (changed("facebook/opt-6.7b", layer_norm_elementwise_affine=False), "layer_norm_elementwise"),
    (changed("mosaicml/mpt-7b", no_bias=False), "no_bias: model_type mpt with no_bias = False"),
    (
        {"d_model": 2560, "n_layer": 64, "vocab_size": 50277, "ssm_cfg": {"layer": "Mamba3"}},
        "ssm_cfg: layer: this section with layer = 'Mamba3' is not modelled",
    ),
    (
        {"d_model": 64, "n_layer": 2, "vocab_size": 9, "ssm_cfg": {}, "attn_layer_idx": [1]},
        "attn_layer_idx: ",
    ),
]


@pytest.mark.parametrize(("config", "said"), BAD)
def test_damaged_files_are_refused_in_one_line(config, said):
    with pytest.raises(InputError, match=said) as caught:
        model_from_config(config, "m")
    assert "\n" not in str(caught.value)
