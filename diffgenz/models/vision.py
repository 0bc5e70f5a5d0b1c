"""Vision towers, which turn images into tokens for a language model.

patches of an image -> transformer blocks that see the whole image -> tokens for a language model

Like serving engines, this keeps a tower in dtype even where the language model is quantised. The
tower is sharded over the tensor-parallel ranks like the language model (vLLM's
`--mm-encoder-tp-mode weights`, the default). Patch embedding and positions are whole on every rank.
"""

import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar

import equinox as eqx

from diffgenz.core import xp
from diffgenz.core.checks import Condition, at_most
from diffgenz.core.record import Record, number
from diffgenz.core.smooth import Leaf, Scalar, ceil_share, straight_through_ceil
from diffgenz.models.blocks.block import Block
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.norm import Norm, norm
from diffgenz.operators.attention import attention_over
from diffgenz.operators.elementwise import elementwise
from diffgenz.operators.layer_format import DTYPE
from diffgenz.operators.linear import linear, wide_linear
from diffgenz.operators.message import AllReduce, Axis
from diffgenz.operators.operator import Kind, Operator
from diffgenz.operators.precision import Precision
from diffgenz.operators.step import Step


class PatchAttention(Block):
    """Attention among the patches of an image, of which nothing is cached.

    norm -> QKV projection -> rotary embedding -> attention -> output projection -> all-reduce

    Arguments:
        heads: heads of the whole tower, above 0.
        head_dim: elements of each head, above 0.
        window: patches that see each other, at least 1, or None for the whole image.
        rotary: whether positions are rotary (a kernel of its own).
        qkv_bias: whether the QKV projection has a bias.
        out_bias: whether the output projection has a bias.
        query_key_norm: what the norms on queries and keys have parameters for, as in `Attention`.
        norm, norms, reduces: as in `Block`; a layer norm by default.
    """

    mixes_tokens: ClassVar[bool] = True

    heads: Leaf = number(above=0)
    head_dim: Leaf = number(above=0)
    window: Leaf | None = number(at_least=1, default=None, remedy="leave it out for full attention")
    rotary: bool = eqx.field(static=True, default=False)
    qkv_bias: bool = eqx.field(static=True, default=True)
    out_bias: bool = eqx.field(static=True, default=True)
    query_key_norm: str | None = eqx.field(static=True, default=None)
    norm: Norm | None = eqx.field(static=True, default=Norm.LAYER, kw_only=True)

    def work(self, hidden: Scalar, step: Step) -> tuple[Operator, ...]:
        heads = ceil_share(self.heads, step.shard)
        width, size = heads * self.head_dim, step.precision.dtype_size
        keys = step.queries if self.window is None else xp.minimum(self.window, step.queries)
        read = 2 * step.tokens * width * size  # each window reads its own keys and values
        normalised = {None: 0.0, "head": 2 * self.head_dim, "all": 2 * width}[self.query_key_norm]
        positions = elementwise("rotary", read, read, parameters=normalised, size=size)
        return (
            linear(
                "qkv",
                step.tokens,
                3 * width,
                hidden,
                step.precision,
                "attention",
                bias=self.qkv_bias,
            ),
            *((positions,) if self.rotary or self.query_key_norm else ()),
            attention_over(step, keys, heads, self.head_dim, self.head_dim, read=read, held=0.0),
            linear(
                "attention_out",
                step.tokens,
                hidden,
                width,
                step.precision,
                "attention",
                bias=self.out_bias,
            ),
        )


class Projector(Record):
    """The layers that turn patches into the language model's tokens.

    norm -> linear -> activation -> linear -> ...

    Of every two linear layers, the first is sharded by outputs and the second by inputs, followed
    by an all-reduce. If their number is odd, the last one is whole on every rank.

    Arguments:
        widths: features at the input, between layers, and at the output (the language model's
            width); each above 0.
        bias: whether the linear layers have a bias.
        norm: the norm before them, or None.
        norm_width: features that the norm has parameters for.
        count: how many such projectors there are: more than one where the states of some layers of
            the tower are handed on, too (DeepStack, Qwen3-VL).
        separator: whether a learned embedding is put between the rows of tokens (LLaVA-NeXT).
    """

    widths: tuple[Leaf, ...] = number(above=0)
    bias: bool = eqx.field(static=True, default=True)
    norm: Norm | None = eqx.field(static=True, default=None)
    norm_width: Leaf = number(default=0.0)
    count: Leaf = number(default=1.0)
    separator: bool = eqx.field(static=True, default=False)

    @property
    def pairs(self) -> int:
        """All-reduces of each projector: its pairs of linear layers."""
        return (len(self.widths) - 1) // 2

    def operators(self, step: Step) -> Iterator[Operator]:
        """The kernels of all `count` projectors.

        Arguments:
            step: the iteration, whose tokens are those of the language model, not patches.
        """
        precision = step.precision
        if self.norm is not None:
            plain = norm(self.norm, self.widths[0], step)
            parameters = self.norm.value * self.norm_width
            own = dataclasses.replace(plain, name="projector_norm", parameters=parameters)
            yield own.times(self.count)
        for index, (inputs, outputs) in enumerate(pairwise(self.widths)):
            paired = index < 2 * self.pairs
            here = ceil_share(outputs, step.shard) if paired and index % 2 == 0 else outputs
            seen = ceil_share(inputs, step.shard) if paired and index % 2 == 1 else inputs
            if index:
                moved = step.tokens * seen * precision.dtype_size
                yield elementwise("projector_activation", moved, moved).times(self.count)
            layer = wide_linear("projector", step.tokens, here, seen, precision, bias=self.bias)
            if paired and index % 2 == 1:
                volume = step.tokens * outputs * precision.message_size
                layer = layer.sending(AllReduce("all_reduce", Axis.TENSOR, volume))
            yield layer.times(self.count)
        if self.separator:
            width, size = self.widths[-1], precision.dtype_size
            moved = step.tokens * width * size
            row = elementwise("projector_separator", moved, moved, parameters=width, size=size)
            yield row.times(self.count)


