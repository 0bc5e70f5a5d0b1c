"""What engines ask of a plan: which ranks go together, and which widths they must divide.

The rules are those of vLLM (`config/parallel.py`, `config/model.py`, `layers/linear.py`,
`layers/vocab_parallel_embedding.py`, `layers/mamba/mamba_mixer2.py`, `quantization/fp8.py`,
`quantization/utils/fp8_utils.py`, `quantization/gptq.py`, `quantization/awq.py`,
`quantization/moe_wna16.py`, `quantization/modelopt.py`, `worker/gpu/pcp_manager.py`) and of SGLang
(`server_args.py`, `layers/linear.py`, `layers/moe/fused_moe_triton/layer.py`,
`quantization/fp8.py`) as of November 2026. Where versions of an engine differ, the stricter rule
stands here, so that what passes starts on all of them.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from diffgenz.core.formats import FORMATS
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.latent_attention import LatentAttention
from diffgenz.models.model import Model
from diffgenz.operators.layer_format import DTYPE
from diffgenz.operators.precision import Precision
from diffgenz.scenario.engines.engine import SGLANG, Ranks
from diffgenz.scenario.engines.shards import Layer, Shared, Width, shards_of

VOCABULARY_PADDING = 64
"""To multiples of this, both engines pad the vocabulary before ranks share it."""


class Blocks(NamedTuple):
    """What a format's scales ask of the features of one rank: multiples of these.

    Arguments:
        inputs: features that a rank reads of a layer whose inputs are shared.
        outputs: features that it makes of one whose outputs are shared.
        experts: features of a routed expert.
    """

    inputs: int
    outputs: int
    experts: int


BLOCKS = {
    "fp8_block": Blocks(128, 128, 128),  # a scale for 128 x 128 weights
    "int4": Blocks(128, 8, 32),  # groups of 128 inputs, of experts at least 32; 8 outputs in a word
    "nvfp4": Blocks(16, 1, 16),
    "mxfp8": Blocks(32, 1, 32),
    "mxfp4": Blocks(32, 1, 1),  # experts are padded
}
"""The blocks of formats that have any."""


class Layouts:
    """The rules for the plans of one model.

    Arguments:
        model: what is served.
    """

    def __init__(self, model: Model):
        self.name = model.name
        self.layers = shards_of(model)
        self.vocabulary = int(model.vocabulary)
        blocks = [each.block for each in model.blocks]
        mixers = [block for block in blocks if block.mixes_tokens]
        self._latent = all(isinstance(block, LatentAttention) for block in mixers)
        self._windowed = any(
            isinstance(block, Attention) and block.window is not None for block in mixers
        )
        self._sees = model.vision is not None

    def refusals(self, ranks: Ranks, precision: Precision, engine: str) -> Iterator[str]:
        """Why an engine refuses a plan in some formats: a sentence for each reason.

        Arguments:
            ranks: of the plan.
            precision: the formats.
            engine: one of `TITLES`.
        """
        yield from self._combinations(ranks, engine)
        yield from dict.fromkeys(self._shares(ranks, engine))
        yield from dict.fromkeys(self._scales(ranks, precision, engine))

    def _combinations(self, ranks: Ranks, engine: str) -> Iterator[str]:
        """Ranks of kinds that do not go together.

        vLLM spreads experts over all ranks or none (--enable-expert-parallel). Its prefill context
        ranks are for latent attention alone, without stages, data parallelism or images
        (`pcp_manager.validate_config`). SGLang's do not share the KV cache (--attn-cp-size).
        """
        context = ranks.context
        if engine == SGLANG:
            if context > 1:
                yield (
                    f"cp {context}: its context ranks share prompts, not the KV cache; "
                    "use cp 1, or vLLM"
                )
            return
        if ranks.expert not in (1, ranks.stage):
            yield (
                f"ep {ranks.expert}: it spreads experts over all {ranks.stage} ranks of a stage or "
                f"over none; use ep 1 or {ranks.stage}, or SGLang"
            )
        if context == 1:
            return
        if not self._latent:
            what = "windowed attention" if self._windowed else "attention with KV heads"
            yield f"cp {context}: it shares no sequences of {what}; use cp 1"
        elif self._sees:
            yield f"cp {context}: it shares no sequences of models that see images; use cp 1"
        for name, count in (
            ("pp", ranks.pipeline),
            ("attention-dp", ranks.attention_data),
        ):
            if count > 1:
                yield f"cp {context}: it does not go with {name} {count}; use cp 1, or {name} 1"

    def _shares(self, ranks: Ranks, engine: str) -> Iterator[str]:
        """Widths that the ranks which share them do not divide.

        Heads: vLLM `ModelConfig.verify_with_parallel_config`, SGLang `get_num_attention_heads`. KV
        heads are divided, or copied to equally many ranks each (`QKVParallelLinear`). Features:
        `divide` in `ColumnParallelLinear` and `RowParallelLinear`, `FusedMoE`. State-space heads
        and groups: `MambaMixer2`. The vocabulary: `VocabParallelEmbedding`.
        """
        for layer in self.layers:
            sharing = ranks.sharing(layer.shared, engine)
            for width in layer.widths:
                if not width.divides(sharing):
                    yield self._indivisible(width, layer, ranks, sharing)
        sharing = ranks.sharing(Shared.SHARED, engine)
        padded = -(-self.vocabulary // VOCABULARY_PADDING) * VOCABULARY_PADDING
        if padded % sharing:
            vocabulary = Width("tokens of the vocabulary, padded,", padded)
            layer = Layer("lm_head", "head", (vocabulary,), shared=Shared.SHARED)
            yield self._indivisible(vocabulary, layer, ranks, sharing)

    def _indivisible(self, width: Width, layer: Layer, ranks: Ranks, sharing: int) -> str:
        fits = [n for n in range(1, sharing) if width.divides(n)]
        return (
            f"{_said(layer, ranks, sharing)}: it does not divide the {width.units:,} {width.what} "
            f"of {self.name}; {_remedy(layer, ranks, fits)}"
        )

    def _scales(self, ranks: Ranks, precision: Precision, engine: str) -> Iterator[str]:
        """Parts of layers that cut through the blocks of weights that share a scale.

        fp8 blocks: `validate_fp8_block_shape` and `Fp8MoEMethod.create_weights`. Of several
        matrices in one layer that is not shared, the last may end inside a block. Groups of int4:
        `GPTQLinearMethod` and `AWQLinearMethod.create_weights`. NVFP4: `ModelOptNvFp4LinearMethod`.
        """
        for layer in self.layers:
            formats = _format_of(layer, precision)
            sharing = ranks.sharing(layer.shared, engine)
            if formats not in BLOCKS or not all(each.divides(sharing) for each in layer.widths):
                continue
            for width, block in _blocks(layer, formats, sharing, precision):
                features = width.features(sharing)
                if features % block:
                    fits = [
                        n
                        for n in range(1, sharing)
                        if width.divides(n) and width.features(n) % block == 0
                    ]
                    yield (
                        f"{_said(layer, ranks, sharing)}: each rank gets {features:,} features of "
                        f"{layer.row}, no multiple of the {block} that share a scale in {formats}; "
                        f"{_remedy(layer, ranks, fits)}"
                    )


def _blocks(
    layer: Layer, formats: str, sharing: int, precision: Precision
) -> Iterator[tuple[Width, int]]:
    """What of a layer must be multiples of which block."""
    blocks = BLOCKS[formats]
    if layer.shared is Shared.EXPERTS:
        for width in dict.fromkeys(layer.widths):
            yield width, blocks.experts
        return
    if layer.inputs is not None and sharing > 1:
        yield layer.inputs, _group(layer, formats, precision)
    checked: Sequence[Width] = layer.outputs if sharing > 1 else layer.outputs[:-1]
    for width in dict.fromkeys(checked):
        yield width, blocks.outputs


def _group(layer: Layer, formats: str, precision: Precision) -> int:
    """The inputs that share a scale: for int4, what the size of a weight says of its group.

    A group has a 16-bit scale: a weight takes 1/2 + 2 / group bytes.
    """
    usual = BLOCKS[formats].inputs
    size = float(precision.layer(layer.row, layer.kind).weight_size)
    spare = size - 0.5
    if formats != "int4" or math.isclose(size, FORMATS["int4"].size) or spare <= 0:
        return usual
    return min(usual, max(32, 2 ** round(math.log2(2 / spare))))


def _format_of(layer: Layer, precision: Precision) -> str:
    """The format of a layer's weights."""
    part = precision.layer(layer.row, layer.kind).part
    return precision.dtype if part == DTYPE else precision.parts[part].weights


def _said(layer: Layer, ranks: Ranks, sharing: int) -> str:
    """The ranks that share a layer, in the words of a plan."""
    text = f"tp {ranks.tensor}"
    if sharing == ranks.tensor:
        return text
    text += f" x cp {ranks.context}" if ranks.context > 1 and sharing % ranks.context == 0 else ""
    text += f" x attention-dp {ranks.attention_data}" if ranks.attention_data > 1 else ""
    if layer.shared is Shared.EXPERTS and ranks.expert > 1:
        text += f" / ep {ranks.expert}"
    return f"{text} = {sharing}"


def _remedy(layer: Layer, ranks: Ranks, fits: Sequence[int]) -> str:
    """What to do about a layer that cannot be shared by so many ranks."""
    if layer.shared is Shared.EXPERTS:
        return f"use ep {ranks.stage}, which keeps experts whole"
    if layer.shared is not Shared.TENSOR and ranks.attention_data > 1:
        return "use fewer ranks in a stage, or tp 1"
    return f"use tp {fits[-1]}" if fits else "use another format"
