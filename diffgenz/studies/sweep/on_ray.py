"""Chunks of a sweep as Ray tasks (pip install "diffgenz[ray]").

Ray places them, and runs those again whose worker or machine is lost.
"""

import logging
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax

from diffgenz.core.errors import InputError
from diffgenz.studies.sweep.engine import Engine, Outcome
from diffgenz.studies.sweep.sweep import Chunks, Reducer

_ENGINES: dict[str, Engine] = {}
"""The engines of a worker process: compiled programs outlive a task."""


def on_ray(
    address: str | None = None, *, workers: int | None = None, keep: bool = False
) -> Reducer:
    """A `reducer` for `sweep` that runs on Ray.

    Arguments:
        address: of a cluster, such as "auto" or "ray://host:10001"; None: Ray is started on this
            machine, and stopped at the end.
        workers: tasks at a time. Default: as many as Ray has CPUs, or GPUs where JAX runs on them.
        keep: whether Ray is left running. Where it ran before, it always is.

    Raises:
        InputError: Ray is not installed, or there is no cluster at that address.
    """

    def reduce(engine: Engine, chunks: Sequence[tuple[int, int, int]]) -> Chunks:
        ray, ours = _started(address)
        try:
            kind = "GPU" if jax.default_backend() == "gpu" else "CPU"
            task = ray.remote(max_retries=-1, **{f"num_{kind.lower()}s": 1})(_reduced)
            shared = ray.put(engine)
            most = workers or max(int(ray.cluster_resources().get(kind, 1)), 1)
            waiting, running = list(reversed(chunks)), {}
            while waiting or running:
                while waiting and len(running) < most:
                    index, start, stop = waiting.pop()
                    running[task.remote(shared, shared.hex(), start, stop)] = index
                finished, _ = ray.wait(list(running), num_returns=1)
                for reference in finished:
                    yield running.pop(reference), partial(engine.merge, ray.get(reference))
        finally:
            if ours and not keep:
                ray.shutdown()

    return reduce


def _reduced(engine: Engine, key: str, start: int, stop: int) -> Outcome:
    """A task: the outcome of one chunk."""
    return _ENGINES.setdefault(key, engine).reduce(start, stop)


def _started(address: str | None) -> tuple[Any, bool]:
    """Ray, and whether it was started here."""
    try:
        import ray
    except ImportError:
        raise InputError(
            "engine: ray is not installed; install it with: pip install 'diffgenz[ray]'"
        ) from None
    if ray.is_initialized():
        return ray, False
    try:
        with warnings.catch_warnings():  # it forks to start its servers, which do not use JAX
            warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
            ray.init(
                address=address,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(
            f"address: {address!r} is not a Ray cluster ({error}); "
            "start one with `ray start --head`, or leave it out"
        ) from None
    return ray, True
