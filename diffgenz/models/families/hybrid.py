"""State-space and linear-attention families, one function each, as in `families.dense`.

Some are pure, others have attention in between.
"""

import math
from collections.abc import Callable

from diffgenz.core.errors import InputError
from diffgenz.models.assembly import Layers, attention_of, model_with
from diffgenz.models.blocks.adapter import Adapter
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.linear_attention import GatedDeltaNet, KimiDeltaAttention
from diffgenz.models.blocks.mamba import Mamba, Mamba2
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.moe import MoE
from diffgenz.models.config import Config
from diffgenz.models.families.latent import latent_of
from diffgenz.models.families.moe import experts_of, first_dense_of, shared_of, sparse_of
from diffgenz.models.families.nemotron import nemotron_h
from diffgenz.models.model import Model, Repeated


def _rank(config: Config, key: str) -> int | float:
    """Width of the compressed time step; "auto" is 1/16 of the model's width, rounded up."""
    return (
        math.ceil(config.hidden / 16)
        if config.get(key, default="auto") == "auto"
        else config.number(key)
    )


def _mamba(config: Config, state_norms: str | None) -> Mamba:
    """The Mamba-1 block of a config, with `state_norms` as in `Mamba`."""
    config.expect(rms_norm=True)
    config.ignore("pad_vocab_size_multiple")  # vocab_size is padded
    expanded = config.number("expand", default=2, fraction=True) * config.hidden
    return Mamba(
        inner=config.number("intermediate_size", "d_inner", default=expanded),
        state=config.number("state_size", default=16),
        rank=_rank(config, "time_step_rank"),
        width=config.number("conv_kernel", default=4),
        bias=config.flag("use_bias", default=False),
        conv_bias=config.flag("use_conv_bias", default=True),
        state_norms=state_norms,
    )


def mamba(config: Config) -> Model:
    """Only Mamba-1 blocks, with a tied LM head: Mamba."""
    return model_with(config, (_mamba(config, None), config.layers), tied=True)


def falcon_mamba(config: Config) -> Model:
    """Mamba with norms without parameters on B, C and the time step: Falcon Mamba."""
    return model_with(config, (_mamba(config, "plain"), config.layers), tied=True)


def mamba2(config: Config) -> Model:
    """Only Mamba-2 blocks: Codestral Mamba."""
    config.ignore("intermediate_size", "d_inner", "time_step_rank")  # follow from the others
    config.ignore("pad_vocab_size_multiple")  # vocab_size is padded
    config.expect(norm_before_gate=True, rms_norm=True)
    heads, head_dim = config.number("num_heads"), config.number("head_dim")
    expanded(config, "expand", heads * head_dim)
    block = Mamba2(
        heads=heads,
        head_dim=head_dim,
        groups=config.number("n_groups"),
        state=config.number("state_size"),
        width=config.number("conv_kernel", default=4),
        chunk=config.number("chunk_size", default=256),
        bias=config.flag("use_bias", default=False),
        conv_bias=config.flag("use_conv_bias", default=True),
    )
    return model_with(config, (block, config.layers), tied=False)


def expanded(config: Config, key: str, inner: float) -> None:
    """Refuse a file whose expansion of the model's width contradicts the mixer's heads.

    Arguments:
        config: the facts.
        key: the field of the expansion, which may be missing.
        inner: heads x their width.

    Raises:
        InputError: both are stated, and contradict each other.
    """
    if config.get(key) is not None and config.number(key) * config.hidden != inner:
        raise InputError(
            f"{config.name}: {key}: {config.get(key)!r} x {config.hidden!r} (hidden_size) "
            f"contradicts the mixer's heads, which are {inner!r} wide together"
        )


