"""How many of several things are drawn at least once: experts by tokens, ranks and nodes by the experts on them."""

import jax.numpy as jnp

from diffgenz.core.smooth import Scalar


def reached(parts: Scalar | float, share: Scalar, draws: Scalar) -> Scalar:
    """The expected number of `parts` that any of `draws` reaches: n (1 - (1 - share)**draws).

    Arguments:
        share: the probability that a draw reaches a part.
    """
    missed = jnp.minimum(share, 1 - 1e-6)  # all: log1p would be infinite
    return -parts * jnp.expm1(draws * jnp.log1p(-missed))
