"""Attention over a KV cache that GEAR compressed: what its outliers and low-rank term add to a kernel. Without GEAR nothing changes."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.smooth import Scalar
from diffgenz.operators.operator import Operator
from diffgenz.operators.step import Step


def with_gear_factors(op: Operator, step: Step, vectors: Scalar, width: Scalar) -> Operator:
    """`op`, an attention over `vectors` vectors of `width` a token, with the factor that each of them has of the low-rank term, once a sequence.

    Bytes per token are in `op` already (`Precision.cached_size`).
    """
    gear = step.precision.gear
    if gear is None:
        return op
    op = dataclasses.replace(op, kernel="", shape=None)  # no table holds such kernels
    once = step.sequences * vectors * gear.sequence_size(step.precision.dtype_size, width)
    return eqx.tree_at(lambda o: (o.kv_cache, o.cached), op, (op.kv_cache + once, op.cached + once))


def with_gear_work(op: Operator, step: Step, width: Scalar) -> Operator:
    """`op`, an attention, with the FLOP of outliers and low-rank term: over keys that were in the cache before, since new ones are still whole."""
    gear = step.precision.gear
    if gear is None:
        return op
    compressed = jnp.minimum(step.context / op.n, 1.0)
    return eqx.tree_at(lambda o: o.k, op, op.k * (1 + gear.extra_work(width) * compressed))
