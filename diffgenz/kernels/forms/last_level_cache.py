"""Kernels whose operands a last-level cache holds.

Benchmarks repeat a kernel on the same operands, so that small ones never come from memory:

    t = seconds of the form, its bandwidth divided by
        1 - resident large**s / (large**s + footprint**s),  large = `cache` MB, s = `steepness`

Operands that no longer fit are evicted before they are read again, hence the step. Collectors that
alternate between copies of the operands move it to a share of the cache (16 MB of the L40S's 96),
and more so for what has more copies: of a product, a byte of inputs and of outputs may count for
less than one of weights. Only tables that show a cache (rows faster than memory allows) are fitted
so, and prompts where memory takes long to fill the cache (`cleaning`). An inference step reads
other weights and other sequences each time, so estimates take the form without its cache (`plain`).
Prompts keep it: queries, keys and values have just been written.
"""

import functools
import types
from typing import Any, ClassVar

from diffgenz.core import xp
from diffgenz.core.smooth import Leaf
from diffgenz.kernels.form import Form, Work, parameter
from diffgenz.kernels.forms.elementwise import CACHE_SPEED, MEGABYTE
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.shapes import GemmShape, Number

LARGEST = 512.0
"""Size that no last-level cache exceeds, in MB."""


class Cached(Form):
    """What a cache adds to a form; `cached` makes the whole."""

    plain: ClassVar[type[Form]]
    """The form without its cache."""

    resident: Leaf = parameter(0.5, 1.0, 1 - 1 / CACHE_SPEED)
    cache: Leaf = parameter(50.0, 1.0, LARGEST)
    steepness: Leaf = parameter(8.0, 0.7)

    @classmethod
    def work(cls, shape: Any) -> Work:
        """Operands that a cache may hold come at its speed."""
        flops, moved = cls._work(shape)
        return Work(flops, moved / xp.where(moved > LARGEST * MEGABYTE, 1.0, CACHE_SPEED))

    @classmethod
    def without(cls, *names: str) -> type[Form]:
        return cached(cls.plain.without(*names))

    @classmethod
    def whole(cls) -> type[Form]:
        return cached(cls.plain.whole())

    @classmethod
    def _work(cls, shape: Any) -> Work:
        work = cls.plain.work(shape)
        assert isinstance(work, Work)
        return work

    def footprint(self, shape: Any) -> Number:
        """Bytes that a benchmark has in use."""
        return self._work(shape).moved

    def seconds(self, shape: Any, chip: Chip) -> Number:
        plain = self.plain(**{name: getattr(self, name) for name in self.plain.priors()})
        fits = xp.sigmoid(self.steepness * xp.log(self.cache * MEGABYTE / self.footprint(shape)))
        from_memory = 1 - self.resident * fits
        return plain.seconds(shape, chip._replace(bandwidth=chip.bandwidth / from_memory))


class CachedProduct(Cached):
    """What a cache adds to products."""

    inputs: Leaf = parameter(0.5, 1.0, 1.0)
    outputs: Leaf = parameter(0.5, 1.0, 1.0)

    def footprint(self, shape: GemmShape) -> Number:
        m, n = shape.m, shape.n
        written = 2 * m * n
        read = shape.moved - written  # (n + m) k
        return read * (n + self.inputs * m) / (n + m) + self.outputs * written


@functools.cache
def cached(form: type[Form]) -> type[Form]:
    """The form with a last-level cache: three parameters more, or five for products.

    Raises:
        TypeError: the form has a parameter of one of their names already.
    """
    adding = CachedProduct if form.Shape is GemmShape else Cached
    body = {
        "plain": form,
        "absent": form.absent,
        "__doc__": f"`{form.__name__}`, whose operands are partly in a cache.",
        "__module__": __name__,
    }
    return types.new_class(
        f"Cached{form.__name__}", (adding, form), exec_body=lambda namespace: namespace.update(body)
    )
