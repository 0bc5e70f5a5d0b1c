"""Kernels whose operands a last-level cache holds: benchmarks repeat a kernel on the same operands, so small ones never come from memory.

    t = t_form at bandwidth / (1 - resident large**edge / (large**edge + moved**edge)),  large = `cache` MB

Operands that no longer fit are evicted before they are read again, hence the edge. (Collectors that alternate between copies of the operands move it
to a share of the cache: 16 MB of the L40S's 96.) Only tables that show it (rows faster than memory allows) are
fitted so. An inference step reads other weights and other sequences each time, so estimates take the form without its cache (`plain`).
"""

import functools
import types
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from diffgenz.kernels.elementwise import CACHE_SPEED, MEGABYTE
from diffgenz.kernels.form import Chip, Form, Timer, Work, parameter
from diffgenz.smooth import Leaf

LARGEST = 512.0
"""MB: no last-level cache holds more."""


class Cached(Form):
    """What caches add to a form; `cached` makes the whole."""

    plain: ClassVar[type[Form]]
    """The form without its cache."""

    resident: Leaf = parameter(0.5, 1.0, 1 - 1 / CACHE_SPEED)
    cache: Leaf = parameter(50.0, 1.0, LARGEST)
    edge: Leaf = parameter(8.0, 0.7)

    @classmethod
    def work(cls, shape: Any) -> Work:
        flops, moved = cls._work(shape)
        return Work(flops, moved / jnp.where(moved > LARGEST * MEGABYTE, 1.0, CACHE_SPEED))

    @classmethod
    def _work(cls, shape: Any) -> Work:
        work = cls.plain.work(shape)
        assert isinstance(work, Work)
        return work

    def on(self, hardware: Chip, /) -> Timer:
        plain = self.plain(**{name: getattr(self, name) for name in self.plain.priors()})

        def timer(shape: Any) -> Any:
            moved = self._work(shape).moved
            share = 1 - self.resident * jax.nn.sigmoid(self.edge * jnp.log(self.cache * MEGABYTE / moved))
            return plain.on(hardware._replace(bandwidth=hardware.bandwidth / share))(shape)

        return timer


@functools.cache
def cached(form: type[Form]) -> type[Form]:
    """`form` with a last-level cache: its parameters, and three more."""
    body = {"plain": form, "__doc__": f"`{form.__name__}`, its operands in part in a cache.", "__module__": __name__}
    return types.new_class(f"Cached{form.__name__}", (Cached, form), exec_body=lambda namespace: namespace.update(body))
