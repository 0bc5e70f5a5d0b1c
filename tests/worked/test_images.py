"""What images do to an estimate."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import as_double, assert_close, assert_finite, make_cluster, stack
from whole_models import SEEING

from diffgenz import (
    Parallelism,
    Scenario,
    Workload,
    breakdown,
    estimate,
    load_model,
    load_platform,
)
from diffgenz.studies.search.smallest_layout import smallest_layout


@pytest.fixture(scope="module")
def qwen():
    return load_model("Qwen/Qwen2.5-VL-7B-Instruct")


@pytest.fixture(scope="module")
def h100():
    return load_platform("h100_sxm", 8, fit="none")


def test_images_cost_time_before_the_first_token_and_then_only_context(qwen, h100):
    none, some = (
        estimate(Scenario(qwen, h100, Workload(4, 1024, 128, images=images), Parallelism()))
        for images in (0, 2)
    )
    as_text = Workload(4, 1024 + 2 * 1369, 128)  # as many tokens
    same = estimate(Scenario(qwen, h100, as_text, Parallelism()))
    assert float(some.ttft) > float(same.ttft) > float(none.ttft)
    assert_close(
        (some.tpot, some.memory.kv_cache, some.memory.weights),
        (same.tpot, same.memory.kv_cache, same.memory.weights),
        1e-6,
    )


def test_without_images_a_tower_costs_its_weights_only(qwen, h100):
    work = Workload(4, 1024, 128)
    blind, seeing = (
        estimate(Scenario(qwen.replace(vision=None), h100, work, Parallelism())),
        estimate(Scenario(qwen, h100, work, Parallelism())),
    )
    assert_close(
        (seeing.ttft, seeing.tpot, seeing.energy_per_output_token),
        (blind.ttft, blind.tpot, blind.energy_per_output_token),
        1e-6,
    )
    assert float(seeing.memory.weights - blind.memory.weights) == pytest.approx(
        2 * 676_550_144, rel=1e-4
    )
    assert float(seeing.memory.activations) == float(blind.memory.activations)


@pytest.mark.parametrize("pipeline", [1, 2, 4])
def test_a_tower_is_on_the_first_stage(pipeline, qwen, h100):
    """With the embedding, which is as large as the LM head on the last."""
    plan, work = Parallelism(pipeline=pipeline), Workload()
    seeing, blind = (
        estimate(Scenario(model, h100, work, plan)).memory.weights
        for model in (qwen, qwen.replace(vision=None))
    )
    difference = seeing - blind
    assert float(difference) == pytest.approx(2 * 676_550_144, rel=1e-4)


def test_more_images_cost_more_and_less_than_one_its_share(h100):
    """A compute-bound tower takes time per image.

    Less than one image in a batch takes its share of one.
    """
    model = load_model("llava-hf/llava-1.5-7b-hf")

    def seconds(images):
        case = Scenario(model, h100, Workload(8, 1024, 128, images=images), Parallelism())
        rows = breakdown(case).rows("ttft")
        return sum(sum(row.values()) for name, row in rows.items() if name.startswith("vision_"))

    assert seconds(0.0) == 0
    assert seconds(20.0) == pytest.approx(2 * seconds(10.0), rel=0.01)
    assert seconds(1 / 16) == pytest.approx(seconds(1 / 8) / 2, rel=1e-5)


IMAGES = (0.0, 0.05, 3.0)
PLANS = (
    Parallelism(),
    Parallelism(tensor=4, overlap=0.5),
    Parallelism(tensor=2, pipeline=2, data=2),
)


def test_a_breakdown_adds_up(qwen, h100):
    def explained(images, plan):
        case = Scenario(qwen, h100, Workload(8, 512, 64, images=images), plan)
        return estimate(case), breakdown(case)

    chosen = [*itertools.product(IMAGES, PLANS)]
    images, plans = zip(*chosen, strict=True)
    with jax.disable_jit():  # the program would run once: to compile it takes longer
        whole, parts = jax.vmap(explained)(jnp.array(images), stack(plans))
    for phase in ("ttft", "tpot"):
        seconds = np.asarray(getattr(parts, phase))
        assert_close(seconds.sum(axis=(1, 2)), getattr(whole, phase), 1e-5)
    vision = [row for row, name in enumerate(parts.operators) if name.startswith("vision_")]
    assert (parts.tpot[:, np.array(vision)] == 0).all()
    reduced = parts.ttft[:, parts.operators.index("vision_all_reduce")].sum(axis=-1)
    for (count, plan), seconds in zip(chosen, reduced, strict=True):
        assert (seconds > 0) == (count > 0 and float(plan.tensor) > 1)


def test_slopes_are_those_of_differences_and_finite_for_few_images(double):
    """With respect to the images, and to their size, of which the rounding is left out."""
    case = as_double(Scenario(SEEING, make_cluster(), Workload(4, 1024, 128), Parallelism(2)))

    def ttft(images, size):
        model = case.model.replace(vision=case.model.vision.replace(image_size=size))
        workload = case.workload.replace(images=images)
        return estimate(case.replace(model=model, workload=workload)).ttft

    step = 1e-4
    images = jnp.array([2.0, 2 + step, 2 - step, 0.0, 0.25, 1.0])
    slopes = jax.jit(jax.vmap(jax.value_and_grad(ttft, argnums=(0, 1)), (0, None)))
    times, (by_images, by_size) = slopes(images, jnp.asarray(448.0))
    assert_finite((by_images, by_size))
    assert by_size[0] > 0
    assert_close(by_images[0], (times[1] - times[2]) / (2 * step), rtol=1e-5)


def test_a_smallest_layout_holds_the_tower(qwen, h100):
    """15.2 GB of language model fit on a 16.4 GB accelerator; the tower's 1.35 GB more do not."""
    accelerator = h100.accelerator.replace(memory_capacity=16.4e9 / 0.9, memory_reserve=0.0)
    case = Scenario(qwen, h100.replace(accelerator=accelerator), Workload(1, 64, 8))
    blind = case.replace(model=qwen.replace(vision=None))
    layouts = [smallest_layout(each, 1) for each in (blind, case)]
    assert [layout and float(layout.platform.accelerators) for layout in layouts] == [1, 2]
