"""Collectives that fall back to another kernel from some number of ranks on, under one label.

An engine's own all-reduce gives way to a library's where its ranks no longer share memory, and
tables may not say so. Small messages show it: more ranks start later, but no sooner than one more
hop each. A ring of n ranks has n - 1 hops, the most that any algorithm has, and part of the time
does not depend on ranks at all. Where small messages of n' ranks take more than
(n' - 1) / (n - 1) times as long as those of n < n' ranks do, and than `MARGIN` of noise explains,
another kernel took over. The rows from there on are left out, and counted.
"""

from itertools import pairwise

import numpy as np

from diffgenz.calibrating.samples import Samples
from diffgenz.kernels.shapes import CollectiveShape

MARGIN = 1.15
"""How much longer than hops explain small messages may take."""

SMALL = 0.25
"""Share of the volumes that count as small."""


def of_one_kernel(samples: Samples) -> Samples:
    """The rows of a collective without those of the kernel that it falls back to.

    Arguments:
        samples: rows of a kernel; those of other families are returned as they are.
    """
    if not isinstance(samples.shape, CollectiveShape):
        return samples
    ranks, volumes = (np.asarray(column) for column in samples.shape)
    starts = {n: _start(volumes, samples.seconds, ranks == n) for n in np.unique(ranks).tolist()}
    counts = [n for n in starts if n > 1]
    for fewer, more in pairwise(counts):
        longer = starts[more] / starts[fewer]
        hops = (more - 1) / (fewer - 1)
        if longer > MARGIN * hops:
            why = (
                f"from {more:.0f} ranks on another kernel (small messages take {longer:.1f} times "
                f"as long as on {fewer:.0f}, hops explain {hops:.1f})"
            )
            return samples.only(ranks < more, why)
    return samples


def _start(volumes: np.ndarray, seconds: np.ndarray, chosen: np.ndarray) -> float:
    """The median time of small messages, in s."""
    small = volumes <= np.quantile(volumes[chosen], SMALL)
    return float(np.median(seconds[chosen & small]))
