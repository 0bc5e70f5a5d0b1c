"""Latencies of measured runs as functions of what an engine adds.

What a host adds to iterations, and their pace, change the steady state of a server: `serve` or
`replay` are asked, and asked again nearby for their slopes, and between them seconds are straight
lines, drawn anew where a fit has moved. Launches of prompts bind some iterations and not others:
they are asked at several knots, and between knots there are straight lines. What is added to a
request, and tokens sent at once, add to these seconds as `Host` says. Batches are written out.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from diffgenz.calibrating.end_to_end.terms import NAMES
from diffgenz.core import xp
from diffgenz.core.verb import as_if_traced
from diffgenz.scenario.scenario import Scenario
from diffgenz.serving.engine_state import EngineState
from diffgenz.serving.figures import engine_means
from diffgenz.serving.host import Host
from diffgenz.serving.load import Engine, Load
from diffgenz.serving.replay import replay
from diffgenz.serving.request_log import Requests
from diffgenz.serving.saturation import FILLED, saturation_of

METRICS = ("ttft", "tpot", "end_to_end")
"""What is predicted of a run, in this order."""

INSIDE = tuple(NAMES.index(name) for name in ("host_seconds", "layer_seconds", "pace"))
"""Places of the terms that change iterations."""

_STEPS = np.array([2e-4, 1e-5, 0.02])
"""By how much those are changed for slopes, in SI."""

_KNOTS = np.array([0.0, 0.3e-3, 0.7e-3, 1.5e-3, 4e-3])
"""Launches of a layer of prompts, in s, at which seconds are asked for."""

_FIRST = 0.1e-3
"""One knot more, where the fit has none of its own yet."""

_FEW = 48
"""Runs under a load for which compiling a program takes longer than NumPy."""


class Served(NamedTuple):
    """A run under a load: one engine without its host, and the layers of its model."""

    state: EngineState
    load: Load
    layers: Any


class Logged(NamedTuple):
    """A log of requests, and what serves them."""

    log: Requests
    case: Scenario
    engine: Engine


class Batch(NamedTuple):
    """Requests that arrive together.

    Arguments:
        first: s of the prefill, by the kernels alone.
        between: s between tokens.
        pieces: iterations of the prefill.
        layers: of the model.
    """

    first: float
    between: float
    pieces: float
    layers: float


Run = Served | Logged | Batch


class Lines(NamedTuple):
    """Seconds of some runs near a point; one row for each.

    Arguments:
        at: the host's s of an iteration and of a layer, and the pace; shape (3,).
        knots: the host's s of a layer of prompts; shape (knots,).
        seconds: of TTFT and TPOT there, before anything is sent; shape (runs, 2, knots).
        slopes: of these by the three; shape (runs, 2, 3).
        batch: 1 where a run is a batch, which `pieces` and `layers` describe; shape (runs,).
        pieces: iterations of the prefill; shape (runs,).
        layers: of the model; shape (runs,).
        steps: tokens after the first; shape (runs,).
        waits: iterations before the server looks at a request; shape (runs,).
    """

    at: Any
    knots: Any
    seconds: Any
    slopes: Any
    batch: Any
    pieces: Any
    layers: Any
    steps: Any
    waits: Any

    def logs(self, values: Any, extra: Any) -> Any:
        """ln of the metrics; of NumPy's or JAX's numbers.

        Arguments:
            values: of `terms.TERMS`; shape (terms,).
            extra: ln of what multiplies the pace of each run, and ln of what multiplies all that
                its host adds; shape (runs, 2).

        Returns:
            Shape (runs, metrics).
        """
        named = dict(zip(NAMES, values, strict=True))
        pace, longer = named["pace"] * xp.exp(extra[:, 0]), xp.exp(extra[:, 1])
        iteration, layer = longer * named["host_seconds"], longer * named["layer_seconds"]
        prompts = longer * named["prompt_layer_seconds"]
        host = Host(iteration, self.layers * layer, pace=pace, prompts=self.layers * prompts)
        first, between = self.seconds[:, 0, 0], self.seconds[:, 1, 0]
        moved = (iteration - self.at[0], layer - self.at[1], pace - self.at[2])
        found = []
        for place, exact in enumerate(
            (self.pieces * host.on(first / self.pieces, prompts=True), host.on(between))
        ):
            here = self._between_knots(place, prompts)
            line = here + sum(self.slopes[:, place, i] * each for i, each in enumerate(moved))
            line = xp.where(line > 0.05 * here, line, 0.05 * here)
            found.append(xp.where(self.batch > 0, exact, line))
        request, interval = longer * named["request_seconds"], named["stream_interval"] - 1
        sent = Host(0.0, request=request, interval=1 + longer * interval)
        waited = self.waits * found[1]
        ttft = found[0] + sent.delay(found[1], self.steps) + waited
        whole = found[0] + request + waited + self.steps * found[1]
        kept = sent.kept(self.steps)
        kept = xp.where(kept > 1e-3, kept, 1e-3)
        return xp.log(xp.stack([ttft, found[1] * kept, whole]).T)

    def _between_knots(self, place: int, prompts: Any) -> Any:
        """Seconds of one latency of each run, whose layers of prompts take so long to launch."""
        found = self.seconds[:, place, 0]
        last = self.seconds.shape[-1] - 2
        for at in range(last + 1):
            width = self.knots[at + 1] - self.knots[at]
            rise = (self.seconds[:, place, at + 1] - self.seconds[:, place, at]) / width
            beyond = prompts - self.knots[at]
            beyond = xp.where(beyond > 0, beyond, 0.0)
            if at < last:
                beyond = xp.where(beyond < width, beyond, width)
            found = found + rise * beyond
        return found


def lines_of(runs: Sequence[Run], steps: np.ndarray, values: np.ndarray) -> Lines:
    """The seconds of some runs near a point.

    Arguments:
        runs: the runs.
        steps: tokens after the first; shape (runs,).
        values: the point, of `terms.TERMS`; shape (terms,).
    """
    at, prompts = values[list(INSIDE)], values[NAMES.index("prompt_layer_seconds")]
    knots = np.sort(np.append(_KNOTS, prompts if prompts > 0 else _FIRST))
    here = np.stack([_seconds(runs, at, knot) for knot in knots], -1)
    middle = here[..., np.searchsorted(knots, prompts)]
    slopes = np.zeros((*middle.shape, 3))
    for place in (0, 2):  # launches of layers only bind batches, which are exact
        beside = at.copy()
        beside[place] += _STEPS[place]
        slopes[..., place] = (_seconds(runs, beside, prompts) - middle) / _STEPS[place]
    layers = [run.layers if isinstance(run, Batch) else 1.0 for run in runs]
    pieces = [run.pieces if isinstance(run, Batch) else 1.0 for run in runs]
    batch = np.array([float(isinstance(run, Batch)) for run in runs])
    waits = np.array([_wait_of(run) for run in runs])
    return Lines(at, knots, here, slopes, batch, np.array(pieces), np.array(layers), steps, waits)


def _wait_of(run: Run) -> float:
    """Iterations before the server of a run looks at a request; those of logs are replayed."""
    wait = run.state.host.wait if isinstance(run, Served) else None
    return 0.0 if wait is None else float(wait)


def _seconds(runs: Sequence[Run], inside: np.ndarray, prompts: float) -> np.ndarray:
    """s of TTFT and TPOT of each run, before anything is sent; of batches by the kernels alone.

    Arguments:
        runs: the runs.
        inside: the terms of `INSIDE`; shape (3,).
        prompts: s in which the host launches a layer of prompts.
    """
    at = np.append(inside, prompts)
    found = np.empty((len(runs), 2))
    served = [place for place, run in enumerate(runs) if isinstance(run, Served)]
    compiled = len(served) > _FEW
    if compiled:
        for places, columns in _stacked(runs, served):
            means = _many(columns, at)
            found[places] = np.asarray(means)[: len(places)]
    for place, run in enumerate(runs):
        if isinstance(run, Batch):
            found[place] = run.first, run.between
        elif isinstance(run, Logged):
            engine = run.engine.replace(host_seconds=at[0], pace=at[2], prompt_layer_seconds=at[3])
            seen = replay(run.case, *run.log, engine)
            found[place] = seen.ttft.mean(), np.nanmean(seen.tpot)
        elif not compiled:
            with as_if_traced():
                found[place] = _one(run, at)
    return found


def _one(run: Served, at: Any) -> Any:
    """s of TTFT and TPOT of one run."""
    state = run.state
    host = Host(at[0], at[1] * run.layers, pace=at[2], prompts=at[3] * run.layers)
    table = state.table.changed(host.on)
    most = saturation_of(table, state.demand, state.slots, state.most.cache / FILLED)
    new = EngineState(
        state.demand, state.demand, table, most, state.slots, state.fit, state.engines
    )
    means = engine_means(new, new.under(run.load), run.load)
    return xp.stack([means.ttft, means.tpot])


@eqx.filter_jit
def _many(runs: Any, at: Any) -> Any:
    return jax.vmap(_one, in_axes=(0, None))(runs, at)


def _stacked(runs: Sequence[Run], places: list[int]) -> list[tuple[np.ndarray, Any]]:
    """Runs of one structure, stacked and padded to a power of four; and where they were."""
    kinds: dict[Any, dict[int, Served]] = {}
    for place in places:
        run = runs[place]
        assert isinstance(run, Served)
        state = run.state
        known = state.demand, state.demand, state.table, state.most
        lean = run._replace(state=EngineState(*known, state.slots, state.fit, state.engines))
        leaves, structure = jax.tree.flatten(lean)
        key = structure, tuple(np.shape(leaf) for leaf in leaves)
        kinds.setdefault(key, {})[place] = lean
    found = []
    for mine in kinds.values():
        size = 64
        while size < len(mine):
            size *= 4
        leans = list(mine.values())
        chosen = [*leans, *[leans[-1]] * (size - len(mine))]
        columns = jax.tree.map(lambda *each: np.stack([np.float64(x) for x in each]), *chosen)
        found.append((np.array(list(mine)), columns))
    return found
