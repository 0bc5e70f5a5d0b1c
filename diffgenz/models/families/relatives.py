"""Close relatives of Llama, one function each, as in `families.dense`.

They have a gated or plain MLP after attention, and differ from Llama in biases, norms, activations
or the names of fields.
"""

from collections.abc import Callable
from typing import Any

from diffgenz.models.assembly import attention_of, biased, mlp_of, model_of
from diffgenz.models.blocks.norm import Norm
from diffgenz.models.config import Config
from diffgenz.models.families.dense import llama, mistral, qwen2, qwen_of
from diffgenz.models.families.latent import latent_of
from diffgenz.models.families.moe import qwen3_moe
from diffgenz.models.model import Model


def _plain(
    config: Config, attention: dict[str, Any], mlp: dict[str, Any], tied: bool, **differences: Any
) -> Model:
    """Attention and an MLP in every layer.

    Arguments:
        config: the facts.
        attention: fields of `Attention` in which the family differs from Llama.
        mlp: fields of `MLP` in which it does.
        tied: whether the LM head uses the embedding's weights where the file says nothing.
        differences: fields of `Model` in which it does.
    """
    return model_of(
        config,
        attention_of(config, **attention),
        (mlp_of(config, **mlp), config.layers),
        tied=tied,
        **differences,
    )


def mimo(config: Config) -> Model:
    """Qwen 2 with a multi-token-prediction module: MiMo."""
    bias = config.flag("attention_bias", default=True)
    return qwen_of(config, attention_of(config, qkv_bias=bias))


def smollm3(config: Config) -> Model:
    """Llama with a tied LM head, and without positions in every fourth layer: SmolLM3."""
    config.expect(use_sliding_window=False)
    config.ignore("sliding_window", "max_window_layers")
    config.expect(layer_types=["full_attention"] * config.layers)
    return _plain(config, biased(config), {}, tied=True)


def seed_oss(config: Config) -> Model:
    """Llama with biases on Q, K and V: Seed-OSS."""
    attention = {
        "qkv_bias": config.flag("attention_bias", default=True),
        "out_bias": config.flag("attention_out_bias", default=False),
    }
    return _plain(config, attention, {}, tied=False)


def arcee(config: Config) -> Model:
    """Llama with a plain MLP and squared ReLU: AFM, the Arcee foundation models."""
    return _plain(config, biased(config), {"gated": False}, tied=False)


def helium(config: Config) -> Model:
    """Llama whose output projection never has a bias: Helium."""
    bias = config.flag("attention_bias", default=False)
    return _plain(config, {"qkv_bias": bias}, {}, tied=False)


def ernie4_5(config: Config) -> Model:
    """Llama with biases everywhere or nowhere, and a tied LM head: the dense ERNIE 4.5."""
    config.ignore("compression_ratio", "freq_allocation")  # of rotary positions
    bias = config.flag("use_bias", default=False)
    return _plain(config, biased(config, "use_bias"), {"bias": bias}, tied=True)


def hunyuan_v1_dense(config: Config) -> Model:
    """Llama with norms on queries and keys: the dense Hunyuan."""
    normed = config.flag("use_qk_norm", default=True)
    config.expect(use_cla=False, num_experts=1)
    config.expect(attention_head_dim=config.head_dim, org_vocab_size=config.get("vocab_size"))
    config.expect(use_rotary_pos_emb=True, norm_type="rms", class_num=0)
    config.ignore("cla_share_factor", "moe_topk", "num_shared_expert", "dense_list", "pool_type")
    config.ignore("im_start_id", "im_end_id", "im_newline_id", "text_start_id", "text_end_id")
    config.ignore("mask_init_id")
    attention = {"query_key_norm": "head" if normed else None, **biased(config)}
    return _plain(config, attention, {}, tied=False)


def hyperclovax(config: Config) -> Model:
    """Granite, in larger models with a second norm after each block: HyperCLOVA X."""
    norms = 2 if config.flag("use_post_norm", default=False) else 1
    return _plain(config, {"norms": norms, **biased(config)}, {"norms": norms}, tied=False)


