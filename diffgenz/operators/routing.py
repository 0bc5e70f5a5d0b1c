"""Which experts tokens go to: how many of several parts are reached by independent draws."""

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar


def reached(parts: Scalar | float, share: Scalar, draws: Scalar) -> Scalar:
    """The expected number of `parts` that at least one of several draws reaches.

        parts (1 - (1 - share)**draws)

    The parts are experts that tokens reach, or ranks and nodes that the experts of a token are on.

    Arguments:
        parts: how many there are, all equally likely.
        share: the probability that one draw reaches a given part, in [0, 1].
        draws: how many draws there are.
    """
    missed = xp.minimum(share, 1 - 1e-6)  # log1p(-1) would be infinite
    return -parts * xp.expm1(draws * xp.log1p(-missed))
