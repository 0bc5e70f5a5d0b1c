"""Scenarios: defaults, and what cannot be."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import make_cluster
from whole_models import DENSE, EXPERTS, HYBRID, SEEING, SMALL

from diffgenz import (
    MTP,
    Draft,
    InputError,
    MemoryTier,
    Mix,
    Parallelism,
    Precision,
    Scenario,
    Serving,
    Speculation,
    Workload,
    estimate,
)
from diffgenz.core.checks import all_hold
from diffgenz.core.record import conditions_within
from diffgenz.scenario.scenario import prompted

CLUSTER = make_cluster()
CHAT = Workload(batch=12, input_tokens=700, output_tokens=90)


def drafting(draft=None):
    return Serving(speculation=Speculation(3, 0.6, draft))


# ---- defaults


@pytest.mark.parametrize("accelerators", [1, 8, 16])
def test_by_default_all_accelerators_share_each_layer(accelerators):
    case = Scenario(DENSE, CLUSTER.replace(accelerators=accelerators))
    assert eqx.tree_equal(case.plan, Parallelism(tensor=accelerators))
    assert eqx.tree_equal(case.workload, Workload())
    assert eqx.tree_equal(case.precision, Precision())
    assert eqx.tree_equal(case.serving, Serving())
    assert case.sharpness == 8


def test_the_default_plan_is_refused_where_heads_do_not_suffice():
    with pytest.raises(InputError, match="tensor: 64 exceeds 16, the heads of dense; use fewer"):
        Scenario(DENSE, CLUSTER)


def test_replace_keeps_the_plan_and_checks_again():
    case = Scenario(DENSE, CLUSTER, CHAT, Parallelism(4, 2))
    assert float(case.replace(model=SMALL).plan.ranks) == 8
    with pytest.raises(InputError, match="128 exceeds 64"):
        case.replace(plan=Parallelism(8, 2, 8))
    with pytest.raises(InputError, match="Scenario field: 'platfrm' is not known; did you mean"):
        case.replace(platfrm=CLUSTER)


# ---- what cannot be

BAD = [
    (
        DENSE,
        {"plan": Parallelism(8, 4, 4)},
        "tensor x context x attention_data x pipeline x data: 128 exceeds 64, the platform's "
        "accelerators; use fewer ranks or more accelerators",
    ),
    (
        DENSE,
        {"plan": Parallelism(32)},
        r"tensor: 32 exceeds 16, the heads of dense; use fewer tensor-parallel ranks "
        r"\(Scenario.plan\)",
    ),
    (
        DENSE,
        {"plan": Parallelism(1, 25)},
        "pipeline: 25 exceeds 24, the layers of dense; use fewer stages",
    ),
    (
        HYBRID,
        {"plan": Parallelism(context=2)},
        "context: 2 exceeds 1, since hybrid keeps a state per sequence; use tensor, pipeline or "
        "data",
    ),
    (
        DENSE,
        {"plan": Parallelism(2, expert=2)},
        "expert: 2 exceeds 1, since dense has no experts; leave it out",
    ),
    (
        DENSE,
        {"plan": Parallelism(attention_data=2)},
        "attention_data: 2 exceeds 1, since dense has no experts; use data",
    ),
    (
        EXPERTS,
        {"plan": Parallelism(1, expert=3, attention_data=3)},
        "expert: 3 does not divide the 64 experts of experts; choose a divisor",
    ),
    (
        DENSE,
        {"precision": Precision(weights="int8", activations="int8")},
        "precision: chip has no int8 arithmetic; it has bf16, fp8",
    ),
    (
        DENSE,
        {"precision": Precision("fp16")},
        "precision: chip has no fp16 arithmetic; it has bf16, fp8; .* or set dtype to one of them",
    ),
    (
        DENSE,
        {"workload": Workload(images=2)},
        "images: 2 exceeds 0, since dense has no vision tower that is modelled; leave them out",
    ),
    (
        DENSE,
        {"serving": drafting(MTP())},
        "draft: dense has no multi-token-prediction module that is modelled; name a draft model, "
        "or leave it out to draft by n-grams",
    ),
    (
        DENSE,
        {"serving": drafting(Draft(SMALL, 2))},
        "draft tensor: 2 exceeds 1, the ranks of a replica; use fewer for the draft model",
    ),
    (
        DENSE,
        {"serving": drafting(Draft(SMALL, precision=Precision("fp16")))},
        "chip has no fp16 arithmetic",
    ),
    (
        DENSE,
        {"serving": Serving(offload="weights")},
        r"offload: chip has no slower memory to offload to; leave it out, or add a "
        r"\[\[memory_tier\]\] to its file \(Accelerator.tiers\)",
    ),
    (
        DENSE,
        {"sharpness": 3},
        r"sharpness: 3 is not available; use 1, 2, 4, 8 or diffgenz.HARD",
    ),
]


@pytest.mark.parametrize(
    ("model", "options", "message"), BAD, ids=[message[:40] for *_, message in BAD]
)
def test_what_cannot_be_is_refused(model, options, message):
    with pytest.raises(InputError, match=message):
        Scenario(model, CLUSTER, **{"plan": Parallelism()} | options)


def test_a_draft_with_a_platform_of_its_own_needs_no_ranks_of_the_replica():
    apart = Draft(SMALL, 2, platform=make_cluster(2))
    case = Scenario(DENSE, CLUSTER, CHAT, Parallelism(), serving=drafting(apart))
    assert case.serving.draft is apart


def test_only_images_need_a_tower():
    seen = prompted(Scenario(SEEING, CLUSTER, Workload(1, 100, 10, 2), Parallelism()))
    assert (float(seen.workload.input_tokens), float(seen.workload.images)) == (100 + 2 * 256, 0)


def test_what_may_be_offloaded_depends_on_the_platform():
    tiers = (MemoryTier("host", 1e12, 5e10),)
    tiered = CLUSTER.replace(accelerator=CLUSTER.accelerator.replace(tiers=tiers))
    case = Scenario(DENSE, tiered, CHAT, Parallelism(), serving=Serving(offload="weights"))
    with pytest.raises(InputError, match="offload: chip has no slower memory"):
        case.replace(platform=CLUSTER)


# ---- single numbers


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("record", "field"),
    [(Workload, name) for name in ("batch", "input_tokens", "output_tokens")]
    + [(Parallelism, name) for name in ("tensor", "pipeline", "data", "expert", "attention_data")],
)
def test_a_bad_number_is_refused_by_name(record, field, value):
    with pytest.raises(InputError, match=f"{field}: {value:g} is not allowed"):
        record(**{field: value})


@pytest.mark.parametrize("images", [-1.0, float("nan"), float("inf")])
def test_bad_images_are_refused(images):
    with pytest.raises(InputError, match="images: "):
        Workload(images=images)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_overlap_is_a_share(value):
    with pytest.raises(InputError, match="overlap"):
        Parallelism(overlap=value)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Parallelism(context=0.5), "context: 0.5 is not allowed"),
        (lambda: Parallelism(context=2.5), "context: 2.5 is not a whole number of ranks"),
        (lambda: Parallelism(2.5), "tensor: 2.5 is not a whole number of ranks"),
        (lambda: Parallelism(context=float("nan")), "context: nan"),
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


# ---- traced numbers


def test_records_are_built_under_jit_and_vmap():
    @jax.jit
    @jax.vmap
    def tpot(batch, ranks, bandwidth):
        accelerator = CLUSTER.accelerator.replace(memory_bandwidth=bandwidth)
        platform = CLUSTER.replace(accelerator=accelerator)
        return estimate(
            Scenario(DENSE, platform, Workload(batch, 100, 10), Parallelism(ranks))
        ).tpot

    times = tpot(jnp.array([1.0, 2]), jnp.array([1.0, 4]), jnp.array([1e12, 2e12]))
    assert np.isfinite(times).all()


def test_conditions_on_traced_numbers_are_booleans():
    """What an error says of one scenario is a mask over many."""

    @jax.vmap
    def legal(tensor, pipeline, data):
        case = Scenario(DENSE, CLUSTER, CHAT, Parallelism(tensor, pipeline, data))
        return all_hold(conditions_within(case))

    plans = [(1, 1, 1), (16, 2, 2), (32, 1, 1), (16, 4, 2), (1, 25, 1), (1, 24, 2)]
    found = legal(*jnp.asarray(plans, float).T)
    assert found.tolist() == [True, True, False, False, False, True]


# ---- mixes


def test_a_mix_needs_a_share_for_each_of_its_scenarios():
    case = Scenario(DENSE, CLUSTER, CHAT, Parallelism())
    assert len(Mix((case, case), (1.0, 3.0)).scenarios) == 2
    with pytest.raises(InputError, match="scenarios: a mix needs at least one"):
        Mix((), ())
    with pytest.raises(InputError, match="shares: 1 shares for 2 scenarios; give one each"):
        Mix((case, case), (1.0,))
    with pytest.raises(InputError, match="shares: 0 is not allowed"):
        Mix((case,), (0.0,))
