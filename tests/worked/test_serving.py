"""Serving options in whole estimates: each alone, any together, and what they leave alone."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import as_double, assert_close, assert_finite, explained, stack

from diffgenz import (
    MTP,
    Draft,
    InputError,
    Offload,
    Parallelism,
    Scenario,
    Serving,
    Speculation,
    Workload,
    breakdown,
    elasticities,
    estimate,
    load_model,
)
from diffgenz.hardware.platform import MemoryTier

MODELS = ["meta-llama/Llama-3.1-8B", "deepseek-ai/DeepSeek-V3", "google/gemma-3-27b-pt"]
CHAT = Workload(batch=6, input_tokens=1500, output_tokens=60)
PLANS = [Parallelism(), Parallelism(4, 2, 1, 0.5)]
TIMES = ("ttft", "tpot", "end_to_end", "throughput", "energy_per_output_token")

OPTIONS = {
    "chunk": {"chunk": 700.0},
    "prefix_hit": {"prefix_hit": 0.4},
    "speculation": {"speculation": Speculation(3, 0.6)},
    "beams": {"beams": 3.0},
    "mtp": {"speculation": Speculation(3, 0.6, MTP())},
    "offload": {"offload": Offload.WEIGHTS},
}


def figures(result):
    return {name: getattr(result, name) for name in TIMES} | {"memory": result.memory}


@pytest.fixture(scope="module")
def small():
    """A draft model."""
    return Draft(load_model("meta-llama/Llama-3.2-1B"), 2)


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        *((MODELS[0], plan) for plan in PLANS),
        *(
            pytest.param(name, plan, marks=pytest.mark.slow)
            for name in MODELS[1:]
            for plan in PLANS
        ),
    ],
)
def test_options_that_change_nothing(name, plan, cluster):
    """Not chunked, not cached, one beam: exactly the plain estimate. So is a chunk of all prompts, but for the decodes it has room for."""
    model = load_model(name)
    plain = figures(estimate(Scenario(model, cluster, CHAT, plan)))
    assert_close(
        figures(estimate(Scenario(model, cluster, CHAT, plan, serving=Serving()))), plain, rtol=0
    )
    assert_close(
        figures(estimate(Scenario(model, cluster, CHAT, plan, serving=Serving(beams=1)))),
        plain,
        rtol=1e-6,
    )
    for chunk in (9000.0, 1e9):
        whole = figures(
            estimate(Scenario(model, cluster, CHAT, plan, serving=Serving(chunk=chunk)))
        )
        del whole["memory"]
        assert_close(whole, {name: plain[name] for name in TIMES}, rtol=0)


PAIRS = [*itertools.combinations(["chunk", "prefix_hit", "draft", "beams"], 2)]
PAIRS += [("chunk", "speculation"), ("speculation", "beams")]
ALL = ("chunk", "prefix_hit", "draft", "beams")

REST = [
    (MODELS[1], ("chunk", "prefix_hit", "mtp", "beams", "offload")),
    (MODELS[2], ALL),
    *((MODELS[0], pair) for pair in PAIRS),
]

TOGETHER = [
    (MODELS[0], ALL),
    (MODELS[0], ("prefix_hit", "speculation")),
    *(pytest.param(*each, marks=pytest.mark.slow) for each in REST),
]


@pytest.mark.parametrize(("name", "chosen"), TOGETHER)
def test_any_two_together_add_up(name, chosen, small, cluster):
    options = {}
    for option in chosen:
        options |= OPTIONS.get(option, {"speculation": Speculation(3, 0.6, small)})
    serving, plan, model = Serving(**options), PLANS[1], load_model(name)
    platform = cluster.replace(
        accelerator=cluster.accelerator.replace(tiers=(MemoryTier("host", 1e12, 5e10),))
    )
    result, rows = explained(Scenario(model, platform, CHAT, plan, serving=serving))
    assert_finite(result)
    for phase in ("ttft", "tpot"):
        assert_close(getattr(rows, phase).sum(), getattr(result, phase), rtol=2e-6)
        assert (np.asarray(getattr(rows, phase)) >= 0).all()
    assert any(row.startswith("draft ") for row in rows.operators) == (
        "draft" in chosen or "mtp" in chosen
    )
    assert ("offload" in rows.operators and rows.rows("tpot")["offload"]["memory"] > 0) == (
        "offload" in chosen
    )
    if "chunk" in chosen:
        assert result.tpot < result.mixed_tpot
    else:
        assert result.mixed_tpot is None


def test_chunks_bound_activations_and_slow_prefill(llama_8b, cluster):
    sizes = jnp.array([128.0, 512.0, 2048.0, 9000.0])
    results = jax.vmap(
        lambda chunk: estimate(
            Scenario(llama_8b, cluster, CHAT, Parallelism(), serving=Serving(chunk=chunk))
        )
    )(sizes)
    assert (np.diff(results.ttft) < 0).all()
    assert (np.diff(results.mixed_tpot) > 0).all()
    assert_close(results.memory.activations, (sizes + 6) * 2 * (4096 + 3 * 14336), rtol=1e-5)


def test_chunks_fill_a_pipeline(llama_8b, cluster):
    """With stages, a second chunk starts while the first is under way: fewer bubbles than whole micro-batches leave."""
    plan = Parallelism(1, 8)
    plain, chunked = (
        estimate(Scenario(llama_8b, cluster, CHAT, plan, serving=s))
        for s in (None, Serving(chunk=500))
    )
    assert chunked.ttft < plain.ttft


@pytest.mark.parametrize("name", MODELS)
def test_a_prefix_hit_is_a_shorter_prompt_over_a_context(name, cluster):
    model = load_model(name)
    hits = jnp.array([0.0, 0.25, 0.5, 0.999, 1.0])
    results = jax.vmap(
        lambda hit: estimate(
            Scenario(model, cluster, CHAT, Parallelism(), serving=Serving(prefix_hit=hit))
        )
    )(hits)
    assert (np.diff(results.ttft) < 0).all()
    assert_close(results.memory.kv_cache, jnp.broadcast_to(results.memory.kv_cache[0], 5), rtol=0)
    assert_close(results.tpot, jnp.broadcast_to(results.tpot[0], 5), rtol=0)


def test_nothing_accepted_is_a_token_for_each_verification_and_all_accepted_is_all(
    llama_8b, cluster
):
    none, half, all_ = (
        estimate(
            Scenario(
                llama_8b,
                cluster,
                CHAT,
                Parallelism(),
                serving=Serving(speculation=Speculation(4, a)),
            )
        )
        for a in (0, 0.5, 1)
    )
    plain = estimate(Scenario(llama_8b, cluster, CHAT, Parallelism()))
    assert_close(none.tpot, 5 * all_.tpot, rtol=1e-6)
    assert_close(none.tpot, (31 / 16) * half.tpot, rtol=1e-6)
    assert 1 < none.tpot / plain.tpot < 1.05  # weights are read once, for 5 tokens as for 1
    assert_close(none.ttft, plain.ttft, rtol=0)


def test_a_draft_model_takes_its_time_and_memory(llama_8b, small, cluster):
    free, drafted = (
        estimate(
            Scenario(
                llama_8b,
                cluster,
                CHAT,
                PLANS[1],
                serving=Serving(speculation=Speculation(4, 0.5, d)),
            )
        )
        for d in (None, small)
    )
    alone = estimate(Scenario(small.model, cluster, CHAT, small.plan))
    assert_close(drafted.tpot, free.tpot + 4 / (31 / 16) * alone.tpot, rtol=1e-6)
    assert_close(drafted.ttft, free.ttft + alone.ttft, rtol=1e-6)
    assert_close(drafted.memory.weights, free.memory.weights + alone.memory.weights, rtol=1e-6)
    assert drafted.memory.kv_cache > free.memory.kv_cache + alone.memory.kv_cache
    assert drafted.energy_per_output_token > free.energy_per_output_token


@pytest.mark.parametrize("name", [*MODELS[:2], pytest.param(MODELS[2], marks=pytest.mark.slow)])
def test_beams_keep_the_prompt_once(name, cluster):
    model = load_model(name)
    results = jax.vmap(
        lambda beams: estimate(
            Scenario(model, cluster, CHAT, Parallelism(), serving=Serving(beams=beams))
        )
    )(jnp.array([1.0, 2.0, 3.0]))
    more = np.diff(results.memory.kv_cache)
    assert_close(more[0], more[1], rtol=1e-4)
    one = (
        estimate(
            Scenario(model, cluster, CHAT.replace(input_tokens=1, output_tokens=60), Parallelism())
        ).memory.kv_cache
        * 60
        / 61
    )
    assert_close(more[0], one, rtol=1e-3)
    assert (np.diff(results.tpot) > 0).all()
    assert_close(results.ttft, jnp.broadcast_to(results.ttft[0], 3), rtol=0)


EDGES = [
    (c, h, a, b)
    for c in (200.0, 9000.0)
    for h in (0.0, 1.0)
    for a in (0.0, 1.0)
    for b in (1.0, 4.0)
]


@pytest.mark.parametrize("name", [MODELS[0], pytest.param(MODELS[1], marks=pytest.mark.slow)])
def test_gradients_are_finite_everywhere(name, cluster):
    """With respect to every option, at its ends too."""
    model = load_model(name)

    @jax.jit
    @jax.vmap
    def slopes(chunk, hit, acceptance, beams):
        def cost(serving):
            e = estimate(Scenario(model, cluster, CHAT, PLANS[1], serving=serving))
            return (
                jnp.log(e.ttft)
                + jnp.log(e.tpot)
                + jnp.log(e.mixed_tpot)
                + jnp.log(e.memory.total)
                + jnp.log(e.energy_per_output_token)
            )

        return jax.value_and_grad(cost)(Serving(chunk, hit, Speculation(3.0, acceptance), beams))

    assert_finite(slopes(*(jnp.array(column) for column in zip(*EDGES, strict=True))))


def test_slopes_are_the_differences(gemma_27b, small, cluster, double):
    model, platform, draft = as_double((gemma_27b, cluster, small))
    at = as_double(Serving(700, 0.3, Speculation(3, 0.6, None), 2))
    serving = at.replace(speculation=at.speculation.replace(draft=draft))

    def leaves(s):
        return s.chunk, s.prefix_hit, s.speculation.drafts, s.speculation.acceptance, s.beams

    def cost(values):
        e = estimate(
            Scenario(model, platform, CHAT, PLANS[1], serving=eqx.tree_at(leaves, serving, values))
        )
        return jnp.log(e.ttft) + jnp.log(e.tpot) + jnp.log(e.mixed_tpot)

    values = leaves(serving)
    rows = [
        values,
        *(
            tuple(v * (1 + sign * 1e-5) if i == index else v for i, v in enumerate(values))
            for index in range(5)
            for sign in (1, -1)
        ),
    ]
    costs, slopes = jax.jit(jax.vmap(jax.value_and_grad(cost)))(stack(rows))
    for index, value in enumerate(values):
        up, down = costs[1 + 2 * index], costs[2 + 2 * index]
        assert_close(slopes[index][0], (up - down) / (2e-5 * value), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    "metric", ["ttft", "mixed_tpot", pytest.param("tpot", marks=pytest.mark.slow)]
)
def test_elasticities_of_a_time_sum_to_one(metric, llama_8b, small, cluster):
    serving = Serving(700, 0.3, Speculation(3, 0.6, small), 2)
    card = elasticities(Scenario(llama_8b, cluster, CHAT, PLANS[1], serving=serving), metric)
    slower = sum(value for name, value in card.items() if name.endswith("latency"))
    faster = sum(
        value for name, value in card.items() if "peak" in name or name.endswith("bandwidth")
    )
    assert_close(slower - faster, 1.0, rtol=1e-5)


def test_an_elasticity_of_what_chunks_alone_have_needs_chunks(llama_8b, cluster):
    with pytest.raises(InputError, match="mixed_tpot needs chunked prefill"):
        elasticities(Scenario(llama_8b, cluster, CHAT, Parallelism()), "mixed_tpot")


def test_a_draft_model_has_no_more_ranks_than_a_replica(llama_8b, small, cluster):
    serving = Serving(speculation=Speculation(3, 0.5, small))
    for verb in (estimate, breakdown):
        with pytest.raises(InputError, match="draft tensor: 2 exceeds 1, the ranks of a replica"):
            verb(Scenario(llama_8b, cluster, CHAT, Parallelism(), serving=serving))


def test_a_draft_model_may_have_accelerators_of_its_own(llama_70b, cluster):
    """Alike, they take the same time; they hold the draft, cost and draw power."""
    small, plan = load_model("meta-llama/Llama-3.1-8B"), Parallelism(tensor=4, data=2)
    own = cluster.replace(accelerators=1.0)

    def served(platform):
        return estimate(
            Scenario(
                llama_70b,
                cluster,
                CHAT,
                plan,
                serving=Serving(
                    speculation=Speculation(3, 0.6, Draft(small, 1, platform=platform))
                ),
            )
        )

    beside, apart = served(None), served(own)
    assert_close(
        [apart.ttft, apart.tpot, apart.throughput],
        [beside.ttft, beside.tpot, beside.throughput],
        rtol=1e-6,
    )
    assert_close(
        apart.tokens_per_second_per_accelerator, apart.throughput / (4 * 2 + 2), rtol=1e-6
    )  # two replicas, a draft model for each
    assert apart.memory.draft is not None
    assert_close(apart.memory.draft.weights, 2 * small.parameters, rtol=1e-6)
    assert_close(
        apart.memory.weights + apart.memory.draft.weights, beside.memory.weights, rtol=1e-6
    )
    idle = (
        2
        * float(own.accelerator.idle_power * apart.end_to_end)
        / float(CHAT.batch * CHAT.output_tokens)
    )
    assert_close(apart.energy_per_output_token, beside.energy_per_output_token + idle, rtol=1e-5)
    slow = served(
        own.replace(
            accelerator=own.accelerator.replace(
                memory_bandwidth=own.accelerator.memory_bandwidth / 2
            )
        )
    )
    assert slow.tpot > apart.tpot
    assert bool(apart.memory.fits)
    assert not bool(
        served(own.replace(accelerator=own.accelerator.replace(memory_capacity=8e9))).memory.fits
    )
    with pytest.raises(
        InputError, match="tensor: 2 exceeds 1, the accelerators of the draft model's platform"
    ):
        Draft(small, 2, platform=own)
