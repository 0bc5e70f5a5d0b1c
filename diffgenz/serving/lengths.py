"""How long prompts and answers are: all alike, lognormal, or as in a trace.

Formulas take means over lengths as sums over a few nodes, each with its weight.
"""

import abc
import itertools
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri

from diffgenz.core import xp
from diffgenz.core.checks import check
from diffgenz.core.errors import InputError
from diffgenz.core.record import Record, number
from diffgenz.core.smooth import Leaf, Scalar

_GAUSS = [each.tolist() for each in np.polynomial.hermite_e.hermegauss(5)]
"""Nodes and weights of a normal variable; no array, which JAX would keep in the precision that it
meets it in first."""

_FINE = 13
"""Bins of equal probability of a distribution's body, of which the last is cut further. None of
P50, P90 and P99 is at an edge."""

_EDGES = np.concatenate([np.arange(_FINE) / _FINE, [0.96, 0.985, 0.995, 1.0]])


class Nodes(NamedTuple):
    """A distribution of tokens as a few numbers of tokens and their probabilities.

    Arguments:
        tokens: shape (nodes,).
        weights: probabilities, which sum to 1; shape (nodes,).
    """

    tokens: Any
    weights: Any

    def mean(self, values: Any) -> Scalar:
        """The mean of what has these values at the nodes."""
        return (self.weights * values).sum()


class Lengths(Record):
    """A distribution of the tokens of prompts, or of answers."""

    @abc.abstractmethod
    def nodes(self, mean: Leaf) -> Nodes:
        """Nodes whose first moments are those of the distribution.

        Arguments:
            mean: tokens, where the distribution has no mean of its own.
        """

    @abc.abstractmethod
    def quantiles(self, mean: Leaf) -> Nodes:
        """Nodes of which many are in the tail, for percentiles; as `nodes`."""


class Constant(Lengths):
    """All are as long as the workload says."""

    def nodes(self, mean: Leaf) -> Nodes:
        return Nodes(mean * np.ones(1), np.ones(1))

    quantiles = nodes


class Lognormal(Lengths):
    """Lognormal lengths, of the mean that the workload says.

    Arguments:
        sigma: the standard deviation of the logarithm, at least 0; lengths of people's chats have
            about 1.
    """

    sigma: Leaf = number(default=0.7)

    def nodes(self, mean: Leaf) -> Nodes:
        at, weights = np.array(_GAUSS)
        return Nodes(self._at(mean, at), weights / weights.sum())

    def quantiles(self, mean: Leaf) -> Nodes:
        tokens = self._at(mean, ndtri((_EDGES[1:] + _EDGES[:-1]) / 2))
        weights = np.diff(_EDGES)
        return Nodes(tokens * mean / (weights * tokens).sum(), weights)

    def _at(self, mean: Leaf, z: np.ndarray) -> Any:
        return mean * xp.exp(self.sigma * z - self.sigma * self.sigma / 2)


class Empirical(Lengths):
    """Lengths as in a trace, in whatever order; its mean takes the place of the workload's.

    Arguments:
        lengths: tokens of each request, each at least 1.

    Raises:
        InputError: no numbers, or one below 1.
    """

    tokens: Any  # means of bins
    weights: Any

    def __init__(self, lengths: Any):
        ordered = np.sort(np.asarray(lengths, dtype=float).ravel())
        if ordered.size == 0:
            raise InputError("lengths: a trace of no requests; give the length of each")
        check("lengths", ordered, minimum=1.0)
        at = np.unique(np.round(_EDGES * ordered.size).astype(int))
        parts = [ordered[a:b] for a, b in itertools.pairwise(at)]
        self.tokens = np.array([part.mean() for part in parts])
        self.weights = np.array([part.size for part in parts]) / ordered.size

    def nodes(self, mean: Leaf) -> Nodes:
        return Nodes(self.tokens, self.weights)

    quantiles = nodes
