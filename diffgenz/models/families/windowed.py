"""Families in which some layers see a sliding window and others all tokens, one function each.

As in `families.dense`, a function says only in what its family differs. Gemma's are there.
"""

from collections.abc import Callable, Sequence

from diffgenz.core.errors import InputError
from diffgenz.models.assembly import attention_of, biased, mlp_of, model_of, windowed_layers
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.norm import Norm
from diffgenz.models.config import Config
from diffgenz.models.model import Model


def _mixed(
    config: Config,
    attention: Attention,
    mlp: MLP,
    windowed: Sequence[int],
    *,
    tied: bool,
    norm: Norm = Norm.RMS,
) -> Model:
    """Attention with a window in the layers `windowed` and without one in the others.

    All layers are without one where the file's `sliding_window` is null.
    """
    window = config.window()
    return model_of(
        config,
        attention,
        (mlp, config.layers),
        tied=tied,
        norm=norm,
        windowed=windowed if window else (),
        window=window,
    )


def _all_but_every(config: Config, period: int) -> tuple[int, ...]:
    """The windowed layers where each `period`-th layer sees all tokens.

    They are those that `layer_types` lists, where the file has it.
    """
    full = range(period - 1, config.layers, period)
    return windowed_layers(config, config.others(full))


def exaone4(config: Config) -> Model:
    """Norms only after the blocks and on queries and keys, three windowed layers in four: EXAONE 4.

    The smaller model has no window. `sliding_window_pattern` spells a period in L and G, or counts
    its layers.
    """
    pattern = config.get("sliding_window_pattern", default=4)
    if isinstance(pattern, str) and pattern and set(pattern) <= set("LG"):
        layers = range(config.layers)
        listed = [layer for layer in layers if pattern[layer % len(pattern)] == "L"]
        windowed = windowed_layers(config, listed)
    elif isinstance(pattern, str):
        raise InputError(
            f"{config.name}: sliding_window_pattern: {pattern!r} must spell a period of layers in "
            "L (local) and G (global)"
        )
    else:
        windowed = _all_but_every(config, config.count("sliding_window_pattern", default=4))
    attention = attention_of(config, query_key_norm="head")
    return _mixed(config, attention, mlp_of(config), windowed, tied=False)


def olmo3(config: Config) -> Model:
    """OLMo 2 with three windowed layers in four: OLMo 3."""
    attention = attention_of(config, query_key_norm="all", **biased(config))
    return _mixed(config, attention, mlp_of(config), _all_but_every(config, 4), tied=False)


def cohere2(config: Config) -> Model:
    """Cohere without norms on queries and keys, three windowed layers in four: Command R7B and A.

    Full layers have no positions, which changes no shape.
    """
    config.expect(use_qk_norm=False, use_parallel_block=True, use_gated_activation=True)
    config.expect(order_of_interleaved_layers="local_attn_first")
    config.ignore("use_embedding_sharing", "position_embedding_type")
    attention = attention_of(config, norm=Norm.SCALE_ONLY, reduces=False, **biased(config))
    period = config.count("sliding_window_pattern", "layer_switch", default=4)
    return _mixed(
        config,
        attention,
        mlp_of(config, norm=None),
        _all_but_every(config, period),
        tied=True,
        norm=Norm.SCALE_ONLY,
    )


def cwm(config: Config) -> Model:
    """Llama with a window on all but the first of every four layers: Code World Model."""
    full = range(0, config.layers, 4)
    windowed = windowed_layers(config, config.others(full))
    return _mixed(config, attention_of(config), mlp_of(config), windowed, tied=False)


def vaultgemma(config: Config) -> Model:
    """Gemma 2 without the norms after the blocks: VaultGemma."""
    config = config.with_defaults(head_dim=256)
    windowed = windowed_layers(config, range(0, config.layers, 2))
    return _mixed(
        config, attention_of(config, **biased(config)), mlp_of(config), windowed, tied=True
    )


WINDOWED: dict[str, Callable[[Config], Model]] = {
    "exaone4": exaone4,
    "olmo3": olmo3,
    "cohere2": cohere2,
    "cwm": cwm,
    "vaultgemma": vaultgemma,
}
"""The function that reads each `model_type`."""
