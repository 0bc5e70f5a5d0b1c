"""Smooth stand-ins for max, min and ceil, and the one knob that makes them exact.

`smooth_max` is the p-norm of two non-negative numbers and `smooth_min` its mirror image; p is the
*sharpness*:

| sharpness | of compute and memory time it says |
|---|---|
| 1 | no overlap: the times add |
| 2, 4, 8 | partial overlap near the ridge, the larger time far from it |
| `HARD` | full overlap: the classical roofline, exact |

Both are homogeneous of degree 1, so `smooth_max(a, b) = a * da + b * db` with `da`, `db` its own
derivatives (Euler). A breakdown of a time into compute and memory is therefore exact, and
elasticities of a time sum to 1.

Everything is expressed through one primitive, the inverse norm y = (a**p + b**p)**(-1/p). It is
computed without division, `pow` or `sqrt`, which break XLA's fusions: scale by an exact power of
two, raise by squaring, take the root by Newton steps from a guess on the exponent bits. An unscaled
8th power of seconds would underflow in float32. Derivatives of any order are polynomials in y.
"""

import math
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from diffgenz.core import xp
from diffgenz.core.errors import InputError

if TYPE_CHECKING:
    Scalar = Float[Array, ""]
    Flag = Bool[Array, ""]
    Leaf: TypeAlias = Any  # records convert what they are given: Python's numbers must pass
else:
    Scalar = Float[Array, ""] | Float[np.ndarray | np.floating, "..."]
    Flag = Bool[Array | np.ndarray | np.bool_, "..."] | bool
    Leaf = Float[Array | np.ndarray | np.floating, "..."]
"""`Scalar` is one number. Cost functions are written for one configuration; `jax.vmap` batches them
in JAX, and columns in NumPy (`core.xp`). `Flag` is one boolean, or a batch.

`Leaf` is a number stored in a record: one value, or a batch of them that a `vmap` will walk over.
"""

HARD = math.inf
"""The sharpness at which `smooth_max` and `smooth_min` are `max` and `min`."""

SHARPNESS = 8
"""The default: within 0.1 % of the hard roofline when one time is 1.8 times the other."""

_TINY = 1e-12  # seconds; below it only the scaling saturates, not the result
_TINY_IN_DOUBLE = 1e-30
_NEVER_ZERO = 1e-20
"""Added to a sum that is at least 1 unless both terms vanish; only then does it have an effect."""


def check_sharpness(sharpness: float) -> None:
    """Raise `InputError` unless `sharpness` is 1, 2, 4, 8 or `HARD`."""
    if sharpness not in (1, 2, 4, 8, HARD):
        raise InputError(
            f"sharpness: {sharpness!r} is not available; use 1, 2, 4, 8 or diffgenz.HARD "
            "(the exact roofline)"
        )


def _power_of_two_below(x: Scalar) -> Scalar:
    """1 / 2**floor(log2 x) of a float32, exactly, from the exponent bits."""
    exponent = xp.bitcast(x, np.int32) >> 23
    return xp.bitcast((254 - exponent) << 23, x.dtype)


def _inverse_root(s: Leaf, p: int) -> Leaf:
    """s**(-1/p), by Newton's iteration y <- y (1 + (1 - s y**p) / p).

    It converges quadratically and needs no division.
    """
    if xp.is_double(s):
        return 1 / _root(s, p)
    magic = int((127 * (1 + 1 / p) - 0.06) * 2**23)  # within 3 % for every s
    y = xp.bitcast(magic - (xp.bitcast(s, np.int32) >> (p.bit_length() - 1)), s.dtype)
    for _ in range(3):
        y = y + y * ((1 - s * _power(y, p)) * (1 / p))
    return y


def _root(s: Leaf, p: int) -> Leaf:
    """s**(1/p), by square roots."""
    for _ in range(p.bit_length() - 1):
        s = xp.sqrt(s)
    return s


def _power(x: Leaf, p: int) -> Leaf:
    """x**p for a small non-negative integer, by squaring."""
    result = None
    while p:
        if p & 1:
            result = x if result is None else result * x
        x, p = x * x, p >> 1
    return xp.ones_like(x) if result is None else result


@partial(xp.rule, nondiff_argnums=(2,))
def _inverse_norm(a: Scalar, b: Scalar, p: int) -> Scalar:
    if p == 1:
        return 1 / xp.maximum(a + b, 1e-18)
    if xp.is_double(a):
        return 1 / xp.maximum(_root(_power(a, p) + _power(b, p), p), _TINY_IN_DOUBLE)
    scale = _power_of_two_below(xp.maximum(xp.maximum(a, b), _TINY))
    return scale * _inverse_root(_power(a * scale, p) + _power(b * scale, p) + _NEVER_ZERO, p)


