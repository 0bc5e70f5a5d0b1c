"""Nemotron-H and Nemotron 3: layers of one block each, in a pattern that is spelt in two ways."""

from collections.abc import Callable

from diffgenz.core.errors import InputError
from diffgenz.models.assembly import attention_of, model_with
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.mamba import Mamba2
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.moe import MoE
from diffgenz.models.config import Config
from diffgenz.models.families.moe import experts_of
from diffgenz.models.model import Model


def nemotron_h(config: Config) -> Model:
    """Nemotron-H and Nemotron 3: one block for each layer, as a pattern spells them.

    Experts may work in a latent space, and attention is without positions.
    """
    pattern = _nemotron_pattern(config)
    config = config.with_defaults(num_hidden_layers=len(pattern))
    if config.layers != len(pattern):
        key = next((key for key in _SPELLINGS if config.get(key) is not None), "layer_types")
        raise InputError(
            f"{config.name}: {key}: spells {len(pattern)} layers, which contradicts "
            f"num_hidden_layers, {config.layers}; remove one"
        )
    bias = config.flag("attention_bias", default=False)
    config.ignore("expand", "mamba_expand", "time_step_rank")  # heads say the same; of Mamba-1
    config.expect(use_bias=False)
    build: dict[str, Callable[[], Block]] = {
        "M": lambda: Mamba2(
            heads=config.number("mamba_num_heads"),
            head_dim=config.number("mamba_head_dim"),
            groups=config.number("n_groups", "mamba_n_groups"),
            state=config.number("ssm_state_size"),
            width=config.number("conv_kernel", "mamba_d_conv", default=4),
            chunk=config.number("chunk_size", "mamba_chunk_size", default=128),
            bias=config.flag("mamba_proj_bias", default=False),
            conv_bias=config.flag("use_conv_bias", "mamba_conv_bias", default=True),
        ),
        "*": lambda: attention_of(
            config,
            head_dim=config.number(
                "head_dim", "attention_head_dim", default=config.hidden / config.heads
            ),
            rotary=False,
            qkv_bias=bias,
            out_bias=bias,
        ),
        "-": lambda: MLP(
            intermediate=config.number("intermediate_size"),
            gated=False,
            bias=config.flag("mlp_bias", default=False),
        ),
        "E": lambda: _nemotron_experts(config),
    }
    config.ignore(*(key for kind in set(NEMOTRON) - set(pattern) for key in NEMOTRON[kind][1]))
    return model_with(
        config,
        *(
            (block(), [layer for layer, each in enumerate(pattern) if each == kind])
            for kind, block in build.items()
            if kind in pattern
        ),
        tied=False,
    )


NEMOTRON: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "M": (
        ("mamba", "linear_attention"),
        (
            *("mamba_num_heads", "mamba_head_dim", "n_groups", "ssm_state_size", "conv_kernel"),
            *("chunk_size", "mamba_proj_bias", "use_conv_bias"),
        ),
    ),
    "*": (
        ("attention", "full_attention"),
        ("num_attention_heads", "num_key_value_heads", "head_dim", "attention_head_dim"),
    ),
    "-": (("mlp",), ("intermediate_size", "mlp_bias")),
    "E": (
        ("moe",),
        (
            *("n_routed_experts", "n_shared_experts", "moe_intermediate_size", "moe_latent_size"),
            *("moe_shared_expert_intermediate_size", "num_experts_per_tok", "n_group"),
            *("topk_group",),
        ),
    ),
}
"""The letter of each kind of layer in Nemotron-H: its names in a list, and its own fields."""


_SPELLINGS = ("hybrid_override_pattern", "layers_block_type")


def _nemotron_pattern(config: Config) -> str:
    """What each layer is, a letter of `NEMOTRON` each, from either spelling.

    Raises:
        InputError: there is no pattern, it has an unknown kind, or the spellings contradict.
    """
    key, pattern = _SPELLINGS[0], config.get(_SPELLINGS[0])
    names = config.get(_SPELLINGS[1], "layer_types")
    if names is None and pattern is None:
        raise config.lacks(*_SPELLINGS)
    if pattern is not None and (not isinstance(pattern, str) or set(pattern) - set(NEMOTRON)):
        raise InputError(
            f"{config.name}: {key}: {pattern!r} must spell the layers in M, *, - and E"
        )
    if names is None:
        return str(pattern)
    letters = {name: kind for kind, (spelt, _) in NEMOTRON.items() for name in spelt}
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    unknown = [name for name in names if name not in letters] if is_list else [names]
    if unknown or not names:
        raise InputError(
            f"{config.name}: layers_block_type: {unknown[:1] or names!r} must be a list of "
            f"{', '.join(letters)}"
        )
    spelt = "".join(letters[name] for name in names)
    if pattern not in (None, spelt):
        raise InputError(
            f"{config.name}: {key}: {pattern!r} contradicts layers_block_type, which spells "
            f"{spelt!r}; remove one"
        )
    return spelt


def _nemotron_experts(config: Config) -> MoE:
    """The plain experts of Nemotron 3, beside a shared one that sees the whole hidden state."""
    config.expect(mlp_bias=False)
    shared = config.count("n_shared_experts", default=1, least=0)
    width = config.number("moe_shared_expert_intermediate_size", default=None if shared else 1)
    latent = "moe_latent_size"
    return experts_of(
        config,
        gated=False,
        latent=None if config.get(latent) is None else config.number(latent),
        shared=MLP(intermediate=width * shared, gated=False, norm=None, reduces=False)
        if shared
        else None,
    )
