"""Disaggregated serving (DistServe, arXiv 2401.09670): prefill on one pool of workers, decode on another, the KV cache sent in between.

Prefill workers take one request at a time, decode workers as many as the workload's batch. In steady state each side, and the link, sustains so
many requests per second:

    prefill   workers / ttft of one request
    transfer  link bandwidth / KV cache of one prompt
    decode    workers x batch / ((output_tokens - 1) x tpot)
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from diffgenz.core.checks import check
from diffgenz.core.record import Record
from diffgenz.core.smooth import SHARPNESS, Leaf, Scalar, as_leaf
from diffgenz.hardware.platform import Platform
from diffgenz.inference.drafting import Drafter
from diffgenz.inference.encoding import prompted
from diffgenz.inference.estimate import estimate
from diffgenz.models.model import Model
from diffgenz.operators.precision import Precision
from diffgenz.operators.step import Step
from diffgenz.scenario.parallelism import Parallelism, Workload
from diffgenz.scenario.serving_options import Serving

STAGES = ("prefill", "transfer", "decode")
"""What a request goes through."""


class Pool(Record):
    """Equal workers, each a platform under a plan.

    Arguments:
        platform, plan: of one worker. workers: how many.

    Raises:
        InputError: no workers, infinitely many, or NaN.
    """

    platform: Platform
    plan: Parallelism = eqx.field(default_factory=Parallelism)
    workers: Leaf = eqx.field(converter=as_leaf, default=1.0)

    def __check_init__(self):
        check("workers", self.workers, exclusive=True)


class Disaggregated(eqx.Module):
    """What disaggregated serving takes. Times in s.

    Arguments:
        ttft: of a request that waits for none: prefill, then the transfer of its KV cache.
        tpot: between tokens of one request on a full decode worker.
        transfer: the part of ttft that is the transfer.
        kv_cache: B of one prompt, all layers and heads, those of what drafts included: what is sent.
        sustained: requests/s of each of `STAGES`, shape (3,).
        prefill_per_decode: prefill workers for each decode worker at which both sustain the same.
    """

    ttft: Leaf
    tpot: Leaf
    transfer: Leaf
    kv_cache: Leaf
    sustained: Leaf
    prefill_per_decode: Leaf

    @property
    def requests_per_second(self) -> Leaf:
        """Requests/s of the whole: those of the slowest stage."""
        return self.sustained.min(axis=-1)

    @property
    def bottleneck(self) -> str:
        """The slowest of `STAGES`. For one concrete configuration."""
        return STAGES[int(np.argmin(np.asarray(self.sustained)))]


def disaggregate(
    model: Model,
    prefill: Pool,
    decode: Pool,
    workload: Workload,
    precision: Precision | None = None,
    *,
    link_bandwidth: Leaf | float,
    link_latency: Leaf | float = 0.0,
    serving: Serving | None = None,
    sharpness: float = SHARPNESS,
) -> Disaggregated:
    """Latency and sustained requests/s of serving `workload` with prefill and decode apart.

    Arguments:
        prefill, decode: the pools. workload: its batch is that of one decode worker.
        link_bandwidth: B/s from all prefill workers to all decode workers. link_latency: s.
        serving: as in `estimate`; what a prompt finds cached, both sides have: only the rest is sent.

    Raises:
        InputError: a link without bandwidth, a negative latency, and whatever `estimate` refuses.
    """
    check("link_bandwidth", link_bandwidth, exclusive=True, finite=False)
    check("link_latency", link_latency)
    precision = precision or Precision()
    first = estimate(
        model,
        prefill.platform,
        workload.replace(batch=1.0),
        prefill.plan,
        precision,
        serving=serving,
        sharpness=sharpness,
    )
    rest = estimate(
        model,
        decode.platform,
        workload,
        decode.plan,
        precision,
        serving=serving,
        sharpness=sharpness,
    )
    kv_cache = prompt_cache(model, prompted(model, workload), precision)
    drafter = Drafter.of(serving, model, decode.plan, precision, workload.batch)
    if drafter is not None and drafter.platform is None:
        kv_cache = kv_cache + prompt_cache(
            drafter.model, prompted(model, workload), drafter.precision
        )
    if serving is not None:
        kv_cache = kv_cache * jnp.maximum(1 - serving.prefix_hit, 1 / workload.input_tokens)
    transfer = link_latency + kv_cache / link_bandwidth
    prefills = 1 / first.ttft
    decodes = workload.batch / (jnp.maximum(workload.output_tokens - 1, 1.0) * rest.tpot)
    return Disaggregated(
        ttft=first.ttft + transfer,
        tpot=rest.tpot,
        transfer=transfer,
        kv_cache=kv_cache,
        sustained=jnp.stack(
            [prefill.workers * prefills, link_bandwidth / kv_cache, decode.workers * decodes]
        ),
        prefill_per_decode=decodes / prefills,
    )


def prompt_cache(model: Model, workload: Workload, precision: Precision) -> Scalar:
    """B of KV cache that the prompt of one request leaves, over all layers and heads."""
    prompt = Step(jnp.ones(()), workload.input_tokens, jnp.zeros(()), jnp.ones(()), precision)
    return sum(
        (jnp.asarray(op.repeats * op.cached) for op in model.layer_operators(prompt)),
        start=jnp.zeros(()),
    )
