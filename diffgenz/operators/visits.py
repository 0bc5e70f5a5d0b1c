"""How many ranks or nodes hold the experts of one token, and how many experts tokens reach.

By itself a router picks experts anywhere: tokens are independent (`reached`), and the experts of
one token are different ones. A group-limited router
(DeepSeek-V2 and V3, arXiv 2405.04434, section 2.2.2, and 2412.19437, section 2.1.2) first keeps the
groups of neighbouring experts in which the best ones are, and picks among those of these groups
(`visited`).
"""

import math

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.core.tree import Tree


class GroupLimit(Tree):
    """How many groups of neighbouring experts a token's experts are in.

    Arguments:
        groups: groups of equally many experts, at least 1.
        used: groups that a token's experts are in, in [1, groups].
    """

    groups: Scalar
    used: Scalar


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


def visited(
    parts: Scalar | float,
    holders: Scalar,
    picks: Scalar,
    experts: Scalar,
    limit: GroupLimit | None = None,
) -> Scalar:
    """The expected number of `parts` that hold at least one of a token's experts.

    A token's k experts are different ones of all E. The i-th of those drawn is one of E - i + 1,
    of which each holder that has none so far has E / n; with the mean of these numbers,

        parts (1 - (1 - E / (n (E - (k - 1) / 2)))**k)

    (within 0.1 % of the hypergeometric formula where a token uses up to an eighth of the experts).

    Under a limit of g of G groups, each of the g holds one of the k experts, since it was chosen
    for its best; the others are anywhere in the g groups. Groups are laid over the n holders in
    order. Where a group is m = n / G >= 1 holders,

        g m (1 - (1 - 1 / m) (1 - 1 / (g m))**(k - g))

    hold an expert. Where a holder has b = G / n >= 1 whole groups, it is visited unless all g are
    among the other G - b. For counts between, both formulas are smooth, and they meet at n = G. A
    limit never adds visits to those without one, which are few where k is hardly above g.

    Arguments:
        parts: ranks or nodes, one for each holder, or several, which have the same experts;
            1 for the probability that one part is among them.
        holders: parts with experts of their own.
        picks: experts k of a token, all different.
        experts: routed experts E.
        limit: of the groups that they are in; None: they may be anywhere.
    """
    anywhere = reached(parts, 1 / (holders * (1 - 0.5 * (picks - 1) / experts)), picks)
    if limit is None:
        return anywhere
    blocks = xp.minimum(holders, limit.groups)
    block_groups, block_holders = limit.groups / blocks, holders / blocks
    block_share = 1 / block_holders
    others = xp.maximum(picks - limit.used, 0.0)
    found = 1 - block_share  # 0 where a group has one holder, whatever the power beside it
    missed = found * (1 - xp.minimum(block_share / limit.used, 1 - 1e-6)) ** others
    within = parts / blocks * (1 - missed)
    limited = blocks * (1 - _none_of(limit.groups, limit.used, block_groups)) * within
    return xp.minimum(anywhere, limited)


def _none_of(whole: Scalar, drawn: Scalar, marked: Scalar) -> Scalar:
    """The probability that none of `marked` is among those drawn from a whole, without return.

        (whole - marked)! (whole - drawn)! / (whole! (whole - marked - drawn)!)

    It is smooth in between whole numbers, and 0 where fewer are left than are drawn.
    """
    left = xp.maximum(whole - marked - drawn, -1.0)
    above, below = (whole - marked, whole - drawn), (whole, left)
    logarithm = sum(map(_log_factorial, above)) - sum(map(_log_factorial, below))
    return xp.exp(logarithm) * math.prod(map(_rise, below)) / math.prod(map(_rise, above))


def _rise(x: Scalar) -> Scalar:
    """(x + 3)! / x!"""
    return (x + 1) * (x + 2) * (x + 3)


def _log_factorial(x: Scalar) -> Scalar:
    """ln (x + 3)! for x >= -1, by Stirling's series, to 3e-5."""
    y = x + 3
    series = 1 / (12 * y) - 1 / (360 * y * y * y)
    return (y + 0.5) * xp.log(y) - y + 0.5 * math.log(2 * math.pi) + series
