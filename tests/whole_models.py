"""Tiny models, one of each structure, and tables of what is said of many configurations of each.

Laws that hold for any scenario are tested on the rows of these tables: a batch of configurations
of one structure, with all metrics and the breakdown of each.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from support import SHARPNESSES, as_double, make_cluster, named_leaves, stack

from diffgenz import (
    HARD,
    MTP,
    Draft,
    Gear,
    MemoryTier,
    Model,
    Offload,
    Parallelism,
    Platform,
    Precision,
    Scenario,
    Serving,
    Speculation,
    Workload,
)
from diffgenz.core.leaves import name_of, with_parts
from diffgenz.inference.breakdown import Breakdown, breakdown_of
from diffgenz.inference.estimate import constant_ranks, estimate_of
from diffgenz.inference.jobs import jobs_of
from diffgenz.inference.metrics import metrics_of
from diffgenz.inference.resolved import resolved
from diffgenz.models.blocks.adapter import Adapter
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.latent_attention import Indexer, LatentAttention
from diffgenz.models.blocks.linear_attention import GatedDeltaNet, KimiDeltaAttention
from diffgenz.models.blocks.mamba import Mamba, Mamba2
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.moe import MoE
from diffgenz.models.blocks.norm import Norm
from diffgenz.models.model import Repeated
from diffgenz.models.vision import PatchAttention, Projector, Tower
from diffgenz.operators.routing import Traced

# ---- models

HEADS = {"heads": 16, "kv_heads": 4, "head_dim": 64}
DENSE = Model(
    "dense", 1024, 32000, (Repeated(Attention(**HEADS), 24), Repeated(MLP(intermediate=4096), 24))
)
WINDOWED = Model(
    "windowed",
    1024,
    32000,
    (
        Repeated(
            Attention(
                **HEADS,
                window=256,
                norms=2,
                query_key_norm="head",
                sinks=True,
                qkv_bias=True,
                out_bias=True,
                rotary=False,
            ),
            24,
        ),
        Repeated(MLP(intermediate=4096, norms=2), 24),
    ),
    tied=True,
)
LATENT = LatentAttention(
    heads=16, latent=128, nope_dim=64, rope_dim=32, value_dim=48, query_rank=256
)
EXPERTS = Model(
    "experts",
    1024,
    32000,
    (
        Repeated(LATENT, 12),
        Repeated(
            MoE(
                routed=64,
                used=4,
                intermediate=512,
                shared=MLP(intermediate=512, norm=None),
                shared_gate=True,
            ),
            12,
        ),
    ),
    mtp=True,
)
SPARSE = Model(
    "sparse",
    1024,
    32000,
    (
        Repeated(LATENT.replace(indexer=Indexer(4, 32, 512), query_rank=None), 12),
        Repeated(
            MoE(
                routed=64,
                used=4,
                intermediate=512,
                bias=True,
                router_bias=True,
                gated=False,
                norm=Norm.LAYER,
            ),
            12,
        ),
    ),
)
HYBRID = Model(
    "hybrid",
    1024,
    32000,
    (
        Repeated(Mamba(inner=2048, state=16, rank=64, state_norms="scaled"), 5),
        Repeated(Mamba2(heads=32, head_dim=64, groups=8, state=128), 5),
        Repeated(GatedDeltaNet(key_heads=16, key_dim=64, value_heads=32, value_dim=64), 5),
        Repeated(KimiDeltaAttention(heads=16, head_dim=128), 5),
        Repeated(Attention(**HEADS, output_gate=True, streams=2), 4, 2),
        Repeated(Adapter(rank=64, intermediate=4096), 4),
        Repeated(MLP(intermediate=4096, gated=False, bias=True, norm=None), 24),
    ),
    positions=2048,
    norm=Norm.LAYER,
    head_bias=True,
)
TOWER = Tower(
    hidden=512.0,
    layers=8.0,
    attention=PatchAttention(heads=8, head_dim=64, rotary=True),
    mlp=MLP(intermediate=2048, gated=False, bias=True),
    projectors=(
        Projector((2048, 2048, 1024), norm=Norm.LAYER, norm_width=512, count=2),
        Projector((2048, 1024)),
    ),
    image_size=448,
    patch=14,
    merge=2,
    positions=1024,
    class_token=True,
    norms=1,
    windowed=6,
    window=64,
)
SEEING = DENSE.replace(name="seeing", vision=TOWER)
SMALL = Model(
    "small", 512, 32000, (Repeated(Attention(8, 2, 64), 6), Repeated(MLP(intermediate=1536), 6))
)

# ---- scenarios

CLUSTER = make_cluster()
ROOM = CLUSTER.replace(network=(CLUSTER.network[0].replace(size=64),))
"""All accelerators on one level, which makes programs smaller."""

TIERS = (MemoryTier("near", 2e6, 2e10), MemoryTier("far", 1e12, 5e9))
CHAT = Workload(batch=12, input_tokens=1500, output_tokens=60)


def tight(platform: Platform, capacity: float) -> Platform:
    """The platform with a main memory of `capacity` B, and slower ones behind it."""
    return platform.replace(
        accelerator=platform.accelerator.replace(
            memory_capacity=capacity, memory_reserve=1e6, tiers=TIERS
        )
    )


SCENARIOS = {
    "dense": Scenario(DENSE, CLUSTER, CHAT, Parallelism(4, 2, 2, 0.3)),
    "windowed, all options": Scenario(
        WINDOWED,
        tight(ROOM, 128e6),
        CHAT,
        Parallelism(4, 2, 1, 0.3),
        Precision(weights="fp8", activations="fp8", kv_cache=Gear("int4"), messages="fp8"),
        Serving(
            700,
            0.3,
            Speculation(3, 0.6, Draft(SMALL, 2, Precision(kv_cache="fp8"))),
            2,
            Offload.WEIGHTS,
        ),
    ),
    "experts, own module": Scenario(
        EXPERTS,
        tight(CLUSTER, 350e6),
        CHAT.replace(batch=200),
        Parallelism(2, 2, 1, 0.3, 16, 8),
        serving=Serving(speculation=Speculation(3, 0.6, MTP()), offload=Offload.KV_CACHE),
        routing=Traced(1.3, 1.2, 0.5, far=0.8, near=0.9, remote=0.9, pair=1.2, wire=1.1),
    ),
    "sparse, shared context": Scenario(
        SPARSE,
        ROOM,
        CHAT,
        Parallelism(2, 2, 1, 0.3, 4, 2, context=4, sequence=1),
        Precision(kv_cache="fp8"),
        Serving(None, 0.2, Speculation(2, 0.7), 3),
    ),
    "hybrid": Scenario(
        HYBRID, ROOM, CHAT, Parallelism(4, 2, 2, 0.3), Precision(weights="int4", messages="fp8")
    ),
    "vision, draft apart": Scenario(
        SEEING,
        ROOM,
        CHAT.replace(images=2.0),
        Parallelism(4, 1, 2, 0.3),
        serving=Serving(speculation=Speculation(3, 0.6, Draft(SMALL, 1, platform=make_cluster(1)))),
    ),
}
"""One of each structure; between them every block and every serving option."""

# ---- configurations


def alone(plan: Parallelism) -> Parallelism:
    """The same structure of plan, of one rank."""
    context = None if plan.context is None else jnp.ones(())
    return Parallelism(overlap=plan.overlap, context=context, sequence=plan.sequence)


def renewed(case: Scenario, rename: Callable[[str, jax.Array], Any]) -> Scenario:
    """The scenario with other numbers, each from its name and value; not checked."""
    return jax.tree_util.tree_map_with_path(lambda path, x: rename(name_of(path), x), case)


def rises_with(name: str) -> bool:
    """Whether this number is a rate: more of it is faster."""
    return "peak_flops" in name or name.endswith("bandwidth")


def twice_as_fast(name: str, value: jax.Array) -> jax.Array:
    """All rates doubled, all latencies halved."""
    if name.endswith("latency"):
        return value / 2
    return value * 2 if rises_with(name) else value


def is_hardware(name: str) -> bool:
    """Whether this is a number of the platform, or of the draft model's own."""
    return "platform." in name


