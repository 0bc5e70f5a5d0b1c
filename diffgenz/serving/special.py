"""Distribution functions, of SciPy or JAX, whichever calculates."""

from typing import Any

import jax
import scipy.special

from diffgenz.core import xp


def normal_cdf(x: Any) -> Any:
    """The probability that a standard normal variable is at most x."""
    return jax.scipy.special.ndtr(x) if xp.is_jax(x) else scipy.special.ndtr(x)


def gamma_tail(shape: Any, x: Any) -> Any:
    """The probability that a gamma variable of scale 1 exceeds x."""
    if xp.is_jax(shape, x):
        return jax.scipy.special.gammaincc(shape, x)
    return scipy.special.gammaincc(shape, x)