def jamba(config: Config) -> Model:
    """Jamba: Mamba-1 with some layers of attention, and some of experts.

    Every `attn_layer_period`-th layer has attention without positions in the place of Mamba, and
    every `expert_layer_period`-th has experts in the place of the MLP.
    """
    full, routed = _every(config, "attn_layer", 8, 4), config.number("num_experts", default=16)
    sparse = _every(config, "expert_layer", 2, 1) if routed > 1 else ()
    mixer = Mamba(
        inner=config.number("mamba_expand", default=2, fraction=True) * config.hidden,
        state=config.number("mamba_d_state", default=16),
        rank=_rank(config, "mamba_dt_rank"),
        width=config.number("mamba_d_conv", default=4),
        bias=config.flag("mamba_proj_bias", default=False),
        conv_bias=config.flag("mamba_conv_bias", default=True),
        state_norms="scaled",
    )
    config.expect(mamba_inner_layernorms=True)
    width = config.number("intermediate_size")
    blocks: list[tuple[Block, Layers]] = [
        (mixer, config.others(full)),
        (attention_of(config, rotary=False), full),
        (MLP(intermediate=width), config.others(sparse)),
    ]
    if sparse:
        blocks.append(
            (
                MoE(
                    routed=routed,
                    used=config.number("num_experts_per_tok", default=2),
                    intermediate=width,
                ),
                sparse,
            )
        )
    return model_with(config, *blocks, tied=False)


def _every(config: Config, what: str, period: int, offset: int) -> tuple[int, ...]:
    """The layers whose index modulo a period is an offset.

    Arguments:
        config: the facts, among them `{what}_period` and `{what}_offset`.
        what: what those layers have: "attn_layer" or "expert_layer".
        period: the period where the file says nothing.
        offset: the offset where the file says nothing.
    """
    period, offset = (
        config.count(f"{what}_period", default=period),
        config.count(f"{what}_offset", default=offset, least=0),
    )
    return tuple(layer for layer in range(config.layers) if layer % period == offset)


def granite_hybrid(config: Config) -> Model:
    """Granite 4: Mamba-2 and attention, which is mostly without positions.

    They are followed by experts beside a shared MLP, or by that MLP alone.
    """
    full, bias = (
        config.where("attention", "layer_types"),
        config.flag("attention_bias", default=False),
    )
    if full is None:
        raise config.lacks("layer_types")
    config.expect(normalization_function="rmsnorm")
    rotary = config.get("position_embedding_type") == "rope"
    blocks: list[tuple[Block, Layers]] = [
        (attention_of(config, rotary=rotary, qkv_bias=bias, out_bias=bias), full)
    ]
    if len(full) < config.layers:
        blocks.insert(0, (_granite_mamba(config), config.others(full)))
    width = config.number("shared_intermediate_size")
    if config.count("num_local_experts", default=0, least=0):
        blocks.append(
            (
                experts_of(config, shared=MLP(intermediate=width, norm=None, reduces=False)),
                config.layers,
            )
        )
    else:
        config.ignore("intermediate_size", "num_experts_per_tok")  # of the experts
        blocks.append((MLP(intermediate=width), config.layers))
    return model_with(config, *blocks, tied=False)


def _granite_mamba(config: Config) -> Mamba2:
    """The Mamba-2 block of Granite 4."""
    heads, head_dim = config.number("mamba_n_heads"), config.number("mamba_d_head")
    expanded(config, "mamba_expand", heads * head_dim)
    return Mamba2(
        heads=heads,
        head_dim=head_dim,
        groups=config.number("mamba_n_groups", default=1),
        state=config.number("mamba_d_state"),
        width=config.number("mamba_d_conv", default=4),
        chunk=config.number("mamba_chunk_size", default=256),
        bias=config.flag("mamba_proj_bias", default=False),
        conv_bias=config.flag("mamba_conv_bias", default=True),
    )


def zamba2(config: Config) -> Model:
    """Zamba2: Mamba-2 in every layer, with shared blocks at some depths.

    A few shared blocks of attention and MLP take turns at these depths, and each use of one has an
    adapter of its own.
    """
    depths = config.get("hybrid_layer_ids", default=config.where("hybrid", "layers_block_type"))
    if not isinstance(depths, list | tuple) or not depths:
        raise config.lacks("hybrid_layer_ids")
    config.expect(use_shared_attention_adapter=False, add_bias_linear=False)
    config.expect(attention_hidden_size=2 * config.hidden)
    config.ignore("kv_channels", "use_shared_mlp_adapter", "num_query_groups")
    heads, head_dim = config.number("n_mamba_heads"), config.number("mamba_headdim")
    expanded(config, "mamba_expand", heads * head_dim)
    mixer = Mamba2(
        heads=heads,
        head_dim=head_dim,
        groups=config.number("mamba_ngroups", default=1),
        state=config.number("mamba_d_state"),
        width=config.number("mamba_d_conv", default=4),
        chunk=config.number("chunk_size", default=256),
        conv_bias=config.flag("use_conv_bias", default=True),
    )
    width, uses, own = (
        config.number("intermediate_size"),
        len(depths),
        config.count("num_mem_blocks", default=1),
    )
    attention = attention_of(
        config,
        head_dim=config.number("attention_head_dim"),
        streams=2,
        rotary=config.flag("use_mem_rope", default=False),
    )
    model = model_with(
        config,
        (mixer, config.layers),
        (Adapter(rank=config.number("adapter_rank"), intermediate=width), depths),
        tied=True,
    )
    shared = tuple(
        Repeated(block, uses, min(own, uses), at=tuple(depths))
        for block in (attention, MLP(intermediate=width))
    )
    return model.replace(blocks=(*model.blocks, *shared))


