"""What can be fitted of an engine: its terms, each with a unit, a start, and a value when off."""

from typing import NamedTuple

import numpy as np


class Term(NamedTuple):
    """One number of an engine that measurements may say.

    Arguments:
        name: of the field of `serving.load.Engine`.
        what: in words, for people.
        unit: of what people read.
        scale: of 1 in SI, in that unit.
        start: where a fit starts, in SI: the centre of its prior.
        spread: of the prior, as a standard deviation of the logarithm.
        off: its value where it is not fitted.
    """

    name: str
    what: str
    unit: str
    scale: float
    start: float
    spread: float
    off: float


TERMS: tuple[Term, ...] = (
    Term("request_seconds", "host time of a request", "ms", 1e3, 30e-3, 2.0, 0.0),
    Term("stream_interval", "tokens sent at once", "tokens", 1.0, 8.0, 1.5, 1.0),
    Term("host_seconds", "host time of an iteration", "ms", 1e3, 0.5e-3, 2.0, 0.0),
    Term("layer_seconds", "launches of a layer, eager", "ms", 1e3, 0.2e-3, 2.0, 0.0),
    Term("prompt_layer_seconds", "launches of a layer, prompts", "ms", 1e3, 0.5e-3, 1.5, 0.0),
    Term("pace", "accelerators' time, over kernels'", "x", 1.0, 1.0, 0.3, 1.0),
)
"""Values are lognormal before they are measured, those of `stream_interval` above 1."""

NAMES = tuple(term.name for term in TERMS)
LEAST = np.array([1.0 if term.name == "stream_interval" else 0.0 for term in TERMS])
"""What values exceed."""

STARTS = np.array([term.start for term in TERMS])
CENTRES = np.log(STARTS - LEAST)
SPREADS = np.array([term.spread for term in TERMS])
OFF = np.array([term.off for term in TERMS])
