"""Context and sequence parallelism: what ranks share adds up to the whole.

Collectives by hand, and what both leave alone.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import (
    CHIP,
    FABRIC,
    NODE,
    as_double,
    assert_close,
    assert_finite,
    make_cluster,
    make_machine,
)

from diffgenz import (
    HARD,
    Accelerator,
    Level,
    Model,
    Parallelism,
    Platform,
    Scenario,
    Serving,
    Speculation,
    Uniform,
    Workload,
    breakdown,
    estimate,
)
from diffgenz.inference.prefill_decode import (
    chunk_count,
    decode,
    decode_step,
    mixed,
    prefill,
    prompt_step,
)
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.latent_attention import Indexer, LatentAttention
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.moe import MoE
from diffgenz.models.model import Repeated
from diffgenz.operators.message import AllReduce, Exchange
from diffgenz.operators.operator import Kind

CLUSTER = make_cluster()
HEADS = {"heads": 16, "kv_heads": 4, "head_dim": 64}
DENSE = Model(
    "dense",
    1024,
    32000,
    (
        Repeated(Attention(**HEADS), 3),
        Repeated(Attention(**HEADS, window=256), 5),
        Repeated(MLP(4096), 8),
    ),
)
LATENT = LatentAttention(
    heads=16, latent=128, nope_dim=64, rope_dim=32, value_dim=48, indexer=Indexer(4, 32, 64)
)
SPARSE = Model(
    "sparse",
    1024,
    32000,
    (
        Repeated(LATENT, 4),
        Repeated(MoE(routed=16, used=2, intermediate=512, tile=1, shared=MLP(512, norm=None)), 4),
    ),
)
MODELS = pytest.mark.parametrize("model", [DENSE, SPARSE], ids=["dense", "sparse"])
CHAT = Workload(batch=4, input_tokens=3000, output_tokens=200)
SHARED = {
    DENSE.name: Parallelism(2, 2, 1, 0.5, context=4),
    SPARSE.name: Parallelism(2, 1, 1, 0.5, 8, 2, context=4),
}


@pytest.fixture(autouse=True)
def eager():
    """Each program would run once: to compile it takes longer."""
    with jax.disable_jit():
        yield


def case_of(model, plan, workload=CHAT, serving=None, **options):
    return Scenario(model, CLUSTER, workload, plan, serving=serving, **options)


def prompt_of(case):
    """The prompts of 4 requests."""
    return prompt_step(case, jnp.asarray(4.0))


def flops(iteration, *but):
    return sum(op.repeats * op.flops for op in iteration.layers if op.name not in but)


def cached(model, step):
    return sum(op.repeats * op.cached for op in model.layer_operators(step))


def by_name(iteration):
    return {op.name: op for op in iteration.layers}


def message_of(op, kind):
    """The only message of a kind that an operator carries."""
    (message,) = (each for each in op.messages if isinstance(each, kind))
    return message


@pytest.mark.parametrize(
    ("model", "serving"),
    [(DENSE, None), (SPARSE, Serving(chunk=500))],
    ids=["dense", "sparse, chunked"],
)
def test_one_rank_is_no_context_parallelism(model, serving):
    """A plain 1 is None, and with it the same program.

    A 1 that is a leaf, as in a sweep over ranks, gives the same figures.
    """
    assert Parallelism(2, context=1).context is None
    leaf = Parallelism(2, context=jnp.ones(()), sequence=0.0)
    alone, one = (
        estimate(case_of(model, plan, serving=serving)) for plan in (Parallelism(2), leaf)
    )
    assert_close(one, alone, rtol=1e-6)


@MODELS
@pytest.mark.parametrize(
    "serving", [None, Serving(chunk=700, prefix_hit=0.3)], ids=["whole", "chunked"]
)
def test_ranks_compute_the_whole_prompt_together(model, serving):
    """All of it except the expansion of latent keys and values, which each rank repeats.

    Experts are spread over the ranks as over any others.
    """
    chunks, whole = [], []
    for plan in (Parallelism(), Parallelism(context=4)):
        case = case_of(model, plan, serving=serving)
        at = prompt_of(case)
        chunks.append(chunk_count(case, at) or 1.0)
        whole.append(flops(prefill(case, at), "expand"))
    assert_close(4 * whole[1], whole[0], rtol=1e-5)
    assert_close(chunks[1], chunks[0], rtol=1e-6)


@MODELS
def test_ranks_share_the_cache_and_its_reading(model):
    cases = [case_of(model, plan) for plan in (Parallelism(), Parallelism(context=4))]
    alone, shared = (
        decode_step(case, prompt_of(case).replace(decoding=True), jnp.asarray(3000.0))
        for case in cases
    )
    assert_close(4 * cached(model, shared), cached(model, alone), rtol=1e-6)
    for one, part in zip(model.layer_operators(alone), model.layer_operators(shared), strict=True):
        if one.kind is Kind.ATTENTION:
            assert_close((4 * part.kv_cache, 4 * part.flops), (one.kv_cache, one.flops), rtol=1e-6)
        elif not one.name.startswith("expert"):
            same = ("traffic", "flops", "parameters")
            assert_close(
                [getattr(part, each) for each in same],
                [getattr(one, each) for each in same],
                rtol=1e-6,
            )
    whole, quarter = (estimate(case).memory for case in cases)
    assert_close(4 * quarter.kv_cache, whole.kv_cache, rtol=1e-6)
    assert quarter.activations < whole.activations


def test_a_long_prompt_takes_a_share_of_the_time_where_messages_are_free():
    links = tuple(
        Level(**(level | {"bandwidth": 1e30, "latency": 0.0})) for level in (NODE, FABRIC)
    )
    free = Platform(Accelerator(**(CHIP | {"launch_latency": 0.0})), links, 64)
    long = Workload(1, 200_000, 10)
    ranks = np.array([1.0, 2.0, 4.0, 8.0])
    results = jax.vmap(lambda c: estimate(Scenario(DENSE, free, long, Parallelism(context=c))))(
        jnp.asarray(ranks)
    )
    assert_close(results.ttft * ranks, np.full(4, float(results.ttft[0])), rtol=0.01)
    assert (np.diff(results.tpot) < 0).all()


def test_keys_are_gathered_and_outputs_merged_by_hand():
    """One node: 3/4 of all keys and values of a prompt arrive in each of 8 layers.

    8 query heads of each rank are merged in two shots.
    """
    case = case_of(DENSE, Parallelism(2, context=4), sharpness=HARD, serving=Serving(chunk=None))
    rows = breakdown(case)
    per_token = 2 * (4 // 2) * 64 * 2
    windowed = min(3000, 256 + 3000 - 1)
    tokens = 3 * 3000 + 5 * windowed
    gathering = 4 * tokens * per_token * (3 / 4) / 4e11
    found = sum(rows.rows("ttft")["context_all_gather"].values())
    assert_close(found, gathering + 8 * (1e-6 + 2e-6), rtol=1e-5)
    volume = 4 * 8 * (64 * 2 + 4)
    merging = min(2 * 1e-6 + 2 * (3 / 4) * volume / 4e11, 1e-6 + 3 * volume / 4e11)
    found = sum(rows.rows("tpot")["context_merge"].values())
    assert_close(found, 8 * (merging + 2e-6), rtol=1e-5)


def test_experts_see_the_tokens_of_all_ranks_once():
    """In decode, context ranks repeat the tokens that they share; in a mixed iteration, some.

    Rows at the experts are those of both phases.
    """
    case = case_of(SPARSE, SHARED[SPARSE.name], serving=Serving(chunk=600))
    at = prompt_of(case)
    first, decoding = prefill(case, at), decode(case, at)
    both = mixed(SPARSE, at, first, decoding, Uniform())
    rows = [by_name(iteration)["expert_down"].m for iteration in (first, decoding, both)]
    # a chunk, or the requests of a group; 2 groups; 2 of 16 experts; 8 expert groups
    groups, requests = 2, 2
    assert_close(rows[:2], [600 * groups * 2 / 8, requests * groups * 2 / 8], rtol=1e-5)
    assert_close(rows[2], rows[0] + rows[1], rtol=1e-5)
    merged = [message_of(by_name(each)["combine"], AllReduce) for each in (both, decoding)]
    assert_close(merged[0].volume, merged[1].volume, rtol=1e-4)
    assert by_name(first)["combine"].messages == ()
    sent = [
        message_of(by_name(each)["dispatch"], Exchange).dispatch for each in (first, decoding, both)
    ]
    assert_close(sent[2], sent[0] + sent[1], rtol=1e-5)


@MODELS
@pytest.mark.parametrize("serving", [None, Serving(700, 0.2, Speculation(2, 0.6), 2)])
def test_rows_add_up(model, serving):
    case = case_of(model, SHARED[model.name].replace(sequence=1), serving=serving)
    result, rows = estimate(case), breakdown(case)
    for phase in ("ttft", "tpot"):
        assert_close(getattr(rows, phase).sum(), getattr(result, phase), rtol=1e-6)


@pytest.mark.slow
def test_slopes_are_those_of_differences_and_finite_at_one_token(double):
    """Of a window that context ranks share, and of a mixed iteration."""
    model = Model(
        "small",
        1024,
        32000,
        (
            Repeated(Attention(**HEADS, window=256), 4),
            Repeated(MoE(routed=16, used=2, intermediate=512, norm=None), 4),
        ),
    )
    case = as_double(case_of(model, SHARED[SPARSE.name], serving=Serving(chunk=500, mixed=True)))

    def total(log_bandwidth, tokens):
        network = tuple(
            level.replace(bandwidth=level.bandwidth * jnp.exp(log_bandwidth))
            for level in case.platform.network
        )
        there = case.replace(
            platform=case.platform.replace(network=network), workload=Workload(4, tokens, 200)
        )
        found = estimate(there)
        return jnp.log(found.end_to_end) + jnp.log(found.mixed_tpot)

    at = jnp.asarray([[0.0, 3000], [0, 1]])
    off = jnp.asarray([[1e-4, 3000], [-1e-4, 3000], [0, 3000.3], [0, 2999.7]])
    slopes = jax.vmap(jax.grad(lambda x: total(x[0], x[1])))(at)
    values = jax.vmap(lambda x: total(x[0], x[1]))(off)
    differences = [(values[0] - values[1]) / 2e-4, (values[2] - values[3]) / 0.6]
    assert_close(slopes[0], jnp.stack(differences), rtol=1e-6)
    assert_finite(slopes)


def test_sequence_parallelism_shares_norms_and_the_residual_stream():
    """Same collectives, one launch more each; norms move an eighth, the residual stream takes
    one."""
    cases = [case_of(DENSE, Parallelism(8, sequence=s)) for s in (0, 1)]
    apart, together = (prefill(case, prompt_of(case)) for case in cases)
    machine = make_machine(CLUSTER, Parallelism(8))
    launches = []
    for one, other in zip(apart.layers, together.layers, strict=True):
        assert_close(other.traffic, one.traffic / (8 if one.name == "norm" else 1), rtol=1e-6)
        for before, after in zip(one.messages, other.messages, strict=True):
            assert_close(after.volume, before.volume, rtol=0)
            times = [machine.seconds(message, HARD) for message in (before, after)]
            assert_close(*(time.total - time.launch for time in times), rtol=1e-5)
            launches.append([time.launch for time in times])
    assert_close(launches, [[2e-6, 4e-6]] * len(launches), rtol=1e-6)
    assert_close(8 * together.residual, apart.residual, rtol=1e-6)
    plain, shared = (estimate(case) for case in cases)
    assert plain.memory.activations - shared.memory.activations >= apart.residual * 7 / 8
    assert shared.ttft < plain.ttft