def apertus(config: Config) -> Model:
    """Norms on queries and keys, and a plain MLP whose activation, xIELU, is learned: Apertus."""
    config.expect(hidden_act="xielu", qk_norm=True, post_norm=False)
    attention = {"query_key_norm": "head", **biased(config)}
    return _plain(config, attention, {"gated": False, "learned": 2}, tied=False)


def internlm2(config: Config) -> Model:
    """Llama with biases in attention or nowhere: InternLM, InternLM 2 and 2.5."""
    first = config.get("model_type") == "internlm"
    return _plain(config, biased(config, "bias", default=first), {"bias": False}, tied=False)


def internlm3(config: Config) -> Model:
    """Llama whose biases on Q, K and V have a field of their own: InternLM 3."""
    bias = config.flag("bias", "mlp_bias", default=False)
    qkv = config.flag("qkv_bias", "attention_bias", default=False)
    attention = {"qkv_bias": qkv, "out_bias": bias}
    return _plain(config, attention, {"bias": bias}, tied=False)


def minicpm(config: Config) -> Model:
    """Llama with a tied LM head and scaled residuals: MiniCPM, and MiniCPM 4.

    The sparse attention that MiniCPM 4 may use on long inputs (InfLLM v2) is left out.
    """
    config.ignore("dim_model_base", "scale_depth", "scale_emb", "sparse_config")
    config.expect(num_experts=0)
    sparse = config.get("sparse_config") is not None
    note = "sparse attention on long inputs (sparse_config) is not modelled: attention is full"
    return _plain(
        config, biased(config), {"bias": False}, tied=True, notes=(note,) if sparse else ()
    )


def minicpm3(config: Config) -> Model:
    """Latent attention with a dense MLP: MiniCPM 3 and Youtu-LLM."""
    config.ignore("dim_model_base", "scale_depth", "scale_emb")
    config.expect(attention_bias=False)
    return model_of(config, latent_of(config), (mlp_of(config), config.layers), tied=True)


def exaone(config: Config) -> Model:
    """Llama with the field names of GPT-2: EXAONE 3 and 3.5."""
    return _plain(config, {}, {}, tied=False)


def olmo(config: Config) -> Model:
    """Llama whose norms have no parameters: OLMo."""
    attention = {"norm": Norm.PLAIN, **biased(config)}
    return _plain(config, attention, {"norm": Norm.PLAIN}, tied=False, norm=Norm.PLAIN)


def nanochat(config: Config) -> Model:
    """OLMo with a plain MLP, and with norms on queries and keys without parameters: nanochat."""
    bias = config.flag("attention_bias", default=False)
    attention = {"norm": Norm.PLAIN, "qkv_bias": bias, "out_bias": bias}
    mlp = {"norm": Norm.PLAIN, "gated": False, "bias": False}
    return _plain(config, attention, mlp, tied=False, norm=Norm.PLAIN)


def jais2(config: Config) -> Model:
    """Layer norms, biases everywhere, and a plain MLP with squared ReLU: Jais 2."""
    attention = {"norm": Norm.LAYER, **biased(config, default=True)}
    mlp = {
        "norm": Norm.LAYER,
        "gated": False,
        "bias": config.flag("mlp_bias", default=True),
    }
    return _plain(config, attention, mlp, tied=False, norm=Norm.LAYER)


def orion(config: Config) -> Model:
    """Llama with layer norms: Orion."""
    attention = {"norm": Norm.LAYER, **biased(config)}
    return _plain(config, attention, {"norm": Norm.LAYER}, tied=False, norm=Norm.LAYER)


def stablelm(config: Config) -> Model:
    """Llama with layer norms, in the 12B model with MLPs in parallel: StableLM.

    The 12B model also has norms on queries and keys, each head's with parameters of its own.
    """
    parallel = config.flag("use_parallel_residual", default=False)
    normed = config.flag("qk_layernorm", default=False)
    attention = {
        "norm": Norm.LAYER,
        "qkv_bias": config.flag("use_qkv_bias", default=False),
        "query_key_norm": "all" if normed else None,
        "reduces": not parallel,
    }
    mlp = {"norm": None if parallel else Norm.LAYER, "bias": False}
    return _plain(config, attention, mlp, tied=False, norm=Norm.LAYER)


