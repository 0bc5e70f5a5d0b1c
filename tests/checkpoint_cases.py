"""What tests of checkpoints share: small config.json files, and the formats that are read of them.

The dense model has 4 layers; in each, attention has 12,288 parameters (4,096 in q and in o, 2,048
in k and in v) and the MLP 24,576 (8,192 in each of gate, up and down). Its head has 16,384.
"""

import json
from pathlib import Path

from diffgenz.core.formats import FORMATS
from diffgenz.models.checkpoints import read_source, stored_of
from diffgenz.models.checkpoints.modules import modules_of
from diffgenz.models.checkpoints.stored import dtype_of
from diffgenz.models.huggingface import model_from_config

REPORTS = Path(__file__).resolve().parents[2] / "shared" / "reports" / "configs"

DENSE = {
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 256,
}
"""A Llama."""

EXPERTS = {
    **DENSE,
    "model_type": "qwen3_moe",
    "head_dim": 16,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "decoder_sparse_step": 1,
}
"""A Qwen3 with 8 experts of 6,144 parameters in each layer."""

LATENT = {
    "model_type": "deepseek_v3",
    "torch_dtype": "bfloat16",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_nextn_predict_layers": 1,
    "first_k_dense_replace": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "q_lora_rank": 32,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "intermediate_size": 128,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 32,
    "vocab_size": 256,
}
"""A DeepSeek-V3 with one dense layer, and a multi-token-prediction module."""

HYBRID = {
    "model_type": "nemotron_h",
    "torch_dtype": "bfloat16",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "hybrid_override_pattern": "M-*-",
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 128,
    "mamba_num_heads": 8,
    "mamba_head_dim": 16,
    "n_groups": 1,
    "ssm_state_size": 16,
    "vocab_size": 256,
}
"""A Nemotron-H of Mamba-2 (layer 0), attention (2) and plain MLPs (1 and 3)."""

DELTA = {
    "model_type": "qwen3_5",
    "text_config": {
        "model_type": "qwen3_5_text",
        "dtype": "bfloat16",
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "full_attention_interval": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 128,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 16,
        "linear_num_value_heads": 4,
        "linear_value_head_dim": 16,
        "vocab_size": 256,
    },
}
"""A Qwen3.5 with gated delta nets in layers 0 to 2 and attention in layer 3."""


def written(folder, quantization, config=DENSE, sidecar=None, key="quantization_config"):
    """The folder of a checkpoint with this quantisation section."""
    folder.mkdir(exist_ok=True)
    content = config if quantization is None else config | {key: quantization}
    (folder / "config.json").write_text(json.dumps(content))
    if sidecar is not None:
        text = sidecar if isinstance(sidecar, str) else json.dumps(sidecar)
        (folder / "hf_quant_config.json").write_text(text)
    return folder


def read(folder):
    """The model of a checkpoint, and what it is stored in."""
    source = read_source(folder)
    model = model_from_config(source.config, source.name)
    return model, stored_of(source, model)


def gigabytes(folder):
    """GB of all weights of a checkpoint, those of its embedding, norms and tower included."""
    model, stored = read(folder)
    dtype = FORMATS[dtype_of(read_source(folder))].size
    linear, narrow = 0.0, 0.0
    for each in modules_of(model):
        formats = stored.formats
        entry = formats.get(each.module.kind) or formats[each.module.rows[0]]
        linear += each.parameters
        narrow += each.parameters * entry.weight_size
    return (narrow + (float(model.parameters) - linear) * dtype) / 1e9