class Tower(Record):
    """A vision transformer and its projectors, whose operators are called vision_...

    Arguments:
        hidden: its width, above 0.
        layers: layers, each of attention and MLP.
        attention: the attention block of a layer.
        mlp: the MLP block of a layer.
        projectors: the projectors that follow the layers.
        image_size: pixels of an image's side at the resolution that the tower sees, or of a tile's
            side where it cuts images into tiles; at least patch x merge.
        patch: pixels of a patch's side, above 0.
        merge: patches, in each direction, that become one token; above 0.
        inputs: numbers per pixel: 3 colours, times 2 where a still image fills two frames.
        positions: learned positions; 0 where positions are rotary only.
        class_token: whether one more token goes through the layers and is dropped after them.
        patch_bias: whether the patch embedding has a bias.
        norms: norms before and after all the layers.
        outer_norm: what these norms are.
        scaled: whether a learned vector scales what each block adds (layer scale, InternViT).
        windowed: how many of the layers see only `window` patches; at most `layers`.
        window: patches of a window, at least 1, or None where no layer has one.

    Raises:
        InputError: more windowed layers than layers, or an image smaller than patch x merge.
    """

    hidden: Leaf = number(above=0)
    layers: Leaf = number()
    attention: PatchAttention
    mlp: MLP
    projectors: tuple[Projector, ...]
    image_size: Leaf = number(above=0)
    patch: Leaf = number(above=0)
    merge: Leaf = number(above=0, default=1.0)
    inputs: Leaf = number(above=0, default=3.0)
    positions: int = eqx.field(static=True, default=0)
    class_token: bool = eqx.field(static=True, default=False)
    patch_bias: bool = eqx.field(static=True, default=False)
    norms: int = eqx.field(static=True, default=0)
    outer_norm: Norm = eqx.field(static=True, default=Norm.LAYER)
    scaled: bool = eqx.field(static=True, default=False)
    windowed: Leaf = number(default=0.0)
    window: Leaf | None = number(at_least=1, default=None)

    def conditions(self) -> Iterator[Condition]:
        yield at_most("windowed", self.windowed, self.layers, "the layers of the tower")
        side = self.patch * self.merge
        yield at_most("patch x merge", side, self.image_size, "image_size; use larger images")

    @property
    def tokens(self) -> Scalar:
        """Tokens of an image in the language model's prompt.

        They are round(image_size / (patch merge))**2. The derivative is that of the formula
        without rounding.
        """
        side = straight_through_ceil(self.image_size / (self.patch * self.merge) - 0.5)
        return side * side

    @property
    def patches(self) -> Scalar:
        """Patches of an image: tokens merge**2."""
        return self.tokens * self.merge * self.merge

    def operators(
        self, images: Scalar | float, precision: Precision, shard: Scalar | float
    ) -> tuple[Operator, ...]:
        """The kernels of one pass over some images on one device.

        Arguments:
            images: how many images.
            precision: the formats, of which dtype and messages are used.
            shard: the device's share of every layer's heads and features.
        """
        tokens = self.patches + self.class_token
        step = Step(images, tokens, 0.0, shard, precision.in_dtype)
        handed_on = step.replace(queries=self.tokens)
        operators = [*self._embedding(step), *self._layers(step)]
        if self.norms:
            operators.append(norm(self.outer_norm, self.hidden, step, count=self.norms))
        for projector in self.projectors:
            operators += projector.operators(handed_on)
        return tuple(
            dataclasses.replace(
                op,
                name=f"vision_{op.name}",
                kind=Kind.WIDE if op.kind is Kind.LINEAR else op.kind,
                part=DTYPE,
                messages=tuple(
                    dataclasses.replace(message, name=f"vision_{message.name}")
                    for message in op.messages
                ),
            )
            for op in operators
        )

    def _embedding(self, step: Step) -> Iterator[Operator]:
        pixels = self.inputs * self.patch * self.patch
        yield wide_linear(
            "patches",
            step.sequences * self.patches,
            self.hidden,
            pixels,
            step.precision,
            bias=self.patch_bias,
        )
        if self.positions or self.class_token:
            size = step.precision.dtype_size
            moved = step.tokens * self.hidden * size
            yield elementwise(
                "positions",
                2 * moved,
                moved,
                parameters=(self.positions + self.class_token) * self.hidden,
                size=size,
            )

    def _layers(self, step: Step) -> Iterator[Operator]:
        mixers = [(self.attention, self.layers)]
        if self.window is not None:
            mixers = [
                (self.attention.replace(window=self.window), self.windowed),
                (self.attention, self.layers - self.windowed),
            ]
        for block, count in (*mixers, (self.mlp, self.layers)):
            yield from (op.times(count) for op in block.operators(self.hidden, step))
        if self.scaled:
            size = step.precision.dtype_size
            moved = step.tokens * self.hidden * size
            scale = elementwise("layer_scale", moved, moved, parameters=self.hidden, size=size)
            yield scale.times(2 * self.layers)
