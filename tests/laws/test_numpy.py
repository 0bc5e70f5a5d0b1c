"""One configuration is answered in NumPy: as JAX does, and without JAX."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive
from support import assert_close
from whole_models import SCENARIOS

from diffgenz import (
    Parallelism,
    Scenario,
    Workload,
    breakdown,
    deviations,
    elasticities,
    estimate,
    iteration_cost,
    load_model,
    load_platform,
)
from diffgenz.core import verb, xp
from diffgenz.core.differences import as_double
from diffgenz.inference.essential import essential
from diffgenz.inference.estimate import compiled_estimate
from diffgenz.inference.prefill_decode import Decodes, Prompts
from diffgenz.inference.timed_by import timed_by
from diffgenz.inference.uncertainty import _moved, _with_kernels, gradients
from diffgenz.kernels.selection import fits_behind
from diffgenz.models.files import NESTED, kind_of, list_models, read_config

CHAT = Workload(12, 700, 90)
KINDS = {
    "dense": "meta-llama/Llama-3.1-8B",
    "experts": "Qwen/Qwen3-30B-A3B",
    "latent attention": "deepseek-ai/DeepSeek-V2-Lite",
    "hybrid": "nvidia/Nemotron-H-8B-Base-8K",
    "vision": "Qwen/Qwen3-VL-8B-Instruct",
}
"""A shipped model of each kind."""


def shipped(name: str, fit: str = "fitted") -> Scenario:
    """A model on two accelerators; with images where it sees them."""
    model = load_model(name)
    platform = load_platform("h100_sxm", 2, **({"fit": "none"} if fit == "none" else {}))
    most = min(2.0, float(model.most_shards))
    sees = CHAT if model.vision is None else CHAT.replace(images=2)
    return Scenario(model, platform, sees, Parallelism(most))


def family_models() -> list[str]:
    """The first shipped model of each `model_type` that brings another set of kinds of blocks.

    Those of `whole_models` are left out: `test_whole_models` compares all their numbers.
    """
    found: dict[frozenset[type], str] = {}
    usual = {type(each.block) for case in SCENARIOS.values() for each in case.model.blocks}
    seen = set()
    for name in list_models():
        config = read_config(name)[1]
        nested = next((config[key] for key in NESTED if key in config), config)
        kind = kind_of(nested) or kind_of(config)
        if kind not in seen:
            seen.add(kind)
            model = load_model(name)
            blocks = frozenset(type(repeated.block) for repeated in model.blocks)
            if not blocks <= usual:
                found.setdefault(blocks | {type(model.vision)}, name)
    return sorted(found.values())


def of_jax(case: Scenario) -> Scenario:
    """The same numbers as arrays of JAX."""
    return jax.tree.map(jnp.asarray, case)


@pytest.mark.parametrize("name", family_models())
def test_an_estimate_is_that_of_jax(name):
    """JAX does one operation after the other here: to compile them takes longer."""
    case = shipped(name)
    found = estimate(case)
    with jax.disable_jit():
        expected = estimate(of_jax(case))
    assert xp.is_jax(expected)
    assert not xp.is_jax(found)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(found))
    assert_close(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "fit"), [("dense", "none"), ("experts", "fitted"), ("vision", "fitted")]
)
def test_elasticities_are_the_derivatives(kind, fit, double):
    case = as_double(shipped(KINDS[kind], fit))
    metric = "ttft" if kind == "vision" else "tpot"
    found = elasticities(case, metric)
    with jax.disable_jit():
        expected = elasticities(of_jax(case), metric)
    assert found.keys() == expected.keys()
    assert_close(found, expected, rtol=0, atol=1e-6)
    assert sum(abs(each) > 1e-3 for each in found.values()) > 3


def test_deviations_are_those_by_derivatives(double):
    case = essential(as_double(shipped(KINDS["dense"])))
    library = case.platform.accelerator.kernels
    fits = [
        fit
        for fit in fits_behind(load_platform("h100_sxm").accelerator.kernels)
        if fit.format in library.forms.get(fit.family, {})
    ]

    def times(library, case):
        return jnp.log(_with_kernels(library, case).ttft)

    def derived(unknown):
        return times(_moved(library, fits, unknown), case)

    centre = [jnp.append(fit.fitted.free, 0.0) for fit in fits]
    with jax.disable_jit():
        expected = jax.grad(derived)(centre)
    assert_close(gradients(times, library, fits, case), expected, rtol=0, atol=1e-6)


def test_a_zero_and_what_is_not_in_use_have_elasticity_zero():
    case = shipped(KINDS["dense"])
    levels = (case.platform.network[0].replace(latency=0.0), *case.platform.network[1:])
    card = elasticities(case.replace(platform=case.platform.replace(network=levels)), "ttft")
    assert card["network[0].latency"] == card["accelerator.peak_flops[fp8]"] == 0
    assert not any(name.endswith((".size", "accelerators")) for name in card)


# ---- without JAX


@pytest.fixture
def bound(monkeypatch):
    """The primitives of JAX that are bound from here on."""
    names: list[str] = []
    bind = Primitive.bind

    def counted(self, *args, **params):
        names.append(self.name)
        return bind(self, *args, **params)

    monkeypatch.setattr(Primitive, "bind", counted)
    return names


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_asked_of_jax(kind, bound):
    case = shipped(KINDS[kind])
    estimate(case)
    breakdown(case)
    elasticities(case, "tpot")
    deviations(case)
    deviations(case, samples=10)
    timed_by(case)
    iteration_cost(case, Prompts(1, 100), Decodes(10, 500))
    assert bound == []
    estimate(of_jax(case))
    assert bound


def test_many_questions_of_a_kind_are_compiled(monkeypatch):
    monkeypatch.setattr(verb, "FEW", 2)
    monkeypatch.setattr(compiled_estimate, "_calls", Counter())
    case = SCENARIOS["dense"]
    asked = [case.replace(workload=Workload(batch, 700, 90)) for batch in (1, 2, 3, 4)]
    asked = jax.tree.map(lambda x: np.asarray(x, np.float32)[()], asked)
    assert [xp.is_jax(estimate(each)) for each in asked] == [False, False, True, True]
