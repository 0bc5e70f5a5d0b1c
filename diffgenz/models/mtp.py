"""Multi-token prediction: a module that proposes tokens after the next one.

It proposes them from the model's last hidden states (DeepSeek-V3, arXiv 2412.19437). The module is
a projection, one more layer of the model's last kind, and a norm. Embedding and LM head are those
of the model. For serving it is a draft model that knows what the model knows: see `MTP` in
`scenario.serving_options`.
"""

from typing import ClassVar

import equinox as eqx

from diffgenz.core.smooth import Scalar
from diffgenz.models.blocks.block import Block
from diffgenz.models.config import Config
from diffgenz.models.model import Model, Repeated
from diffgenz.operators.linear import wide_linear
from diffgenz.operators.operator import Operator
from diffgenz.operators.step import Step


class Fusion(Block):
    """The projection in front of the module's layer (`eh_proj`).

    It takes the last token's embedding and the hidden state before it, each with a norm of its
    own, and projects both together from twice the width to the width. Engines (vLLM, SGLang) keep
    the projection in dtype, and whole on every rank.

    Arguments:
        norm, norms, reduces: as in `Block`; two norms and no all-reduce by default.
    """

    mixes_tokens: ClassVar[bool] = False

    norms: int = eqx.field(static=True, default=2, kw_only=True)
    reduces: bool = eqx.field(static=True, default=False, kw_only=True)

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        return (wide_linear("eh_proj", step.tokens, hidden, 2 * hidden, step.precision),)


def mtp_module(model: Model) -> Model:
    """The module of `model`, as a model of one layer.

    The layer is a fusion, then the last of the model's blocks that mix tokens, and then the last of
    those that do not.
    """
    blocks: list[Block] = [Fusion(norm=model.norm)]
    for mixes in (True, False):
        kind = [each.block for each in model.blocks if each.block.mixes_tokens is mixes]
        blocks += kind[-1:]
    one = tuple(Repeated(block, 1.0) for block in blocks)
    return model.replace(name=f"{model.name} MTP", blocks=one, vision=None, mtp=False, borrows=True)


def has_mtp(config: Config, default: int) -> bool:
    """Whether a config.json says that its checkpoint has one such module.

    Several modules that take turns are not modelled.

    Arguments:
        config: the facts.
        default: how many modules the family has where the file says nothing.
    """
    keys = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "mtp_num_layers")
    config.ignore("use_mtp", "num_mtp_modules", "mtp_transformer_layers")
    config.ignore("mtp_use_dedicated_embeddings", "mtp_hybrid_override_pattern")
    config.ignore("mtp_layers_block_type")
    return config.count(*keys, default=default, least=0) == 1
