"""Further hybrids of attention with recurrences or convolutions, one function each.

See `families.hybrid` for others.
"""

from collections.abc import Callable, Sequence

from diffgenz.core.errors import InputError
from diffgenz.models.assembly import attention_of, biased, mlp_of, model_with
from diffgenz.models.blocks.gated_recurrence import GatedRecurrence
from diffgenz.models.blocks.linear_attention import GatedDeltaNet
from diffgenz.models.blocks.mamba import Mamba2
from diffgenz.models.blocks.short_conv import ShortConv
from diffgenz.models.blocks.side_by_side import SideBySide
from diffgenz.models.config import Config
from diffgenz.models.families.hybrid import expanded
from diffgenz.models.model import Model


def lfm2(config: Config) -> Model:
    """Gated short convolutions, and attention with norms on queries and keys: LFM2."""
    split = config.split("layer_types", "conv", "full_attention")
    if split is not None:
        full = split[1]
        config.ignore("full_attn_idxs")  # says the same
    else:
        full = indices(config, "full_attn_idxs")
    config.expect(block_dim=config.hidden, conv_dim=config.hidden, conv_dim_out=config.hidden)
    config.expect(block_use_swiglu=True)
    config.ignore("block_norm_eps", "block_use_xavier_init", "conv_use_xavier_init", "theta")
    config.ignore("block_mlp_init_scale", "block_out_init_scale", "num_heads")
    conv = ShortConv(
        width=config.number("conv_L_cache", default=3),
        bias=config.flag("conv_bias", default=False),
    )
    return model_with(
        config,
        (conv, config.others(full)),
        (attention_of(config, query_key_norm="head"), full),
        (mlp_of(config, intermediate=_adjusted(config), bias=False), config.layers),
        tied=config.flag("tie_embedding", default=True),
    )


