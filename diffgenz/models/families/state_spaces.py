"""Mamba and Mamba-2 as the mamba_ssm package writes them, without a `model_type`."""

from collections.abc import Callable

from diffgenz.models.assembly import model_with
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.mamba import Mamba, Mamba2
from diffgenz.models.config import Config
from diffgenz.models.model import Model


def state_spaces(config: Config) -> Model:
    """Only Mamba or Mamba-2 blocks, as `ssm_cfg` says, with a tied LM head: state-spaces' files.

    Vocabularies are padded to a multiple of `pad_vocab_size_multiple`.
    """
    mixer = config.section("ssm_cfg")
    kinds: dict[str, Callable[[Config, float], Block]] = {"Mamba1": _mamba, "Mamba2": _mamba2}
    layer = mixer.get("layer", default="Mamba1")
    if not isinstance(layer, str) or layer not in kinds:
        raise mixer.not_modelled("layer")
    config.expect(rms_norm=True, d_intermediate=0)
    multiple = config.count("pad_vocab_size_multiple", default=8)
    padded = -(-config.count("vocab_size") // multiple) * multiple
    tied = config.flag("tie_embeddings", default=True)
    block = kinds[layer](mixer, config.hidden)
    model = model_with(config, (block, config.layers), tied=tied)
    return model.replace(vocabulary=float(padded))


def _mamba(mixer: Config, hidden: float) -> Mamba:
    """The Mamba-1 block of these facts, in a model of this width."""
    auto = mixer.get("dt_rank", default="auto") == "auto"
    return Mamba(
        inner=mixer.number("expand", default=2) * hidden,
        state=mixer.number("d_state", default=16),
        rank=-(-hidden // 16) if auto else mixer.number("dt_rank"),
        width=mixer.number("d_conv", default=4),
        bias=mixer.flag("bias", default=False),
        conv_bias=mixer.flag("conv_bias", default=True),
    )


def _mamba2(mixer: Config, hidden: float) -> Mamba2:
    """The Mamba-2 block of these facts, in a model of this width."""
    head_dim = mixer.number("headdim", default=64)
    return Mamba2(
        heads=mixer.number("expand", default=2) * hidden / head_dim,
        head_dim=head_dim,
        groups=mixer.number("ngroups", default=1),
        state=mixer.number("d_state", default=128),
        width=mixer.number("d_conv", default=4),
        chunk=mixer.number("chunk_size", default=256),
        bias=mixer.flag("bias", default=False),
        conv_bias=mixer.flag("conv_bias", default=True),
    )