def phi3small(config: Config) -> Model:
    """Layer norms, biases everywhere and a gated MLP, with a tied LM head: Phi-3-small.

    Its block-sparse attention in every other layer is left out.
    """
    config.ignore("ff_dim_multiplier", "dummy_token_indices", "gegelu_pad_to_256")
    config.ignore("rope_embedding_base", "attention_bias")
    notes = ()
    if config.get("dense_attention_every_n_layers", default=1) != 1:
        notes = ("block-sparse attention (dense_attention_every_n_layers) is modelled as full",)
    config.ignore("blocksparse_block_size", "blocksparse_num_local_blocks")
    config.ignore("blocksparse_vert_stride", "blocksparse_homo_head_pattern")
    config.ignore("blocksparse_triton_kernel_block_size")
    attention = {"norm": Norm.LAYER, "qkv_bias": True, "out_bias": True}
    width = config.number("ff_intermediate_size", "intermediate_size")
    mlp = {"norm": Norm.LAYER, "bias": True, "intermediate": width}
    return _plain(config, attention, mlp, tied=True, norm=Norm.LAYER, notes=notes)


def glm(config: Config) -> Model:
    """Llama with biases on Q, K and V: GLM-4."""
    return _glm(config, 1)


def glm4(config: Config) -> Model:
    """GLM with a second norm after each block: GLM-4-0414."""
    return _glm(config, 2)


def _glm(config: Config, norms: int) -> Model:
    """GLM with this many norms around each block."""
    config = config.with_defaults(head_dim=128)
    bias = config.flag("attention_bias", default=False)
    attention = {"norms": norms, "qkv_bias": bias}
    return _plain(config, attention, {"norms": norms, "bias": False}, tied=False)


def chatglm(config: Config) -> Model:
    """GLM with field names of its own: ChatGLM 2 and 3, GLM-4-9B."""
    config.expect(rmsnorm=True, post_layer_norm=True, original_rope=True, interleaved_qkv=False)
    config.expect(apply_residual_connection_post_layernorm=False, pre_seq_len=0)
    config = config.calling(
        vocab_size="padded_vocab_size",
        head_dim="kv_channels",
        intermediate_size="ffn_hidden_size",
    )
    grouped = config.flag("multi_query_attention", default=True)
    groups = config.count("multi_query_group_num", default=1)
    bias = config.flag("add_bias_linear", default=False)
    attention = {
        "kv_heads": groups if grouped else config.heads,
        "qkv_bias": bias or config.flag("add_qkv_bias", default=False),
        "out_bias": bias,
    }
    return _plain(config, attention, {"bias": bias}, tied=False)


RELATIVES: dict[str, Callable[[Config], Model]] = {
    "mimo": mimo,
    "ministral3": mistral,
    "smollm3": smollm3,
    "seed_oss": seed_oss,
    "arcee": arcee,
    "helium": helium,
    "ernie4_5": ernie4_5,
    "hunyuan_v1_dense": hunyuan_v1_dense,
    "hyperclovax": hyperclovax,
    "apertus": apertus,
    "aquila": llama,
    "internlm": internlm2,
    "internlm2": internlm2,
    "internlm3": internlm3,
    "minicpm": minicpm,
    "minicpm3": minicpm3,
    "youtu": minicpm3,
    "exaone": exaone,
    "olmo": olmo,
    "nanochat": nanochat,
    "jais2": jais2,
    "orion": orion,
    "stablelm": stablelm,
    "phi3small": phi3small,
    "glm": glm,
    "glm4": glm4,
    "chatglm": chatglm,
    "qwen2_vl": qwen2,
    "qwen2_5_omni_text": qwen2,
    "qwen3_omni_moe_text": qwen3_moe,
}
"""The function that reads each `model_type`."""
