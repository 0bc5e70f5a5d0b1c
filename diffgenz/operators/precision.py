"""The number formats that a model is served in."""

from collections.abc import Mapping
from typing import Any, Self

import equinox as eqx

from diffgenz.core.formats import FORMATS, format_named
from diffgenz.core.leaves import with_parts
from diffgenz.core.smooth import Leaf, Scalar, as_leaf
from diffgenz.core.tree import Tree
from diffgenz.kernels.kernel_format import KernelFormat
from diffgenz.operators.gear import Gear
from diffgenz.operators.layer_format import DTYPE, LINEAR, MODULES, Layer, LayerFormat

_NAMES = ("dtype", "weights", "activations", "kv_cache", "messages")
"""The parts of a model that have a format each."""


class Precision(Tree):
    """The formats a model is served in.

    Arguments:
        dtype: the format of the residual stream, norms, attention arithmetic, embedding and LM
            head; what serving engines call dtype.
        weights: the format in which the linear layers' weights are stored; default: `dtype`.
        activations: the format of the linear layers' inputs, and of tokens dispatched to experts;
            default: `dtype`. It sets the arithmetic of linear layers. Weights narrower than it are
            expanded on the fly (W4A16: 4-bit traffic, 16-bit peak); W8A8 is weights="fp8",
            activations="fp8".
        kv_cache: the format in which keys and values are stored: the name of a format, a `Gear`, or
            the name of one, such as "gear-int4"; default: `dtype`.
        messages: the format of what all-reduces sum, pipeline stages pass on and experts send back
            (quantised collectives: Flash Communication, arXiv 2412.04964); default: `dtype`.
            Logits are gathered in `dtype`.
        modules: formats of kinds of layers that are not in `weights` and `activations`. Keys are
            "attention", "mlp", "experts" and "head" (`layer_format.MODULES`), or an operator as a
            breakdown names it, such as "qkv", which precedes its kind. Values are a
            `LayerFormat`, or text: "format", or "weights/activations". gpt-oss is
            weights="mxfp4", modules={"attention": "bf16", "mlp": "bf16"}. The LM head is in
            `dtype` unless it is named here.

    The names are static. The sizes, in bytes per element, are leaves (`dtype_size`, `weight_size`,
    ...), and so are the numbers of `gear`.

    Raises:
        InputError: an unknown format, or modules of no such kind.
    """

    dtype: str = eqx.field(static=True)
    weights: str = eqx.field(static=True)
    activations: str = eqx.field(static=True)
    kv_cache: str = eqx.field(static=True)
    messages: str = eqx.field(static=True)
    wide: tuple[str, ...] = eqx.field(static=True)
    dtype_size: Leaf
    weight_size: Leaf
    activation_size: Leaf
    kv_cache_size: Leaf
    message_size: Leaf
    gear: Gear | None
    modules: dict[str, LayerFormat]

    def __init__(
        self,
        dtype: str = "bf16",
        weights: str | None = None,
        activations: str | None = None,
        kv_cache: str | Gear | None = None,
        messages: str | None = None,
        modules: Mapping[str, str | LayerFormat] | None = None,
    ):
        if isinstance(kv_cache, str) and kv_cache.startswith("gear"):
            kv_cache = Gear.named(kv_cache)
        self.gear = kv_cache if isinstance(kv_cache, Gear) else None
        self.dtype = dtype
        self.weights = weights or dtype
        self.activations = activations or dtype
        self.kv_cache = kv_cache.core if isinstance(kv_cache, Gear) else kv_cache or dtype
        self.messages = messages or dtype
        self.wide, self.modules = self._own(modules or {})
        self.dtype_size = as_leaf(format_named(self.dtype, "dtype").size)
        self.weight_size = as_leaf(format_named(self.weights, "weights").size)
        self.activation_size = as_leaf(format_named(self.activations, "activations").size)
        self.kv_cache_size = as_leaf(format_named(self.kv_cache, "kv_cache").size)
        self.message_size = as_leaf(format_named(self.messages, "messages").size)

    def __repr__(self) -> str:
        return f"Precision({self.summary})"

    def _own(
        self, modules: Mapping[str, str | LayerFormat]
    ) -> tuple[tuple[str, ...], dict[str, LayerFormat]]:
        """The modules that are in dtype, and those that have other formats of their own."""
        general = (self.weights, self.activations)
        wide, own = set(), {}
        for key, given in sorted(modules.items()):
            formats = LayerFormat.of(given) if isinstance(given, str) else given
            names = (formats.weights, formats.activations)
            plain = isinstance(given, str)
            if plain and names == (self.dtype, self.dtype):
                wide |= set() if key == "head" else {key}
            elif not (plain and names == general and key in MODULES and key != "head"):
                own[key] = formats
        return tuple(sorted(wide)), own

    def layer(self, row: str, module: str) -> Layer:
        """The formats of a linear layer.

        Arguments:
            row: its operator's row in a breakdown.
            module: its kind, a key of `layer_format.MODULES`.
        """
        for key in (row, module):
            if key in self.wide:
                break
            if key in self.modules:
                own = self.modules[key]
                return Layer(key, own.weight_size, own.activation_size)
        else:
            if module != "head":
                return Layer(LINEAR, self.weight_size, self.activation_size)
        return Layer(DTYPE, self.dtype_size, self.dtype_size)

    @property
    def parts(self) -> dict[str, KernelFormat]:
        """The formats of each part of the model whose linear layers are not in dtype.

        They are those of most linear layers (`LINEAR`), and those of `modules`.
        """
        own = {key: formats.names for key, formats in self.modules.items()}
        return {LINEAR: KernelFormat(self.weights, self.activations)} | own

    @property
    def peaks(self) -> tuple[str, ...]:
        """The peaks at which it multiplies, each once: that of `dtype` is the last."""
        linear = (formats.peak for formats in self.parts.values())
        return tuple(dict.fromkeys((*linear, self.attention_peak)))

    def with_sizes(
        self,
        dtype: Leaf,
        weights: Leaf,
        activations: Leaf,
        kv_cache: Leaf,
        messages: Leaf | None = None,
    ) -> Self:
        """The same formats with other sizes, for sweeps over sizes.

        Arguments:
            dtype: B per element of dtype.
            weights: B per element of the linear layers' weights.
            activations: B per element of the linear layers' inputs.
            kv_cache: B per element of the KV cache, or of the core of a `Gear`.
            messages: B per element of messages; default: that of `dtype`.
        """
        messages = dtype if messages is None else messages
        sizes = [as_leaf(size) for size in (dtype, weights, activations, kv_cache, messages)]
        fields = ("dtype_size", "weight_size", "activation_size", "kv_cache_size", "message_size")
        return eqx.tree_at(lambda p: [getattr(p, field) for field in fields], self, sizes)

    @property
    def nameless(self) -> Self:
        """The same sizes without names, for programs that formats share once they selected all."""
        parts: dict[str, Any] = dict.fromkeys(_NAMES, "")
        if self.gear is not None:
            parts["gear.core"] = ""
        if self.modules:
            parts["modules"] = {
                key: with_parts(formats, {"weights": "", "activations": ""})
                for key, formats in self.modules.items()
            }
        return with_parts(self, parts)

    @property
    def in_dtype(self) -> Self:
        """The same dtype and messages, and everything else in dtype, uncompressed."""
        names = dict.fromkeys(("weights", "activations", "kv_cache"), self.dtype)
        sizes = dict.fromkeys(("weight_size", "activation_size", "kv_cache_size"), self.dtype_size)
        return with_parts(self, names | sizes | {"gear": None, "wide": (), "modules": {}})

    @property
    def names(self) -> dict[str, str]:
        """The name of the format of each part; that of a `Gear` includes its numbers.

        It exists for one concrete configuration.
        """
        cache = self.kv_cache if self.gear is None else self.gear.name
        return {
            "dtype": self.dtype,
            "weights": self.weights,
            "activations": self.activations,
            "kv_cache": cache,
            "messages": self.messages,
        }

    @property
    def summary(self) -> str:
        """The formats in one line, for people."""
        names = self.names
        own = "".join(f", {key} {text}" for key, text in self.modules_named.items())
        messages = "" if self.messages == self.dtype else f", messages {self.messages}"
        return (
            f"weights {names['weights']}, activations {names['activations']}{own}, "
            f"KV cache {names['kv_cache']}{messages}, else {self.dtype}"
        )

    @property
    def modules_named(self) -> dict[str, str]:
        """The formats of modules that are not in `weights` and `activations`, as text."""
        own = dict.fromkeys(self.wide, self.dtype)
        own |= {key: str(formats.names) for key, formats in self.modules.items()}
        return dict(sorted(own.items()))

    def cached_size(self, width: Scalar) -> Scalar:
        """B per element of keys and values cached as vectors of `width`."""
        if self.gear is None:
            return self.kv_cache_size
        return self.gear.element_size(self.kv_cache_size, self.dtype_size, width)

    @property
    def linear_format(self) -> str:
        """The format by which fitted kernels of linear layers are known.

        It is the format of the weights, or "weights/activations" where the two have different
        peaks.
        """
        return KernelFormat(self.weights, self.activations).known_as

    @property
    def linear_peak(self) -> str:
        """The peak at which linear layers multiply: that of the wider of weights and inputs."""
        return KernelFormat(self.weights, self.activations).peak

    @property
    def attention_peak(self) -> str:
        """The peak at which attention multiplies: that of `dtype`."""
        return FORMATS[self.dtype].peak
