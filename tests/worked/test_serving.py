"""Serving options in whole estimates: each alone, any together, and what they leave alone."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close, assert_finite
from whole_models import EXPERTS, ROOM, WINDOWED

from diffgenz import (
    MTP,
    Draft,
    InputError,
    MemoryTier,
    Offload,
    Parallelism,
    Scenario,
    Serving,
    Speculation,
    Workload,
    breakdown,
    estimate,
    load_model,
)
from diffgenz.inference.metrics import metrics_of

MODELS = ["meta-llama/Llama-3.1-8B", "deepseek-ai/DeepSeek-V3", "google/gemma-3-27b-pt"]
CHAT = Workload(batch=6, input_tokens=1500, output_tokens=60)
PLANS = [Parallelism(), Parallelism(4, 2, 1, 0.5)]
TIMES = ("ttft", "tpot", "end_to_end", "throughput", "energy_per_output_token")

WHOLE = {"chunk": None}

OPTIONS = {
    "chunk": {"chunk": 700.0, "mixed": True},
    "prefix_hit": {"prefix_hit": 0.4},
    "speculation": {"speculation": Speculation(3, 0.6)},
    "beams": {"beams": 3.0},
    "mtp": {"speculation": Speculation(3, 0.6, MTP())},
    "offload": {"offload": Offload.WEIGHTS},
}


def figures(result):
    return {name: getattr(result, name) for name in TIMES} | {"memory": result.memory}


def served(model, platform, plan=PLANS[0], workload=CHAT, **options):
    """The estimate with some serving options."""
    return estimate(Scenario(model, platform, workload, plan, serving=Serving(**(WHOLE | options))))


@pytest.fixture(scope="module")
def small():
    """A draft model."""
    return Draft(load_model("meta-llama/Llama-3.2-1B"), 2)


@pytest.mark.parametrize("plan", PLANS, ids=["one rank", "two stages"])
@pytest.mark.parametrize("name", MODELS)
def test_options_that_change_nothing(name, plan):
    """Not chunked, not cached, one beam: exactly the plain estimate.

    So is a chunk of all prompts, except that the decodes beside it need room.
    """
    model = load_model(name)
    with jax.disable_jit():  # each program would run once: to compile it takes longer
        plain = figures(served(model, ROOM, plan))
        assert_close(figures(served(model, ROOM, plan, beams=1)), plain, rtol=1e-6)
        for chunk in (9000.0, 1e9):
            whole = figures(served(model, ROOM, plan, chunk=chunk))
            del whole["memory"]
            assert_close(whole, {name: plain[name] for name in TIMES}, rtol=0)


PAIRS = [*itertools.combinations(["chunk", "prefix_hit", "draft", "beams"], 2)]
PAIRS += [("chunk", "speculation"), ("speculation", "beams"), ("prefix_hit", "speculation")]
ALL = ("chunk", "prefix_hit", "draft", "beams")
TOGETHER = [
    (MODELS[0], ALL),
    (MODELS[1], ("chunk", "prefix_hit", "mtp", "beams", "offload")),
    (MODELS[2], ALL),
    *((MODELS[0], pair) for pair in PAIRS),
]


@pytest.mark.parametrize(("name", "chosen"), TOGETHER)
def test_any_two_together_add_up(name, chosen, small):
    options = dict(WHOLE)
    for option in chosen:
        options |= OPTIONS.get(option, {"speculation": Speculation(3, 0.6, small)})
    tiers = (MemoryTier("host", 1e12, 5e10),)
    platform = ROOM.replace(accelerator=ROOM.accelerator.replace(tiers=tiers))
    case = Scenario(load_model(name), platform, CHAT, PLANS[1], serving=Serving(**options))
    with jax.disable_jit():
        result, rows = estimate(case), breakdown(case)
    assert_finite(result)
    for phase in ("ttft", "tpot"):
        assert_close(getattr(rows, phase).sum(), getattr(result, phase), rtol=2e-6)
        assert (np.asarray(getattr(rows, phase)) >= 0).all()
    drafted = any(row.startswith("draft ") for row in rows.operators)
    assert drafted == ("draft" in chosen or "mtp" in chosen)
    waits = "offload" in rows.operators and rows.rows("tpot")["offload"]["memory"] > 0
    assert waits == ("offload" in chosen)
    if "chunk" in chosen:
        assert result.tpot < result.mixed_tpot
    else:
        assert result.mixed_tpot is None


def test_chunks_bound_activations_and_slow_prefill(llama_8b, cluster):
    sizes = jnp.array([128.0, 512.0, 2048.0, 9000.0])
    results = jax.vmap(lambda chunk: served(llama_8b, cluster, chunk=chunk, mixed=True))(sizes)
    assert (np.diff(results.ttft) < 0).all()
    assert (np.diff(results.mixed_tpot) > 0).all()
    assert_close(results.memory.activations, (sizes + 6) * 2 * (4096 + 3 * 14336), rtol=1e-5)


def test_chunks_fill_a_pipeline(llama_8b, cluster):
    """With stages, a second chunk starts while the first is under way.

    That leaves fewer bubbles than whole micro-batches do.
    """
    plan = Parallelism(1, 8)
    plain, chunked = (served(llama_8b, cluster, plan, chunk=chunk) for chunk in (None, 500))
    assert chunked.ttft < plain.ttft


@pytest.mark.parametrize("name", MODELS)
def test_a_prefix_hit_is_a_shorter_prompt_over_a_context(name, cluster):
    model = load_model(name)
    hits = jnp.array([0.0, 0.25, 0.5, 0.999, 1.0])
    with jax.disable_jit():
        results = jax.vmap(lambda hit: served(model, cluster, prefix_hit=hit))(hits)
    assert (np.diff(results.ttft) < 0).all()
    assert_close(results.memory.kv_cache, jnp.broadcast_to(results.memory.kv_cache[0], 5), rtol=0)
    assert_close(results.tpot, jnp.broadcast_to(results.tpot[0], 5), rtol=0)


def test_nothing_accepted_is_a_token_for_each_verification_and_all_accepted_is_all(
    llama_8b, cluster
):
    none, half, all_ = (
        served(llama_8b, cluster, speculation=Speculation(4, a)) for a in (0, 0.5, 1)
    )
    plain = served(llama_8b, cluster)
    assert_close(none.tpot, 5 * all_.tpot, rtol=1e-6)
    assert_close(none.tpot, (31 / 16) * half.tpot, rtol=1e-6)
    assert 1 < none.tpot / plain.tpot < 1.05  # weights are read once, for 5 tokens as for 1
    assert_close(none.ttft, plain.ttft, rtol=0)


def test_a_draft_model_takes_its_time_and_memory(llama_8b, small, cluster):
    free, drafted = (
        served(llama_8b, cluster, PLANS[1], speculation=Speculation(4, 0.5, draft))
        for draft in (None, small)
    )
    alone = served(small.model, cluster, small.plan)
    assert_close(drafted.tpot, free.tpot + 4 / (31 / 16) * alone.tpot, rtol=1e-6)
    assert_close(drafted.ttft, free.ttft + alone.ttft, rtol=1e-6)
    assert_close(drafted.memory.weights, free.memory.weights + alone.memory.weights, rtol=1e-6)
    assert drafted.memory.kv_cache > free.memory.kv_cache + alone.memory.kv_cache
    assert drafted.energy_per_output_token > free.energy_per_output_token


@pytest.mark.parametrize("name", MODELS)
def test_beams_keep_the_prompt_once(name, cluster):
    model = load_model(name)
    short = CHAT.replace(input_tokens=1, output_tokens=60)
    with jax.disable_jit():
        results = jax.vmap(lambda beams: served(model, cluster, beams=beams))(
            jnp.array([1.0, 2.0, 3.0])
        )
        one = served(model, cluster, workload=short).memory.kv_cache * 60 / 61
    more = np.diff(results.memory.kv_cache)
    assert_close(more[0], more[1], rtol=1e-4)
    assert_close(more[0], one, rtol=1e-3)
    assert (np.diff(results.tpot) > 0).all()
    assert_close(results.ttft, jnp.broadcast_to(results.ttft[0], 3), rtol=0)


EDGES = [*itertools.product((200.0, 9000.0), (0.0, 1.0), (0.0, 1.0), (1.0, 4.0))]
"""Chunks, prefix hits, acceptances and beams."""


@pytest.mark.parametrize("model", [WINDOWED, EXPERTS], ids=lambda model: model.name)
def test_gradients_are_finite_everywhere(model, cluster):
    """With respect to every option, at its ends too."""

    def slopes(chunk, hit, acceptance, beams):
        def cost(serving):
            metrics = metrics_of(estimate(Scenario(model, cluster, CHAT, PLANS[1], None, serving)))
            return sum(jnp.log(x) for x in metrics.values())

        return jax.value_and_grad(cost)(Serving(chunk, hit, Speculation(3.0, acceptance), beams))

    columns = (jnp.array(column) for column in zip(*EDGES, strict=True))
    with jax.disable_jit():
        assert_finite(jax.vmap(slopes)(*columns))


def test_a_draft_model_may_have_accelerators_of_its_own(llama_70b, cluster):
    """Alike, they take the same time; they hold the draft, cost and draw power."""
    small, plan = load_model("meta-llama/Llama-3.1-8B"), Parallelism(tensor=4, data=2)
    own = cluster.replace(accelerators=1.0)

    def drafted(platform):
        draft = Draft(small, 1, platform=platform)
        return served(llama_70b, cluster, plan, speculation=Speculation(3, 0.6, draft))

    beside, apart = drafted(None), drafted(own)
    assert_close(
        [apart.ttft, apart.tpot, apart.throughput],
        [beside.ttft, beside.tpot, beside.throughput],
        rtol=1e-6,
    )
    # two replicas, a draft model for each
    each = apart.throughput / (4 * 2 + 2)
    assert_close(apart.tokens_per_second_per_accelerator, each, rtol=1e-6)
    assert apart.memory.draft is not None
    assert_close(apart.memory.draft.weights, 2 * small.parameters, rtol=1e-6)
    assert_close(
        apart.memory.weights + apart.memory.draft.weights, beside.memory.weights, rtol=1e-6
    )
    tokens = CHAT.batch * CHAT.output_tokens
    idle = 2 * own.accelerator.idle_power * apart.end_to_end / tokens
    assert_close(apart.energy_per_output_token, beside.energy_per_output_token + idle, rtol=1e-5)
    chip = own.accelerator
    slow = own.replace(accelerator=chip.replace(memory_bandwidth=chip.memory_bandwidth / 2))
    assert drafted(slow).tpot > apart.tpot
    assert bool(apart.memory.fits)
    tight = own.replace(accelerator=chip.replace(memory_capacity=8e9))
    assert not bool(drafted(tight).memory.fits)
    with pytest.raises(
        InputError, match="tensor: 2 exceeds 1, the accelerators of the draft model's platform"
    ):
        Draft(small, 2, platform=own)
