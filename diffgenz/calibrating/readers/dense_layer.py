"""Products and passes over memory of a dense layer, as profilers of whole layers time them.

They are those of one device; tensor parallelism splits the weights.
"""

from typing import NamedTuple

import numpy as np

from diffgenz.calibrating.samples import Samples
from diffgenz.core.formats import FORMATS
from diffgenz.kernels.shapes import ElementwiseShape, Number

Product = tuple[Number, Number, Number]
"""m, n and k of a product."""


class Layer(NamedTuple):
    """Dimensions of a layer, and the tokens it sees.

    Arguments:
        tokens: tokens, the rows of products.
        hidden: width of the model.
        width: width of its MLP.
        query: elements of all heads' queries.
        kv: elements of all heads' keys; values have as many.
        up: outputs of the MLP's first product per width: 2 where gated, else 1.
        devices: devices that share the weights, at least 1.
    """

    tokens: Number
    hidden: Number
    width: Number
    query: Number
    kv: Number
    up: Number
    devices: Number

    def products(self) -> dict[str, Product]:
        """m, n, k of the projections; queries go with keys and values, and gate with up."""
        s = self
        return {
            "qkv": (s.tokens, (s.query + 2 * s.kv) / s.devices, s.hidden),
            "o": (s.tokens, s.hidden, s.query / s.devices),
            "up": (s.tokens, s.up * s.width / s.devices, s.hidden),
            "down": (s.tokens, s.hidden, s.width / s.devices),
        }

    def elements(self) -> dict[str, Number]:
        """Elements that kernels bound by memory read and write.

        They are norms (add_norm: with the residual), activation, rotary embedding and residual.
        """
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
    """Samples of one pass over memory.

    Arguments:
        elements: read and written, together: one number, or (rows,).
        seconds: of each pass, (rows,).
        format: of the elements.
        source, kernel: as in `Samples`.
    """
    elements = np.broadcast_to(elements, seconds.shape).astype(float)
    shape = ElementwiseShape(FORMATS[format].size * elements)
    return Samples.of("elementwise", format, source, kernel, shape, seconds)
