"""Context and sequence parallelism: what ranks share adds up to the whole, collectives by hand, and what both leave alone."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import CHIP, FABRIC, NODE, as_double, assert_close, assert_finite

from diffgenz import (
    HARD,
    InputError,
    Parallelism,
    Platform,
    Precision,
    Scenario,
    Serving,
    Speculation,
    Workload,
    breakdown,
    estimate,
    load_model,
)
from diffgenz.hardware.platform import Accelerator, Level
from diffgenz.inference.iteration import Machine
from diffgenz.inference.prefill_decode import (
    chunk_count,
    decode_iteration,
    decode_step,
    mixed_iteration,
    prefill_iteration,
    prompt_step,
)
from diffgenz.inference.timing.collectives import Group, Link
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.latent_attention import Indexer, LatentAttention
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.moe import MoE
from diffgenz.models.model import Model, Repeated
from diffgenz.operators.operator import Kind

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


def prompt(plan, serving=None):
    return prompt_step(CHAT, plan, Precision(), jnp.asarray(4.0), serving)


def flops(iteration, *but):
    return sum(op.repeats * op.flops for op in iteration.layers if op.name not in but)


def cached(model, step):
    return sum(op.repeats * op.cached for op in model.layer_operators(step))


def by_name(iteration):
    return {op.name: op for op in iteration.layers}


@pytest.mark.parametrize(
    ("model", "serving"),
    [pytest.param(DENSE, None, marks=pytest.mark.slow), (SPARSE, Serving(chunk=500))],
    ids=["dense", "sparse, chunked"],
)
def test_one_rank_is_no_context_parallelism(model, serving, cluster):
    """A plain 1 is None, and with it the same program; a 1 that is a leaf, as in a sweep over ranks, gives the same figures."""
    assert Parallelism(2, context=1).context is None
    leaf = Parallelism(2, context=jnp.ones(()), sequence=0.0)
    alone, one = (
        estimate(Scenario(model, cluster, CHAT, plan, serving=serving))
        for plan in (Parallelism(2), leaf)
    )
    assert_close(one, alone, rtol=1e-6)


@MODELS
@pytest.mark.parametrize(
    "serving", [None, Serving(chunk=700, prefix_hit=0.3)], ids=["whole", "chunked"]
)
def test_ranks_compute_the_whole_prompt_together(model, serving):
    """All but the expansion of latent keys and values, which each rank repeats. Experts are spread over the ranks as over any others."""
    chunks, whole = [], []
    for plan in (Parallelism(), Parallelism(context=4)):
        at = prompt(plan, serving)
        chunks.append(chunk_count(at, serving))
        whole.append(flops(prefill_iteration(model, at, chunks[-1]), "expand"))
    assert_close(4 * whole[1], whole[0], rtol=1e-5)
    assert_close(chunks[1], chunks[0], rtol=1e-6)


@MODELS
def test_ranks_share_the_cache_and_its_reading(model, cluster):
    alone, shared = (
        decode_step(prompt(plan).replace(decoding=True), jnp.asarray(3000.0), None)
        for plan in (Parallelism(), Parallelism(context=4))
    )
    assert_close(4 * cached(model, shared), cached(model, alone), rtol=1e-6)
    for one, part in zip(model.layer_operators(alone), model.layer_operators(shared), strict=True):
        if one.kind is Kind.ATTENTION:
            assert_close((4 * part.kv_cache, 4 * part.flops), (one.kv_cache, one.flops), rtol=1e-6)
        elif not one.name.startswith("expert"):
            assert_close(
                (part.traffic, part.flops, part.parameters),
                (one.traffic, one.flops, one.parameters),
                rtol=1e-6,
            )
    whole, quarter = (
        estimate(Scenario(model, cluster, CHAT, Parallelism(context=c))).memory for c in (1, 4)
    )
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


def test_keys_are_gathered_and_outputs_merged_by_hand(cluster):
    """One node: 3/4 of all keys and values of a prompt arrive in each of 8 layers; 8 query heads of each rank are merged in two shots."""
    plan = Parallelism(2, context=4)
    rows = breakdown(Scenario(DENSE, cluster, CHAT, plan, sharpness=HARD))
    per_token = 2 * (4 // 2) * 64 * 2
    windowed = min(3000, 256 + 3000 - 1)
    gathering = (
        sum(n * 4 * length * per_token for n, length in ((3, 3000), (5, windowed))) * (3 / 4) / 4e11
    )
    assert_close(
        sum(rows.rows("ttft")["context_all_gather"].values()),
        gathering + 8 * (1e-6 + 2e-6),
        rtol=1e-5,
    )
    volume = 4 * 8 * (64 * 2 + 4)
    merging = min(2 * 1e-6 + 2 * (3 / 4) * volume / 4e11, 1e-6 + 3 * volume / 4e11)
    assert_close(sum(rows.rows("tpot")["context_merge"].values()), 8 * (merging + 2e-6), rtol=1e-5)


def test_ranks_at_a_distance_leave_the_node_sooner(cluster):
    """4 ranks: neighbours share a node of 8, 8 apart none do; 8 ranks 2 apart are 4 in each of 2 nodes."""
    links, volume = tuple(Link.of(level) for level in cluster.network), jnp.asarray(1e6)

    def gathered(count, stride):
        return Group.of(jnp.asarray(float(count)), links, jnp.asarray(float(stride))).all_gather(
            volume
        )

    assert_close(gathered(4, 1), 1e-6 + 3 / 4 * 1e6 / 4e11, rtol=1e-6)
    assert_close(gathered(4, 8), 2 * 5e-6 + 3 / 4 * 1e6 / 5e10, rtol=1e-6)
    assert_close(
        gathered(8, 2), 1e-6 + 3 / 4 * 1e6 / 4e11 + 5e-6 + 1 / 2 * (1e6 / 4) / 5e10, rtol=1e-6
    )
    assert_close(gathered(8, 1), Group.of(jnp.asarray(8.0), links).all_gather(volume), rtol=1e-6)


def test_experts_see_the_tokens_of_all_ranks_once():
    """In decode context ranks repeat the tokens that they share, in a mixed iteration some: rows at the experts are those of both phases."""
    plan = SHARED[SPARSE.name]
    serving = Serving(chunk=600)
    at = prompt(plan, serving)
    prefill, decode = (
        prefill_iteration(SPARSE, at, chunk_count(at, serving)),
        decode_iteration(SPARSE, at, CHAT, serving),
    )
    mixed = mixed_iteration(SPARSE, at, prefill, decode)
    rows = [by_name(iteration)["expert_down"].m for iteration in (prefill, decode, mixed)]
    groups, requests = 2, 2
    assert_close(
        rows[:2], [600 * groups * 2 / 8, requests * groups * 2 / 8], rtol=1e-5
    )  # chunk, requests of a group; 2 of 16 experts; 8 groups
    assert_close(rows[2], rows[0] + rows[1], rtol=1e-5)
    assert_close(by_name(mixed)["combine"].merged, by_name(decode)["combine"].merged, rtol=1e-4)
    assert by_name(prefill)["combine"].merged is None
    assert_close(
        mixed.exchanges[0].dispatch,
        prefill.exchanges[0].dispatch + decode.exchanges[0].dispatch,
        rtol=1e-5,
    )


@MODELS
@pytest.mark.parametrize(
    "serving",
    [None, pytest.param(Serving(700, 0.2, Speculation(2, 0.6), 2), marks=pytest.mark.slow)],
)
def test_rows_add_up(model, serving, cluster):
    plan = SHARED[model.name].replace(sequence=1)
    result, rows = (
        estimate(Scenario(model, cluster, CHAT, plan, serving=serving)),
        breakdown(Scenario(model, cluster, CHAT, plan, serving=serving)),
    )
    for phase in ("ttft", "tpot"):
        assert_close(getattr(rows, phase).sum(), getattr(result, phase), rtol=1e-6)


def test_slopes_are_those_of_differences_and_finite_at_one_token(double, cluster):
    hardware, plan = as_double(cluster), as_double(SHARED[SPARSE.name])
    block = Attention(**HEADS, window=256)
    model = as_double(
        Model(
            "small",
            1024,
            32000,
            (Repeated(block, 4), Repeated(MoE(routed=16, used=2, intermediate=512, norm=None), 4)),
        )
    )

    def total(log_bandwidth, tokens):
        network = tuple(
            level.replace(bandwidth=level.bandwidth * jnp.exp(log_bandwidth))
            for level in hardware.network
        )
        return jnp.log(
            estimate(
                Scenario(model, hardware.replace(network=network), Workload(4, tokens, 200), plan)
            ).end_to_end
        )

    at, off = (
        jnp.asarray([[0.0, 3000], [0, 1]]),
        jnp.asarray([[1e-4, 3000], [-1e-4, 3000], [0, 3000.3], [0, 2999.7]]),
    )
    slopes = jax.vmap(lambda x: jax.grad(lambda y: total(y[0], y[1]))(x))(at)
    values = jax.vmap(lambda x: total(x[0], x[1]))(off)
    assert_close(
        slopes[0],
        jnp.stack([(values[0] - values[1]) / 2e-4, (values[2] - values[3]) / 0.6]),
        rtol=1e-6,
    )
    assert_finite(slopes)


def test_sequence_parallelism_shares_norms_and_the_residual_stream(cluster):
    """Same collectives, one launch more each; norms move an eighth, the residual stream takes one."""
    apart, together = (
        prefill_iteration(DENSE, prompt(Parallelism(8, sequence=s)), None) for s in (0, 1)
    )
    for one, other in zip(apart.layers, together.layers, strict=True):
        assert_close(other.traffic, one.traffic / (8 if one.name == "norm" else 1), rtol=1e-6)
    assert_close(
        (together.hidden_volume, 8 * together.residual_volume),
        (apart.hidden_volume, apart.residual_volume),
        rtol=1e-6,
    )
    no, yes = (Machine.of(cluster, Parallelism(8, sequence=s), Precision()) for s in (0, 1))
    assert_close(
        yes.group.all_reduce(together.hidden_volume),
        no.group.all_reduce(apart.hidden_volume),
        rtol=0,
    )
    assert_close((no.reduction_launch, yes.reduction_launch), (2e-6, 4e-6), rtol=1e-6)
    plain, shared = (
        estimate(Scenario(DENSE, cluster, CHAT, Parallelism(8, sequence=s))) for s in (0, 1)
    )
    assert plain.memory.activations - shared.memory.activations >= apart.hidden_volume * 7 / 8
    assert shared.ttft < plain.ttft


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Parallelism(context=0.5), "context: 0.5 is not allowed"),
        (lambda: Parallelism(context=2.5), "context: 2.5 is not a whole number of ranks"),
        (lambda: Parallelism(context=math.nan), "context: nan"),
        (lambda: Parallelism(sequence=2), "sequence: 2 is not allowed"),
        (lambda: Parallelism(sequence=0.5), "sequence: 0.5 is not a whole number"),
        (
            lambda: Parallelism(2, context=2, expert=3),
            "expert: 3 does not divide the 4 tensor x context x attention_data ranks",
        ),
    ],
)
def test_bad_plans_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_states_cannot_be_shared(cluster):
    model = load_model("state-spaces/mamba-130m-hf")
    with pytest.raises(
        InputError,
        match="context: 2 exceeds 1, since state-spaces/mamba-130m-hf keeps a state per sequence; use tensor",
    ):
        estimate(Scenario(model, cluster, CHAT, Parallelism(context=2)))
    assert estimate(Scenario(model, cluster, CHAT, Parallelism(context=1))).tpot > 0