@_inverse_norm.defjvp
def _inverse_norm_jvp(p, primals, tangents):
    (a, b), (da, db) = primals, tangents
    y = _inverse_norm(a, b, p)
    return y, -(y * _power(a * y, p - 1)) * (y * da) - (y * _power(b * y, p - 1)) * (y * db)


@partial(xp.rule, nondiff_argnums=(2,))
def _norm(a: Scalar, b: Scalar, p: int) -> Scalar:
    if xp.is_double(a):
        return _root(_power(a, p) + _power(b, p), p)
    y = _inverse_norm(a, b, p)
    # u + v is 1 + p e, e being the relative error of y: it is taken out to first order
    u, v = _power(a * y, p), _power(b * y, p)
    return (a * _power(a * y, p - 1) + b * _power(b * y, p - 1)) * (1 - (u + v - 1) * ((p - 1) / p))


@_norm.defjvp
def _norm_jvp(p, primals, tangents):
    (a, b), (da, db) = primals, tangents
    y = _inverse_norm(a, b, p)
    return _norm(a, b, p), _power(a * y, p - 1) * da + _power(b * y, p - 1) * db


@partial(xp.rule, nondiff_argnums=(2,))
def _harmonic(a: Scalar, b: Scalar, p: int) -> Scalar:
    return a * (b * _inverse_norm(a, b, p))


@_harmonic.defjvp
def _harmonic_jvp(p, primals, tangents):
    (a, b), (da, db) = primals, tangents
    y = _inverse_norm(a, b, p)
    return _harmonic(a, b, p), _power(b * y, p + 1) * da + _power(a * y, p + 1) * db


def smooth_max(a: Scalar, b: Scalar, sharpness: float = SHARPNESS) -> Scalar:
    """(a**p + b**p)**(1/p) of two non-negative times: at least the larger, at most their sum.

    Zero inputs are safe, also in derivatives of first and second order.
    """
    if sharpness == HARD:
        return xp.maximum(a, b)
    if sharpness == 1:
        return a + b
    return _norm(*_same_type(a, b), int(sharpness))


def smooth_max_slopes(a: Scalar, b: Scalar, sharpness: float = SHARPNESS) -> tuple[Scalar, Scalar]:
    """The derivatives of `smooth_max` with respect to `a` and `b`.

    (a / norm)**(p - 1) and (b / norm)**(p - 1).
    """
    if sharpness == HARD:
        first = xp.where(a > b, 1.0, xp.where(a == b, 0.5, 0.0))
        return first, 1 - first
    if sharpness == 1:
        return xp.ones_like(a), xp.ones_like(b)
    a, b = _same_type(a, b)
    y = _inverse_norm(a, b, int(sharpness))
    return _power(a * y, int(sharpness) - 1), _power(b * y, int(sharpness) - 1)


def smooth_min(a: Scalar, b: Scalar, sharpness: float = SHARPNESS) -> Scalar:
    """(a**-p + b**-p)**(-1/p) = a b / smooth_max(a, b) of two non-negative times.

    It is at most the smaller, and 0 when either is. At sharpness 1 (times add, nothing is chosen)
    it is the harmonic sum a b / (a + b). It is associative, so that more than two times are folded
    pairwise.
    """
    if sharpness == HARD:
        return xp.minimum(a, b)
    return _harmonic(*_same_type(a, b), int(sharpness))


def smooth_min_slopes(a: Scalar, b: Scalar, sharpness: float = SHARPNESS) -> tuple[Scalar, Scalar]:
    """The derivatives of `smooth_min` with respect to `a` and `b`.

    (b / norm)**(p + 1) and (a / norm)**(p + 1), with the norm of `smooth_max`.
    """
    if sharpness == HARD:
        first = xp.where(a < b, 1.0, xp.where(a == b, 0.5, 0.0))
        return first, 1 - first
    a, b = _same_type(a, b)
    y = _inverse_norm(a, b, int(sharpness))
    return _power(b * y, int(sharpness) + 1), _power(a * y, int(sharpness) + 1)


def _same_type(a, b):
    dtype = xp.result_type(a, b, np.float32)
    return xp.asarray(a, dtype), xp.asarray(b, dtype)


@xp.rule
def inverse(x: Leaf) -> Leaf:
    """1 / x for x > 0, by Newton steps.

    XLA's CPU backend computes it anew in every fusion that needs it, which it does not do for a
    division.
    """
    return _inverse_root(x, 1)


@inverse.defjvp
def _inverse_jvp(primals, tangents):
    y = inverse(primals[0])
    return y, -(y * y) * tangents[0]


