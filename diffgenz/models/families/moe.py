"""Mixture-of-experts families, one function each, as in `families.dense`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.models.assembly import Layers, attention_of, model_of, windowed_layers
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.moe import MoE
from diffgenz.models.blocks.norm import Norm
from diffgenz.models.config import Config
from diffgenz.models.model import Model

ROUTED = ("num_local_experts", "num_experts", "n_routed_experts")
"""What files call the routed experts of a layer."""

USED = (
    *("num_experts_per_tok", "num_experts_per_token", "experts_per_token"),
    *("moe_top_k", "moe_topk"),
)
"""What files call the routed experts that each token uses."""


def experts_of(config: Config, **differences: Any) -> MoE:
    """A mixture of experts whose sizes have the names that most families give them.

    Arguments:
        config: the facts.
        differences: fields of `MoE` in which the family differs.
    """
    facts: dict[str, Any] = {
        fact: config.number(*keys)
        for fact, keys in (("routed", ROUTED), ("used", USED))
        if fact not in differences
    }
    if "intermediate" not in differences:
        config.ignore("intermediate_size")  # of dense layers, where there are any
        own = config.get("moe_intermediate_size") is not None
        width = config.number("moe_intermediate_size" if own else "intermediate_size")
        facts["intermediate"] = width
    if {"routed", "used"} <= set(facts) and facts["used"] > facts["routed"]:
        raise InputError(
            f"{config.name}: {config.stated(*USED)}: {facts['used']} exceeds "
            f"{config.stated(*ROUTED)}, {facts['routed']}; correct one of them"
        )
    facts |= _limit_of(config)
    return MoE(**(facts | differences))


def _limit_of(config: Config) -> dict[str, int]:
    """The groups of experts, and how many of them a token goes to; nothing where it may to all."""
    groups = config.count("n_group", "num_expert_group", default=1, least=0)
    used = config.count("topk_group", default=groups, least=0)
    if used > max(groups, 1):
        raise InputError(
            f"{config.name}: topk_group: {used} exceeds n_group, {groups}; correct one of them"
        )
    if config.get("topk_method") in ("greedy", "gready") or used in (0, groups) or groups < 2:
        return {}
    return {"groups": groups, "groups_used": used}


def shared_of(config: Config) -> MLP | None:
    """The shared experts of DeepSeek and its relatives: one MLP as wide as all of them.

    None where there are none.
    """
    count = config.count("n_shared_experts", "num_shared_experts", default=0, least=0)
    return (
        MLP(intermediate=count * config.number("moe_intermediate_size"), norm=None, reduces=False)
        if count
        else None
    )


def sparse_of(config: Config, moe: MoE) -> tuple[tuple[Block, Layers], ...]:
    """(block, layers) of experts and of dense MLPs, as Qwen's files lay them out.

    Every `decoder_sparse_step`-th layer has experts, except for those in `mlp_only_layers`. The
    others have a dense MLP.

    Arguments:
        config: the facts.
        moe: the block of experts.

    Raises:
        InputError: `mlp_only_layers` is not a list.
    """
    step, dense_only = (
        config.count("decoder_sparse_step", default=1),
        config.get("mlp_only_layers", default=[]),
    )
    if not isinstance(dense_only, list):
        raise InputError(f"{config.name}: mlp_only_layers: {dense_only!r} is not a list of layers")
    sparse = [
        layer
        for layer in range(config.layers)
        if (layer + 1) % step == 0 and layer not in dense_only
    ]
    return with_dense(config, moe, sparse)


def with_dense(config: Config, moe: MoE, sparse: Sequence[int]) -> tuple[tuple[Block, Layers], ...]:
    """(block, layers) of experts in the layers `sparse`, and of dense MLPs in all others."""
    if len(sparse) == config.layers:
        config.ignore("intermediate_size")
        return ((moe, sparse),)
    return (MLP(intermediate=config.number("intermediate_size")), config.others(sparse)), (
        moe,
        sparse,
    )


def first_dense_of(config: Config, moe: MoE) -> tuple[tuple[Block, Layers], ...]:
    """(block, layers) of dense MLPs and of experts, where the first layers are dense.

    Arguments:
        config: the facts, as in `sparse_layers`.
        moe: the block of experts.
    """
    return with_dense(config, moe, sparse_layers(config))


def sparse_layers(config: Config) -> tuple[int, ...]:
    """The layers that have experts, as DeepSeek's files and those of its relatives say.

    They list them ("sparse" in `mlp_layer_types`, 1 in `moe_layer_freq`), or they say that
    the first `first_k_dense_replace` layers are dense and every `moe_layer_freq`-th other has
    experts.

    Raises:
        InputError: a list has the wrong length or an unknown kind, or two of these contradict each
            other.
    """
    key, period = "moe_layer_freq", 1
    found: dict[str, tuple[int, ...]] = {}
    if isinstance(config.get(key), list):
        found[key] = listed(config, key, 0, 1)[1]
    else:
        period = config.count(key, default=1)
    if config.get("mlp_layer_types") is not None:
        found["mlp_layer_types"] = listed(config, "mlp_layer_types", "dense", "sparse")[1]
    key = "first_k_dense_replace"
    if config.get(key) is not None or not found:
        first = config.count(key, default=0, least=0)
        found[key] = tuple(layer for layer in range(first, config.layers) if layer % period == 0)
    (first, layers), *others = found.items()
    for other, different in others:
        if different != layers:
            raise InputError(
                f"{config.name}: {first} contradicts {other}: they give experts to "
                f"{len(layers)} and {len(different)} layers; remove one"
            )
    return layers


def listed(config: Config, key: str, *kinds: Any) -> tuple[tuple[int, ...], ...]:
    """The layers of each of these kinds, as `Config.split` reads a list that must be there.

    Raises:
        InputError: there is no list under `key`, or as in `Config.split`.
    """
    layers = config.split(key, *kinds)
    if layers is None:
        raise config.lacks(key)
    return layers


def overrides(config: Config, layers: Sequence[int], **names: str) -> dict[str, int | float]:
    """What `per_layer_config` says of these layers, as newer files of transformers write it.

    It is empty where the file has no such field.

    Arguments:
        config: the facts.
        layers: the layers of which it may say something, and the same of all.
        names: the field of each fact in an entry.

    Raises:
        InputError: it says something of other layers, different things of these, or other facts.
    """
    key = "per_layer_config"
    entries = config.get(key, default={})
    if not isinstance(entries, Mapping):
        raise InputError(f"{config.name}: {key}: {entries!r} is not an object of layers")
    if not entries:
        return {}
    first = next(iter(entries.values()))
    named = {int(layer) if layer.isdecimal() else -1 for layer in entries}
    same = isinstance(first, Mapping) and all(each == first for each in entries.values())
    if not same or named != set(layers) or set(first) - set(names.values()):
        raise config.not_modelled(key)
    entry = Config(f"{config.name}: {key}", first)
    return {fact: entry.number(field) for fact, field in names.items() if field in first}


def unwindowed(config: Config) -> None:
    """Refuse a file that switches sliding windows on, in families whose engines know none."""
    config.expect(use_sliding_window=False)
    config.ignore("sliding_window", "max_window_layers")


def mixtral(config: Config) -> Model:
    """Mistral with eight experts in the place of its MLP: Mixtral."""
    window = config.window()
    windowed = range(config.layers) if window else ()
    return model_of(
        config,
        attention_of(config),
        (experts_of(config), config.layers),
        tied=False,
        windowed=windowed,
        window=window,
    )


def grok(config: Config) -> Model:
    """Norms before and after each block, with a tied LM head: Grok-1."""
    return model_of(
        config,
        attention_of(config, norms=2),
        (experts_of(config, norms=2), config.layers),
        tied=True,
    )


def dbrx(config: Config) -> Model:
    """DBRX: sixteen experts and layer norms without biases.

    Its config.json nests the facts of attention and of the experts.
    """
    attention, experts = config.section("attn_config"), config.section("ffn_config")
    moe = MoE(
        routed=experts.number("moe_num_experts"),
        used=experts.number("moe_top_k"),
        intermediate=experts.number("ffn_hidden_size"),
        norm=Norm.SCALE_ONLY,
    )
    mixer = attention_of(config, kv_heads=attention.number("kv_n_heads"), norm=Norm.SCALE_ONLY)
    return model_of(config, mixer, (moe, config.layers), tied=False, norm=Norm.SCALE_ONLY)


def phimoe(config: Config) -> Model:
    """Layer norms, and biases in attention and LM head: Phi-3.5-MoE."""
    bias = config.flag("attention_bias", default=True)
    attention = attention_of(config, norm=Norm.LAYER, qkv_bias=bias, out_bias=bias)
    window = config.window()
    return model_of(
        config,
        attention,
        (experts_of(config, norm=Norm.LAYER), config.layers),
        tied=False,
        norm=Norm.LAYER,
        head_bias=config.flag("lm_head_bias", default=True),
        windowed=range(config.layers) if window else (),
        window=window,
    )


def qwen2_moe(config: Config) -> Model:
    """Qwen 2 with routed experts and a shared one behind a gate."""
    shared = MLP(
        intermediate=config.number("shared_expert_intermediate_size"), norm=None, reduces=False
    )
    moe = experts_of(config, shared=shared, shared_gate=True)
    unwindowed(config)
    attention = attention_of(config, qkv_bias=config.flag("qkv_bias", default=True))
    return model_of(config, attention, *sparse_of(config, moe), tied=False)


def qwen3_moe(config: Config) -> Model:
    """Qwen 3 with experts in some or all layers, as in `sparse_of`."""
    unwindowed(config)
    config.expect(use_qk_norm=True)
    bias = config.flag("attention_bias", default=False)
    return model_of(
        config,
        attention_of(config, query_key_norm="head", qkv_bias=bias, out_bias=bias),
        *sparse_of(config, experts_of(config)),
        tied=False,
    )


def olmoe(config: Config) -> Model:
    """Experts, and norms over all heads of queries and of keys: OLMoE."""
    return model_of(
        config,
        attention_of(config, query_key_norm="all"),
        (experts_of(config), config.layers),
        tied=False,
    )


def minimax_m2(config: Config) -> Model:
    """OLMoE with a bias per expert in the router: MiniMax M2."""
    config.expect(use_qk_norm=True, qk_norm_type="per_layer", attn_type_list=[1] * config.layers)
    config.expect(use_routing_bias=True)
    moe = experts_of(config, router_bias=True)
    return model_of(
        config, attention_of(config, query_key_norm="all"), (moe, config.layers), tied=False
    )


def deepseek(config: Config) -> Model:
    """DeepSeek-MoE: plain attention, shared experts and a dense first layer."""
    return model_of(
        config,
        attention_of(config),
        *first_dense_of(config, experts_of(config, shared=shared_of(config))),
        tied=False,
    )


def glm4_moe(config: Config) -> Model:
    """GLM-4.5: biases on Q, K and V, and experts as in DeepSeek-V3.

    The large model also has norms on queries and keys.
    """
    norms = "head" if config.flag("use_qk_norm", default=False) else None
    attention = attention_of(
        config, qkv_bias=config.flag("attention_bias", default=False), query_key_norm=norms
    )
    moe = experts_of(config, shared=shared_of(config), router_bias=True)
    return model_of(config, attention, *first_dense_of(config, moe), tied=False)


def gpt_oss(config: Config) -> Model:
    """Biases everywhere, attention sinks and a window on every other layer: gpt-oss."""
    bias = config.flag("attention_bias", default=True)
    attention = attention_of(config, qkv_bias=bias, out_bias=bias, sinks=True)
    windowed = windowed_layers(config, range(0, config.layers, 2))
    moe = experts_of(config, bias=True, router_bias=True)
    return model_of(
        config,
        attention,
        (moe, config.layers),
        tied=False,
        windowed=windowed,
        window=config.number("sliding_window", default=128),
    )


def llama4(config: Config) -> Model:
    """Llama 4: experts in some layers, and attention in chunks in three layers of four.

    Each token goes to one routed and one shared expert in every `interleave_moe_layer_step`-th
    layer. A chunk is modelled as a window of its size. That is exact up to one chunk of context,
    and an upper bound beyond.
    """
    step = config.count("interleave_moe_layer_step", default=1)
    sparse = range(step - 1, config.layers, step)
    width = config.number("intermediate_size")
    moe = experts_of(config, shared=MLP(intermediate=width, norm=None, reduces=False))
    dense = MLP(intermediate=config.number("intermediate_size_mlp"))
    period = config.count("no_rope_layer_interval", default=4)
    chunked = config.others(range(period - 1, config.layers, period))
    chunk = config.number("attention_chunk_size", default=8192)
    config.ignore("use_qk_norm")  # norms without parameters
    return model_of(
        config,
        attention_of(config),
        (dense, config.others(sparse)),
        (moe, sparse),
        tied=False,
        windowed=chunked,
        window=chunk,
    )


MOE: dict[str, Callable[[Config], Model]] = {
    "mixtral": mixtral,
    "grok-1": grok,
    "dbrx": dbrx,
    "phimoe": phimoe,
    "qwen2_moe": qwen2_moe,
    "qwen3_moe": qwen3_moe,
    "qwen3_vl_moe": qwen3_moe,
    "olmoe": olmoe,
    "flex_olmo": olmoe,
    "minimax_m2": minimax_m2,
    "deepseek": deepseek,
    "glm4_moe": glm4_moe,
    "gpt_oss": gpt_oss,
    "llama4_text": llama4,
}
"""The function that reads each `model_type`."""
