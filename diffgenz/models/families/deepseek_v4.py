"""DeepSeek-V4: compressed attention, hyper-connections, and experts in every layer."""

from diffgenz.core.errors import InputError
from diffgenz.models.assembly import Layers, model_with
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.compressed_attention import CompressedAttention, Compressor
from diffgenz.models.blocks.hyper_connection import HyperConnection
from diffgenz.models.blocks.latent_attention import Indexer
from diffgenz.models.config import Config
from diffgenz.models.families.moe import experts_of, shared_of
from diffgenz.models.model import Model, Repeated

KINDS = {
    "sliding_attention": 0,
    "compressed_sparse_attention": 4,
    "heavily_compressed_attention": 128,
}
"""The kinds of attention, and the tokens that an entry of each stands for."""

NOTES = ("pipeline stages are taken to hand on one residual stream of several (hyper-connections)",)


def deepseek_v4(config: Config) -> Model:
    """DeepSeek-V4: V4-Flash and V4-Pro.

    Layers see a window of tokens and entries of 4 tokens each, of which an indexer picks some, or
    all entries of 128 tokens each, or the window alone. The experts of the first `num_hash_layers`
    layers follow from the token; tables of them are not counted.
    """
    config = config.with_defaults(num_hash_layers=3) if _is_bare(config) else config
    config.expect(num_key_value_heads=1, attention_bias=False, mlp_bias=False)
    config.ignore("qk_rope_head_dim", "expert_dtype", "hc_sinkhorn_iters", "hc_eps")
    width, ratios = config.number("head_dim"), _ratios(config)
    hashed = _hashed(config)
    moe = experts_of(config, shared=shared_of(config), router_bias=True)
    streams = config.count("hc_mult")
    mixers: list[tuple[Block, Layers]] = []
    for ratio in sorted(set(ratios), reverse=True):
        attention = CompressedAttention(
            heads=config.heads,
            head_dim=width,
            query_rank=config.number("q_lora_rank"),
            out_groups=config.number("o_groups"),
            out_rank=config.number("o_lora_rank"),
            window=config.number("sliding_window"),
            compressor=_compressor(config, ratio),
        )
        mixers.append((attention, [at for at, each in enumerate(ratios) if each == ratio]))
    config.ignore("index_n_heads", "index_head_dim", "index_topk")
    connection = Repeated(
        HyperConnection(streams=streams), 2.0 * config.layers, at=tuple(range(config.layers))
    )
    model = model_with(
        config,
        *mixers,
        (moe.replace(router_bias=False), hashed),
        (moe, config.others(hashed)),
        tied=False,
        notes=NOTES,
    )
    last = Repeated(HyperConnection(streams=streams, last=True), 1.0)
    return model.replace(blocks=(connection, last, *model.blocks))


def _is_bare(config: Config) -> bool:
    """Whether a file says nothing of hash layers, so that the class's default holds."""
    return config.get("num_hash_layers") is None and config.get("mlp_layer_types") is None


def _compressor(config: Config, ratio: int) -> Compressor | None:
    """The compressor of layers whose entries stand for `ratio` tokens; None for 0."""
    if ratio == 0:
        return None
    if ratio != _rates(config)["compressed_sparse_attention"]:
        return Compressor(ratio)
    indexer = Indexer(
        config.number("index_n_heads"),
        config.number("index_head_dim"),
        config.number("index_topk"),
    )
    return Compressor(ratio, indexer)


def _rates(config: Config) -> dict[str, int]:
    """The tokens that an entry of each kind of attention stands for."""
    if config.get("compress_rates") is None:
        return KINDS
    section = config.section("compress_rates")
    return {kind: section.count(kind, default=rate) if rate else 0 for kind, rate in KINDS.items()}


def _ratios(config: Config) -> list[int]:
    """The tokens that an entry stands for in each layer, in either spelling; 0 for the window.

    Raises:
        InputError: a list has the wrong length or an unknown kind, or the two contradict.
    """
    rates, key = _rates(config), "compress_ratios"
    found: list[list[int]] = []
    split = config.split("layer_types", *KINDS)
    if split is not None:
        kind_of = {
            layer: kind for kind, layers in zip(KINDS, split, strict=True) for layer in layers
        }
        found.append([rates[kind_of[layer]] for layer in range(config.layers)])
    spelt = config.get(key)
    if spelt is not None:
        more = config.count("num_nextn_predict_layers", default=0, least=0)
        if isinstance(spelt, list) and len(spelt) == config.layers + more:
            spelt = spelt[: config.layers]
        listed = config.revised(**{key: spelt}).split(key, *rates.values())
        assert listed is not None
        found.append([int(each) for each in spelt])
    if not found:
        raise config.lacks(key, "layer_types")
    if found[0] != found[-1]:
        raise InputError(f"{config.name}: {key}: contradicts layer_types; remove one")
    return found[0]


def _hashed(config: Config) -> tuple[int, ...]:
    """The layers whose experts follow from the token.

    Raises:
        InputError: the list has the wrong length or an unknown kind, or contradicts their number.
    """
    key = "num_hash_layers"
    split = config.split("mlp_layer_types", "hash_moe", "moe")
    count = config.count(key, default=0, least=0)
    first = tuple(range(min(count, config.layers)))
    if split is None:
        return first
    if config.get(key) is not None and split[0] != first:
        raise InputError(
            f"{config.name}: {key}: {count} contradicts mlp_layer_types, which has "
            f"{len(split[0])} layers of hash_moe; remove one"
        )
    return split[0]