def configurations(name: str) -> dict[str, Scenario]:
    """Configurations of one structure, by what each is for.

    Among them one for each hardware number, which it has grown by half: "platform.network[0].
    bandwidth".
    """
    case = SCENARIOS[name]
    workload, plan = case.workload, case.plan
    few = Workload(1, 1, 1, images=0.0)
    found = {
        "base": case,
        "one rank": case.replace(plan=alone(plan), serving=_for_one_rank(case.serving)),
        "one token": case.replace(workload=few),
        "two tokens": case.replace(workload=few.replace(output_tokens=2)),
        "too many": case.replace(workload=workload.replace(batch=4096, input_tokens=100_000)),
        "all hidden": case.replace(plan=plan.replace(overlap=1.0)),
        "more requests": case.replace(workload=workload.replace(batch=3 * workload.batch)),
        "longer prompts": case.replace(workload=workload.replace(input_tokens=4000)),
        "longer answers": case.replace(workload=workload.replace(output_tokens=100)),
        "more replicas": case.replace(
            plan=plan.replace(data=2 * plan.data),
            workload=workload.replace(batch=2 * workload.batch),
        ),
        "twice as fast": renewed(case, twice_as_fast),
    }
    if not case.model.experts:
        odd = plan.replace(tensor=3, pipeline=5, data=2, overlap=1.0)
        found["odd ranks"] = case.replace(plan=odd)
    for number in filter(is_hardware, named_leaves(case)):
        found[number] = renewed(case, lambda n, x, number=number: x * 1.5 if n == number else x)
    return found