@xp.rule
def hypotenuse(a: Leaf, b: Leaf) -> Leaf:
    """sqrt(a**2 + b**2).

    XLA's CPU backend stores a square root instead of computing it anew in every fusion that needs
    it. That is cheap for the value. The slopes, which are many more, take Newton steps like
    `inverse`.

    Arguments:
        a: non-negative, at most 1e18.
        b: non-negative, at most 1e18; the larger of both must be at least 1e-18.
    """
    return xp.sqrt(a * a + b * b)


@hypotenuse.defjvp
def _hypotenuse_jvp(primals, tangents):
    (a, b), (da, db) = primals, tangents
    s = a * a + b * b
    y = _inverse_root(s, 2)
    return s * y, (a * y) * da + (b * y) * db


@xp.rule
def straight_through_ceil(x: Scalar) -> Scalar:
    """ceil(x) with the derivative of x.

    Rounding up is exact, and an optimizer still feels the slope.
    """
    return xp.ceil(x)


@straight_through_ceil.defjvp
def _straight_through_ceil_jvp(primals, tangents):
    return xp.ceil(primals[0]), tangents[0]


def ceil_share(total: Scalar, reciprocal: Scalar) -> Scalar:
    """ceil(total / ranks), the largest share, given 1 / ranks.

    Exact for integers up to 1e6: the guard of 4e-7 is above float32's rounding of the product and
    well below 1 / total.
    """
    return straight_through_ceil(total * reciprocal * (1 - 4e-7))


def share_of(total: Scalar, reciprocal: Scalar, smooth: bool) -> Scalar:
    """The largest share of a total, which is of whole requests or tokens unless it is `smooth`.

    A smooth share is total / ranks, and at least 1. It equals the rounded one where the ranks
    divide the total, and between these points it has the slope of the whole stairs.

    Arguments:
        total: what is shared.
        reciprocal: 1 / ranks.
        smooth: whether the total is a continuous variable (`Scenario.smooth_batch`).
    """
    return xp.maximum(total * reciprocal, 1.0) if smooth else ceil_share(total, reciprocal)


def smooth_ceil(x: Leaf) -> Leaf:
    """The mean of the stairs of ceil(x): x + 1/2, but 1 where x is small."""
    return smooth_max(x + 0.5, xp.ones_like(x))


def once(x: Scalar, at_most_one: Scalar) -> Scalar:
    """`x`, computed once for all its uses.

    XLA's CPU backend has no multi-output fusion: a sum over operators with several consumers is
    computed anew in each of them. It does not duplicate divisions, though, and cannot know that
    max(at_most_one, 1) is 1. This is exact, and worth a factor of 2 in gradients.

    Arguments:
        x: what to compute once.
        at_most_one: any number of the configuration that is at most 1, such as 1 / ranks.
    """
    return x / xp.maximum(xp.stop_gradient(at_most_one), 1.0)


def twice(a: Scalar, b: Scalar, at_most_one: Scalar) -> tuple[Scalar, Scalar]:
    """`a` and `b`, each computed once for all its uses, and both in one fusion.

    A fusion of XLA's CPU backend has one result, so that two numbers which come of the same
    intermediate ones take twice the work. A complex number is one result, though, and costs no more
    than a real one. XLA takes real and imaginary parts of a sum or a product of complex numbers
    apart again, and those of a division it does not. The division is by 1, as in `once`, and exact.

    Arguments:
        a, b: what to compute once, both finite.
        at_most_one: any number of the configuration that is at most 1, such as 1 / ranks.
    """
    a, b = _same_type(a, b)
    one = jnp.maximum(jax.lax.stop_gradient(at_most_one), 1.0).astype(a.dtype)
    both = jax.lax.complex(a, b) / jax.lax.complex(one, jnp.zeros_like(one))
    return jnp.real(both), jnp.imag(both)


def as_leaf(x) -> Leaf:
    """`x` as a floating-point number: of NumPy where it is not JAX's already.

    Every numeric field of a record goes through this; counts too, since int32 overflows under jit.

    Arguments:
        x: a number or an array of Python, NumPy (float64 becomes the default float) or JAX.

    Raises:
        InputError: it is text.
    """
    if isinstance(x, str):
        raise InputError(
            f"{x!r} is text; a record takes a plain number in SI, such as 8e12 for 8 TB/s"
        )
    if type(x) is np.float32:
        return x
    if isinstance(x, float | int | np.ndarray | np.generic):
        with np.errstate(over="ignore"):  # infinity, which records may refuse
            numbers = np.asarray(x)
            kept = isinstance(x, np.ndarray) and numbers.dtype == np.float32
            return (numbers if kept else numbers.astype(xp.default_float()))[()]
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.floating):
        return x
    return jnp.asarray(x, dtype=float)
