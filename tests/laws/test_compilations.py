"""One program for each structure: other names, numbers and accelerators compile nothing anew."""

from itertools import product

import jax
import jax.numpy as jnp
import pytest

from diffgenz import (
    Parallelism,
    Precision,
    Scenario,
    Workload,
    breakdown,
    elasticities,
    estimate,
    ideal_platform,
    load_model,
    load_platform,
    load_use_case,
    requirements,
    search,
)
from diffgenz.core import verb
from diffgenz.inference.resolved import resolved

COMPILED = "/jax/core/compile/backend_compile_duration"
LLAMA_8B, LLAMA_70B = "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B"
KINDS = (
    (LLAMA_8B, LLAMA_70B),
    ("mistralai/Mistral-7B-v0.1",),  # windowed attention
    ("Qwen/Qwen2.5-0.5B",),  # biases, tied embedding
    ("google/gemma-3-27b-pt",),  # windowed and full attention, more norms
)
"""Five dense models, by structure."""
FITS = pytest.mark.parametrize("fit", ["none", "fitted"])


@pytest.fixture
def programs(monkeypatch):
    """The names of the functions that JAX compiles from here on, as it compiles them.

    NumPy answers nothing: the first question of a kind is compiled already.
    """
    monkeypatch.setattr(verb, "FEW", 0)
    jax.clear_caches()
    names: list[str] = []

    def listen(event: str, seconds: float, fun_name: str = "", **_) -> None:
        if event == COMPILED:
            names.append(fun_name.removeprefix("jit(").removesuffix(")"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


SYSTEMS = {"none": ("h100_sxm", "h200_sxm"), "fitted": ("h100_sxm", "h100_sxm")}
"""Two accelerators; fits of attention have other terms on each, so that one stands twice there."""


def platform(system: str, fit: str, accelerators: int = 8):
    """With its fitted kernels, or with none."""
    options = {"fit": "none"} if fit == "none" else {}
    return load_platform(system, accelerators, **options)


@FITS
def test_models_and_accelerators_of_one_kind_share_a_program(programs, fit):
    """Two Llamas on H100 and, of roofline alone, H200, in two workloads and plans."""
    cases = [
        Scenario(load_model(model), platform(system, fit), Workload(batch, 100, 10), plan)
        for model, system in product((LLAMA_8B, LLAMA_70B), dict.fromkeys(SYSTEMS[fit]))
        for batch, plan in ((1, Parallelism(8)), (64, Parallelism(2, 2, 2)))
    ]
    tpots = {float(estimate(case).tpot) for case in cases}
    assert len(tpots) == len(cases) >= 4
    assert programs.count("compiled_estimate") == 1


@FITS
def test_nothing_at_all_is_compiled_for_a_second_scenario(programs, fit):
    """Neither for the estimate nor for what leads to it, building and checking it included."""
    first, second = SYSTEMS[fit]
    estimate(Scenario(load_model(LLAMA_8B), platform(first, fit), Workload(1, 100, 10)))
    programs.clear()
    other = Scenario(load_model(LLAMA_70B), platform(second, fit), Workload(64, 200, 20))
    estimate(other)
    assert programs == []


@FITS
def test_batches_of_one_length_share_a_program(programs, fit):
    first, second = SYSTEMS[fit]
    case = Scenario(load_model(LLAMA_8B), platform(first, fit))
    other = Scenario(load_model(LLAMA_70B), platform(second, fit))

    def times(case, batches):
        def one(batch):
            return estimate(case.replace(workload=case.workload.replace(batch=batch))).tpot

        return jax.vmap(one)(jnp.asarray(batches))

    first = times(case, [1.0, 8.0, 64.0])
    second = times(other, [2.0, 16.0, 128.0])
    assert (second > first).all()
    assert programs.count("compiled_estimate") == 1


def test_every_structure_is_compiled_once(programs):
    """240 estimates: five dense models on three GPUs, tensor ranks of 1 to 8, four batches.

    Each kind of model is one program.
    """
    structures = set()
    models = [load_model(name) for kind in KINDS for name in kind]
    for model, system in product(models, ("a100_sxm", "h100_sxm", "h200_sxm")):
        hardware = platform(system, "none")
        most = float(model.most_shards)
        for tensor, batch in product((1, 2, 4, 8), (1, 8, 64, 256)):
            plan = Parallelism(min(tensor, most))
            case = Scenario(model, hardware, Workload(batch, 1000, 100), plan)
            structures.add(jax.tree.structure(resolved(case)))
            estimate(case)
    assert programs.count("compiled_estimate") == len(structures) == len(KINDS)


def explain(model: str, system: str) -> None:
    """What else is asked of one scenario, its kernels fitted."""
    case = Scenario(load_model(model), platform(system, "fitted"), Workload(4, 100, 10))
    breakdown(case)
    elasticities(case, "tpot")


def study(model: str, system: str) -> None:
    """What looks at many scenarios."""
    case = Scenario(load_model(model), platform(system, "none"), Workload(4, 100, 10))
    search(case, tpot=1.0, batches=[1, 8], precisions=[Precision()])
    chat, plan = load_use_case("chat"), Parallelism(8)
    ideal = ideal_platform(plan, Precision())
    use = Scenario(load_model(model), ideal, chat.workload, plan, serving=chat.served())
    requirements(use, ttft=chat.ttft, tpot=chat.tpot)


@pytest.mark.parametrize(("ask", "fit"), [(explain, "fitted"), (study, "none")])
def test_other_verbs_share_their_programs_too(programs, ask, fit):
    first, second = SYSTEMS[fit]
    ask(LLAMA_8B, first)
    assert programs
    programs.clear()
    ask(LLAMA_70B, second)
    assert programs == []
