"""Products and passes over memory of a dense layer, as profilers of whole layers time them: of one device, weights split by tensor parallelism."""

from typing import NamedTuple

import numpy as np

from diffgenz.calibrating.samples import Samples
from diffgenz.core.formats import FORMATS
from diffgenz.kernels.forms.elementwise import Elementwise
from diffgenz.kernels.shapes import ElementwiseShape, Number

Product = tuple[Number, Number, Number]


class Layer(NamedTuple):
    """Dimensions of a layer, and the tokens it sees.

    Arguments:
        tokens: rows. hidden: of the model. width: of its MLP. query, kv: elements of all heads' queries, and of their keys.
        up: outputs of the MLP's first product per width: 2 where gated. devices: that share the weights.
    """

    tokens: Number
    hidden: Number
    width: Number
    query: Number
    kv: Number
    up: Number
    devices: Number

    def products(self) -> dict[str, Product]:
        """m, n, k of the projections, queries with keys and values, gate with up."""
        s = self
        return {
            "qkv": (s.tokens, (s.query + 2 * s.kv) / s.devices, s.hidden),
            "o": (s.tokens, s.hidden, s.query / s.devices),
            "up": (s.tokens, s.up * s.width / s.devices, s.hidden),
            "down": (s.tokens, s.hidden, s.width / s.devices),
        }

    def elements(self) -> dict[str, Number]:
        """Elements read and written by kernels bound by memory: norms (with the residual: add_norm), activation, rotary embedding, residual."""
        s = self
        return {
            "norm": 2 * s.tokens * s.hidden,
            "add_norm": 4 * s.tokens * s.hidden,
            "activation": (s.up + 1) * s.tokens * s.width / s.devices,
            "rotary": 2 * s.tokens * (s.query + s.kv) / s.devices,
            "residual": 3 * s.tokens * s.hidden,
        }


def elementwise_samples(
    elements: Number, seconds: np.ndarray, format: str, source: str, kernel: str
) -> Samples:
    """Samples of one pass over `elements`, read and written ones."""
    shape = ElementwiseShape(
        FORMATS[format].size * np.broadcast_to(elements, seconds.shape).astype(float)
    )
    return Samples(Elementwise, "elementwise", format, source, kernel, shape, seconds)