def _for_one_rank(serving: Serving) -> Serving:
    draft = serving.draft
    if not isinstance(draft, Draft):
        return serving
    assert serving.speculation is not None
    return serving.replace(speculation=serving.speculation.replace(draft=draft.replace(tensor=1.0)))


# ---- tables

PHASES = ("ttft", "tpot")

LENGTH = 64
"""Configurations of a table, the last one repeated: all tables share their compiled operations."""


class Table(NamedTuple):
    """What is said of configurations of one structure.

    Arguments:
        index: where a configuration is, by name.
        metrics: of all, by name.
        operators: the rows of the breakdowns.
        rows: seconds, shape (configurations, operators, resources), by "ttft" and "tpot".
    """

    index: dict[str, int]
    metrics: dict[str, np.ndarray]
    operators: tuple[str, ...]
    rows: dict[str, np.ndarray]

    def of(self, configuration: str) -> dict[str, float]:
        """The metrics of one configuration."""
        return {name: float(x[self.index[configuration]]) for name, x in self.metrics.items()}


def padded(cases: Sequence[Scenario], length: int = LENGTH) -> Scenario:
    """The batch of `cases`, the last one repeated."""
    assert len(cases) <= length
    return stack([*cases, *[cases[-1]] * (length - len(cases))])


ALL_SHARPNESSES = ("dense", "experts, own module")
"""Structures that are tested at every sharpness: those that use it in different places."""

TABLES = [
    (name, sharpness)
    for name in SCENARIOS
    for sharpness in (SHARPNESSES if name in ALL_SHARPNESSES else (8, HARD))
]


def table(name: str, sharpness: float) -> Table:
    """The table of a structure at one sharpness; both are an entry of `TABLES`."""
    return _tables(name)[sharpness]


@functools.cache
def _tables(name: str) -> dict[float, Table]:
    """The tables of a structure, by sharpness, in float64.

    All come from the same jobs. They run operation by operation, which for so few configurations
    takes less time than compiling.
    """
    chosen = configurations(name)
    count, index = len(chosen), {each: row for row, each in enumerate(chosen)}

    def answers(case: Scenario) -> dict[float, tuple[dict[str, jax.Array], Breakdown]]:
        question = constant_ranks(resolved(case))
        jobs, case = jobs_of(question), question.case
        return {
            sharpness: (
                metrics_of(estimate_of(jobs, with_parts(case, {"sharpness": sharpness}))),
                breakdown_of(jobs, sharpness),
            )
            for structure, sharpness in TABLES
            if structure == name
        }

    with jax.enable_x64(True), jax.disable_jit():
        found = jax.vmap(answers)(as_double(padded(list(chosen.values()))))
    tables = {}
    for sharpness, (metrics, parts) in found.items():
        values = {metric: np.asarray(x)[:count] for metric, x in metrics.items()}
        rows = {phase: np.asarray(getattr(parts, phase))[:count] for phase in PHASES}
        tables[sharpness] = Table(index, values, parts.operators, rows)
    return tables