def qwen3_next(config: Config) -> Model:
    """Qwen3-Next, and Qwen3.5 with experts.

    Gated attention in every fourth layer, gated delta nets in the others, and experts beside a
    gated shared one.
    """
    shared = MLP(
        intermediate=config.number("shared_expert_intermediate_size"), norm=None, reduces=False
    )
    return model_with(
        config,
        *_qwen_mixers(config),
        *sparse_of(config, experts_of(config, shared=shared, shared_gate=True)),
        tied=False,
    )


def qwen3_5(config: Config) -> Model:
    """The mixers of Qwen3-Next with a dense MLP: Qwen3.5."""
    return model_with(
        config,
        *_qwen_mixers(config),
        (MLP(intermediate=config.number("intermediate_size")), config.layers),
        tied=False,
    )


def _qwen_mixers(config: Config) -> tuple[tuple[Block, Layers], ...]:
    """(block, layers) of the gated delta nets and of the gated attention of Qwen3-Next."""
    period = config.count("full_attention_interval", default=4)
    full = config.where("full_attention", "layer_types")
    if full is None:
        full = range(period - 1, config.layers, period)
    linear = GatedDeltaNet(
        key_heads=config.number("linear_num_key_heads"),
        key_dim=config.number("linear_key_head_dim"),
        value_heads=config.number("linear_num_value_heads"),
        value_dim=config.number("linear_value_head_dim"),
        width=config.number("linear_conv_kernel_dim", default=4),
    )
    config.ignore("output_gate_type")  # an activation
    bias = config.flag("attention_bias", default=False)
    attention = attention_of(
        config,
        query_key_norm="head",
        output_gate=config.flag("attn_output_gate", default=True),
        qkv_bias=bias,
        out_bias=bias,
    )
    return (linear, config.others(full)), (attention, full)


def kimi_linear(config: Config) -> Model:
    """Kimi Linear: Kimi delta attention with latent attention in every fourth layer.

    Experts are those of DeepSeek-V3.
    """
    section = config.section("linear_attn_config")
    section.ignore("kda_layers")  # all others
    config.ignore("mla_use_nope")  # positions change no shape
    full = section.get("full_attn_layers")
    if not isinstance(full, list):
        raise config.lacks("linear_attn_config.full_attn_layers")
    full = [layer - 1 for layer in full]  # the file counts from 1
    linear = KimiDeltaAttention(
        heads=section.number("num_heads"),
        head_dim=section.number("head_dim"),
        width=section.number("short_conv_kernel_size", default=4),
    )
    moe = experts_of(config, shared=shared_of(config), router_bias=True)
    return model_with(
        config,
        (linear, config.others(full)),
        (latent_of(config), full),
        *first_dense_of(config, moe),
        tied=False,
    )


HYBRID: dict[str, Callable[[Config], Model]] = {
    "mamba": mamba,
    "falcon_mamba": falcon_mamba,
    "mamba2": mamba2,
    "jamba": jamba,
    "nemotron_h": nemotron_h,
    "granitemoehybrid": granite_hybrid,
    "zamba2": zamba2,
    "qwen3_next": qwen3_next,
    "qwen3_5": qwen3_5,
    "qwen3_5_text": qwen3_5,
    "qwen3_5_moe": qwen3_next,
    "qwen3_5_moe_text": qwen3_next,
    "kimi_linear": kimi_linear,
}
"""The function that reads each `model_type`."""
