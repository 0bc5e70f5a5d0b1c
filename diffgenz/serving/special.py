"""Distribution functions, of SciPy or JAX, whichever calculates."""

from typing import Any

import jax
import scipy.special

from diffgenz.core import xp


def normal_cdf(x: Any) -> Any:
    """The probability that a standard normal variable is at most x."""
    return jax.scipy.special.ndtr(x) if xp.is_jax(x) else scipy.special.ndtr(x)


def gamma_tail(shape: Any, x: Any) -> Any:
    """The probability that a gamma variable of scale 1 exceeds x, above 0.

    Its cube root is nearly normal (Wilson and Hilferty 1931, doi 10.1073/pnas.17.12.684): P50, P90
    and P99 are within some hundredths for shapes from 1/2, and derivatives are cheap.
    """
    root = xp.exp(xp.log(x / shape) / 3)
    return normal_cdf((1 - 1 / (9 * shape) - root) * 3 * xp.sqrt(shape))


def gamma_quantile(shape: Any, level: Any) -> Any:
    """Where `gamma_tail` is 1 - `level`, for shapes of at least 1/2.

    Arguments:
        shape: of the variable, whose scale is 1.
        level: in (0, 1), a constant.
    """
    root = 1 - 1 / (9 * shape) + scipy.special.ndtri(level) / (3 * xp.sqrt(shape))
    root = xp.where(root > 0.05, root, 0.05)
    return shape * root * root * root
