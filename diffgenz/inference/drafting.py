"""Speculation's other half: what proposes tokens, where it runs, and what its iterations take."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.smooth import Scalar, ceil_share
from diffgenz.hardware.platform import Platform
from diffgenz.inference.energy import iteration_energy
from diffgenz.inference.iteration import Iteration, Machine, iteration_times
from diffgenz.inference.prefill_decode import (
    chunk_count,
    decode_iteration,
    prefill_iteration,
    prompt_step,
)
from diffgenz.inference.timing.pipeline import Parts
from diffgenz.models.model import Model
from diffgenz.models.mtp import mtp_module
from diffgenz.operators.precision import Precision
from diffgenz.scenario.parallelism import Parallelism, Workload
from diffgenz.scenario.serving_options import MTP, Serving


class Drafter(NamedTuple):
    """A model that proposes tokens, laid out.

    Arguments:
        model, plan, precision: its own. requests: those it serves, over the attention groups of its plan.
        platform: of its own, or None where it runs on the model's.
    """

    model: Model
    plan: Parallelism
    precision: Precision
    requests: Scalar
    platform: Platform | None = None

    @classmethod
    def of(
        cls,
        serving: Serving | None,
        model: Model,
        plan: Parallelism,
        precision: Precision,
        requests: Scalar,
    ) -> "Drafter | None":
        """What drafts for `model` and the `requests` of a replica of `plan`; None where nothing does.

        A draft model is there once for each attention group, on ranks of its own choice. The model's own module takes the ranks of one stage,
        all attention groups together, as the model's layers do.
        """
        draft = None if serving is None else serving.draft
        if draft is None:
            return None
        if isinstance(draft, MTP):
            stage = plan.replace(pipeline=1.0, data=1.0)
            return cls(mtp_module(model), stage.as_structure(), precision, requests)
        return cls(
            draft.model,
            draft.plan,
            draft.precision,
            ceil_share(requests, 1 / plan.attention_data),
            draft.platform,
        )


class Drafting(eqx.Module):
    """The drafter at work: it prefills what the model prefills, then proposes tokens one by one for all requests of a replica at once.

    Arguments:
        model, plan, machine: its own. platform: where it runs. apart: whether on accelerators of its own.
        prefill, decode: its iterations.
        prefills, decodes: how often each counts in the time to first token and in the time per output token.
    """

    model: Model
    plan: Parallelism
    machine: Machine
    platform: Platform
    apart: bool = eqx.field(static=True)
    precision: Precision
    prefill: Iteration
    decode: Iteration
    prefills: Parts
    decodes: Parts

    @classmethod
    def of(
        cls, drafter: Drafter, platform: Platform, workload: Workload, serving: Serving
    ) -> "Drafting":
        """What `drafter` does for its requests."""
        assert serving.speculation is not None
        model, plan, precision, requests, own = drafter
        platform = own or platform
        prompt = prompt_step(workload, plan, precision, requests, serving)
        chunks = chunk_count(prompt, serving)
        return cls(
            model,
            plan,
            Machine.of(platform, plan, precision),
            platform,
            own is not None,
            precision,
            prefill_iteration(model, prompt, chunks),
            decode_iteration(model, prompt, workload, serving.replace(speculation=None)),
            _every_part(jnp.ones(()) if chunks is None else chunks),
            _every_part(serving.speculation.drafts / serving.speculation.tokens),
        )

    def times(self, iteration: Iteration, sharpness: float) -> Parts:
        """Seconds of each part of one of its iterations."""
        return iteration_times(iteration, self.model, self.machine, self.plan, sharpness)

    def energy(self, further: Scalar) -> Scalar:
        """J of its ranks in one attention group for the first token and `further` ones, idle power apart."""
        prefill, decode = (
            iteration_energy(i, self.model, self.platform, self.plan, self.precision)
            for i in (self.prefill, self.decode)
        )
        return self.plan.tensor * (
            self.prefills.layers * prefill + further * self.decodes.layers * decode
        )


def _every_part(times: Scalar) -> Parts:
    return Parts(times, times, times)
