"""Families with multi-head latent attention: DeepSeek-V2, V3 and their relatives."""

from collections.abc import Callable
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.models.assembly import Layers, model_with
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.latent_attention import Indexer, LatentAttention
from diffgenz.models.blocks.moe import MoE
from diffgenz.models.config import Config
from diffgenz.models.families.moe import experts_of, first_dense_of, listed, shared_of
from diffgenz.models.model import Model


def latent_of(config: Config, **differences: Any) -> LatentAttention:
    """Latent attention whose sizes have the names that DeepSeek and its relatives give them.

    It has an indexer where the config has `index_topk`.

    Arguments:
        config: the facts.
        differences: fields of `LatentAttention` in which the family differs.
    """
    config.ignore("num_key_value_heads", "head_dim", "qk_head_dim")  # follow from the others
    indexer = None
    if config.get("index_topk") is not None:
        indexer = Indexer(
            config.number("index_n_heads"),
            config.number("index_head_dim"),
            config.number("index_topk"),
        )
    facts: dict[str, Any] = {
        "heads": config.heads,
        "latent": config.number("kv_lora_rank"),
        "nope_dim": config.number("qk_nope_head_dim"),
        "rope_dim": config.number("qk_rope_head_dim"),
        "value_dim": config.number("v_head_dim"),
        "query_rank": None if config.get("q_lora_rank") is None else config.number("q_lora_rank"),
        "indexer": indexer,
    }
    return LatentAttention(**(facts | differences))


def deepseek_v2(config: Config) -> Model:
    """DeepSeek-V2: latent attention and shared experts."""
    return _latent(config, experts_of(config, shared=shared_of(config)))


def deepseek_v3(config: Config) -> Model:
    """DeepSeek-V2 with a bias per expert in the router: V3, R1, Kimi-K2, GLM-4.7-Flash.

    V3.2 and GLM-5 have an indexer, too, and in GLM-5.2 some layers take the picks of the last
    layer before them that has one.
    """
    moe = experts_of(config, shared=shared_of(config), router_bias=True)
    return _latent(config, moe)


def glm4_moe_lite(config: Config) -> Model:
    """DeepSeek-V3 with a dense first layer: GLM-4.7-Flash."""
    if config.get("mlp_layer_types") is None:
        config = config.with_defaults(first_k_dense_replace=1)
    return deepseek_v3(config)


def _latent(config: Config, moe: MoE) -> Model:
    """Latent attention in every layer, and these experts in all but the first ones."""
    attention = latent_of(config)
    config.ignore("layer_types")  # all of them have the attention that the sizes say
    layers: tuple[tuple[Block, Layers], ...] = ((attention, config.layers),)
    reusing = _reusing(config) if attention.indexer is not None else ()
    if attention.indexer is not None and reusing:
        without = attention.replace(indexer=attention.indexer.replace(reuses=True))
        layers = ((without, reusing), (attention, config.others(reusing)))
    return model_with(config, *layers, *first_dense_of(config, moe), tied=False)


def _reusing(config: Config) -> tuple[int, ...]:
    """The layers without an indexer of their own: GLM-5.2 lists them, or says how often one has.

    Raises:
        InputError: the list has the wrong length or an unknown kind, or begins without an indexer,
            or contradicts the period.
    """
    keys = ("index_topk_freq", "index_skip_topk_offset")
    period, offset = config.count(keys[0], default=1), config.count(keys[1], default=2, least=0)
    config.ignore("index_share_for_mtp_iteration")
    spelt = tuple(each for each in range(config.layers) if max(each - offset + 1, 0) % period)
    pattern = config.get("index_topk_pattern")
    if pattern is not None:
        raise config.not_modelled("index_topk_pattern")
    if config.get("indexer_types") is None:
        return spelt
    shared = listed(config, "indexer_types", "full", "shared")[1]
    if 0 in shared:
        raise InputError(
            f"{config.name}: indexer_types: its first layer is 'shared'; it must be 'full', since "
            "there is no indexer before it"
        )
    if config.get(keys[0]) is not None and shared != spelt:
        raise InputError(
            f"{config.name}: indexer_types contradicts {keys[0]}, {period}; remove one"
        )
    return shared


LATENT: dict[str, Callable[[Config], Model]] = {
    "deepseek_v2": deepseek_v2,
    "deepseek_v3": deepseek_v3,
    "deepseek_v32": deepseek_v3,
    "kimi_k2": deepseek_v3,
    "glm4_moe_lite": glm4_moe_lite,
    "glm_moe_dsa": deepseek_v3,
}
"""The function that reads each `model_type`."""