def _adjusted(config: Config) -> float:
    """Width of LFM2's MLP: 2/3 of the stated one, rounded up, where the file says to adjust it.

    As in its class, `block_ff_dim` stands above `intermediate_size`.
    """
    width = config.number("block_ff_dim", default=config.get("intermediate_size"))
    multiple = config.count("block_multiple_of", default=256)
    factor = config.number("block_ffn_dim_multiplier", default=1.0)
    if not config.flag("block_auto_adjust_ff_dim", default=True):
        return width
    return -(-int(factor * int(2 * width / 3)) // multiple) * multiple


def indices(config: Config, key: str) -> list[int]:
    """The layers that `key` lists.

    Raises:
        InputError: it is missing, or no list of layers that the model has.
    """
    listed = config.get(key)
    if listed is None:
        raise config.lacks(key)
    known = range(config.layers)
    if not isinstance(listed, list) or any(
        isinstance(each, bool) or each not in known for each in listed
    ):
        raise InputError(
            f"{config.name}: {key}: {listed!r} must list layers from 0 to {config.layers - 1}"
        )
    return sorted(set(listed))


def falcon_h1(config: Config) -> Model:
    """Attention and Mamba-2 side by side in every layer, before an MLP: Falcon-H1."""
    config.ignore("mamba_norm_before_gate", "mamba_use_mlp", "mlp_multipliers", "ssm_multipliers")
    config.ignore("mlp_expansion_factor", "attn_layer_indices")
    config.expect(mamba_use_mlp=True, attn_layer_indices=None)
    bias = config.flag("mamba_proj_bias", default=False)
    config.expect(projectors_bias=bias)
    inner = config.number("mamba_d_ssm", default=config.number("mamba_n_heads") * head_dim(config))
    if inner != config.number("mamba_n_heads") * head_dim(config):
        raise InputError(
            f"{config.name}: mamba_d_ssm: {inner!r} contradicts mamba_n_heads x mamba_d_head"
        )
    config.ignore("mamba_expand")  # mamba_d_ssm stands above it
    mixer = mamba_of(
        config,
        state=256,
        bias=bias,
        normed=config.flag("mamba_rms_norm", default=False),
        norm=None,
        reduces=False,
    )
    attention = attention_of(config, norm=None, reduces=False, **biased(config))
    block = SideBySide(attention=attention, mixer=mixer)
    return model_with(config, (block, config.layers), (mlp_of(config), config.layers), tied=False)


def head_dim(config: Config) -> float:
    """Channels of a Mamba-2 head: its own field, or what expansion and heads leave ("auto")."""
    if config.get("mamba_d_head", default="auto") == "auto":
        expanded = config.number("mamba_expand", default=2) * config.hidden
        inner = config.number("mamba_d_ssm", default=expanded)
        return inner / config.number("mamba_n_heads")
    return config.number("mamba_d_head")


def mamba_of(config: Config, state: float, **differences: object) -> Mamba2:
    """A Mamba-2 block whose sizes have the names that Bamba and its relatives give them.

    Arguments:
        config: the facts.
        state: width of B and C where the file says nothing.
        differences: fields of `Mamba2` in which the family differs.
    """
    facts = {
        "heads": config.number("mamba_n_heads"),
        "head_dim": head_dim(config),
        "groups": config.number("mamba_n_groups", default=1),
        "state": config.number("mamba_d_state", default=state),
        "width": config.number("mamba_d_conv", default=4),
        "chunk": config.number("mamba_chunk_size", default=256),
        "bias": config.flag("mamba_proj_bias", default=False),
        "conv_bias": config.flag("mamba_conv_bias", default=True),
    }
    return Mamba2(**(facts | differences))  # pyright: ignore[reportArgumentType]


def bamba(config: Config) -> Model:
    """Mamba-2 with attention in the layers `attn_layer_indices`, each before an MLP: Bamba."""
    config.ignore("attn_rotary_emb")  # rotated elements of a head
    stated = config.get("attn_layer_indices") is not None
    full = indices(config, "attn_layer_indices") if stated else []
    expanded(config, "mamba_expand", config.number("mamba_n_heads") * head_dim(config))
    return model_with(
        config,
        (mamba_of(config, state=256), config.others(full)),
        (attention_of(config, **biased(config)), full),
        (mlp_of(config), config.layers),
        tied=False,
    )


def recurrent_gemma(config: Config) -> Model:
    """Griffin: gated recurrences with windowed attention in every third layer, tied LM head.

    `intermediate_size` is that of gate and up projection together.
    """
    config.ignore("w_init_variance_scale", "final_w_init_variance_scale")
    config.ignore("embeddings_scale_by_sqrt_dim")
    recurrent, windowed = _griffin(config)
    attention = attention_of(
        config,
        window=config.number("attention_window_size", default=2048),
        qkv_bias=config.flag("attention_bias", default=False),
        out_bias=True,
    )
    recurrence = GatedRecurrence(
        inner=config.number("lru_width", default=config.hidden),
        heads=config.heads,
        width=config.number("conv1d_width", default=4),
    )
    mlp = mlp_of(config, intermediate=config.number("intermediate_size") // 2, bias=True)
    return model_with(
        config,
        (recurrence, recurrent),
        (attention, windowed),
        (mlp, config.layers),
        tied=True,
    )


def _griffin(config: Config) -> tuple[Sequence[int], Sequence[int]]:
    """The recurrent layers and those with attention: `block_types`, repeated over all layers."""
    kinds = config.get("block_types", "_block_types", default=["recurrent"] * 2 + ["attention"])
    if not isinstance(kinds, list) or not kinds:
        raise InputError(f"{config.name}: block_types: {kinds!r} is not a list of kinds of layers")
    every = [kinds[layer % len(kinds)] for layer in range(config.layers)]
    split = config.split("block_types", "recurrent", "attention", listed=every)
    assert split is not None
    return split[0], split[1]


def olmo_hybrid(config: Config) -> Model:
    """Gated delta nets with OLMo 2's attention in every fourth layer: OLMo Hybrid."""
    split = config.split("layer_types", "linear_attention", "full_attention")
    full = range(3, config.layers, 4) if split is None else split[1]
    config.ignore("linear_allow_neg_eigval", "linear_a_log_min", "linear_a_log_max")
    config.ignore("linear_dt_min", "linear_dt_max", "linear_dt_init_floor")
    config.expect(linear_use_gate=True)
    default = 3 * config.hidden / (4 * config.heads)
    linear = GatedDeltaNet(
        key_heads=config.number("linear_num_key_heads", default=config.heads),
        key_dim=config.number("linear_key_head_dim", default=default),
        value_heads=config.number("linear_num_value_heads", default=config.heads),
        value_dim=config.number("linear_value_head_dim", default=2 * default),
        width=config.number("linear_conv_kernel_dim", default=4),
    )
    attention = attention_of(config, query_key_norm="all", **biased(config))
    return model_with(
        config,
        (linear, config.others(full)),
        (attention, full),
        (mlp_of(config, bias=False), config.layers),
        tied=False,
    )


RECURRENT: dict[str, Callable[[Config], Model]] = {
    "lfm2": lfm2,
    "falcon_h1": falcon_h1,
    "bamba": bamba,
    "recurrent_gemma": recurrent_gemma,
    "olmo_hybrid": olmo_hybrid,
}
"""The function that reads each `model_type`."""
