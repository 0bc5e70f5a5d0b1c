"""Disaggregated serving: prefill on one pool of workers, decode on another (DistServe).

The KV cache is sent from the prefill worker to the decode worker (arXiv 2401.09670). A prefill
worker takes one request at a time, and a decode worker as many as the workload's batch. In steady
state, the two sides and the link between them sustain these requests per second:

    prefill   workers / ttft of one request
    transfer  link bandwidth / KV cache of one prompt
    decode    workers x batch / ((output_tokens - 1) x tpot)
"""

import equinox as eqx
import numpy as np

from diffgenz.core import xp
from diffgenz.core.checks import check, demand
from diffgenz.core.record import Record, number
from diffgenz.core.smooth import Leaf, Scalar
from diffgenz.core.tree import Tree
from diffgenz.hardware.platform import Platform
from diffgenz.inference.estimate import estimate
from diffgenz.models.model import Model
from diffgenz.models.mtp import mtp_module
from diffgenz.operators.step import Step
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario, demand_scenario, prompted
from diffgenz.scenario.serving_options import MTP

STAGES = ("prefill", "transfer", "decode")
"""The stages that a request goes through, in order."""


class Pool(Record):
    """Equal workers, each a platform under a plan.

    Arguments:
        platform: the platform of one worker.
        plan: the plan of one worker.
        workers: how many there are, above 0.

    Raises:
        InputError: no workers, infinitely many, or NaN.
    """

    platform: Platform
    plan: Parallelism = eqx.field(default_factory=Parallelism)
    workers: Leaf = number(above=0, default=1.0)


class Disaggregated(Tree):
    """The latency and the sustained rates of disaggregated serving.

    Arguments:
        ttft: s until the first token of a request that waits for no other: its prefill, then the
            transfer of its KV cache.
        tpot: s between tokens of one request on a full decode worker.
        transfer: s of ttft that the transfer takes.
        kv_cache: B of KV cache that are sent for one prompt: those of all layers and heads, with
            those of what drafts, and without what both sides have cached.
        sustained: requests/s of each of `STAGES`, shape (3,).
        prefill_per_decode: prefill workers for each decode worker, such that both sides sustain the
            same rate.
    """

    ttft: Leaf
    tpot: Leaf
    transfer: Leaf
    kv_cache: Leaf
    sustained: Leaf
    prefill_per_decode: Leaf

    @property
    def requests_per_second(self) -> Leaf:
        """Requests/s of all stages together, which are those of the slowest stage."""
        return self.sustained.min(axis=-1)

    @property
    def bottleneck(self) -> str:
        """The slowest of `STAGES`, for one concrete configuration (not traced or batched)."""
        return STAGES[int(np.argmin(np.asarray(self.sustained)))]


def disaggregate(
    case: Scenario,
    prefill: Pool,
    decode: Pool,
    *,
    link_bandwidth: Leaf | float,
    link_latency: Leaf | float = 0.0,
) -> Disaggregated:
    """Latency and sustained requests/s of a scenario whose prefill and decode have separate pools.

    Arguments:
        case: the question. Its batch is that of one decode worker, and the pools take the place of
            its platform and plan. Both sides have what a prompt finds cached, so that only the rest
            is sent.
        prefill: the workers that prefill.
        decode: the workers that decode.
        link_bandwidth: B/s from all prefill workers to all decode workers, above 0.
        link_latency: s of one transfer besides its bytes, at least 0.

    Raises:
        InputError: a link without bandwidth, a negative latency, or what `Scenario` refuses.
    """
    demand_scenario(case)
    for name, pool in (("prefill", prefill), ("decode", decode)):
        demand(name, pool, Pool, "Pool(platform, plan, workers)")
    check("link_bandwidth", link_bandwidth, exclusive=True, finite=False)
    check("link_latency", link_latency)
    workload, hit = case.workload, case.serving.prefix_hit
    one = workload.replace(batch=1.0)
    first = estimate(case.replace(platform=prefill.platform, plan=prefill.plan, workload=one))
    rest = estimate(case.replace(platform=decode.platform, plan=decode.plan))
    kv_cache = prompt_cache(prompted(case))
    draft = case.serving.draft
    if isinstance(draft, MTP):
        kv_cache = kv_cache + prompt_cache(prompted(case), mtp_module(case.model))
    elif draft is not None and draft.platform is None:
        its = prompted(case).replace(precision=draft.precision)
        kv_cache = kv_cache + prompt_cache(its, draft.model)
    if hit is not None:
        kv_cache = kv_cache * xp.maximum(1 - hit, 1 / workload.input_tokens)
    transfer = link_latency + kv_cache / link_bandwidth
    prefills = 1 / first.ttft
    decodes = workload.batch / (xp.maximum(workload.output_tokens - 1, 1.0) * rest.tpot)
    return Disaggregated(
        ttft=first.ttft + transfer,
        tpot=rest.tpot,
        transfer=transfer,
        kv_cache=kv_cache,
        sustained=xp.stack(
            [prefill.workers * prefills, link_bandwidth / kv_cache, decode.workers * decodes]
        ),
        prefill_per_decode=decodes / prefills,
    )


def prompt_cache(case: Scenario, model: Model | None = None) -> Scalar:
    """B of KV cache that the prompt of one request leaves in all layers and heads.

    Arguments:
        case: the scenario, with images as part of the prompt (`prompted`).
        model: the model whose cache it is. Default: that of the scenario.
    """
    model, one = model or case.model, xp.ones(())
    prompt = Step(one, case.workload.input_tokens, xp.zeros(()), one, case.precision)
    operators = model.layer_operators(prompt)
    return sum((xp.asarray(op.repeats * op.cached) for op in operators), start=xp.zeros(()))
