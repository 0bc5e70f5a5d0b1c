"""What images do to an estimate."""

import json

import jax
import jax.numpy as jnp
import pytest
from support import assert_close, assert_finite, explained

from diffgenz import (
    Parallelism,
    Precision,
    Scenario,
    Workload,
    breakdown,
    estimate,
    load_model,
    load_platform,
)
from diffgenz.core.errors import InputError
from diffgenz.inference.elasticities import elasticities
from diffgenz.studies.search.smallest_layout import smallest_layout
from diffgenz.ui.cli.main import main

BF16 = Precision()


@pytest.fixture(scope="module")
def qwen():
    return load_model("Qwen/Qwen2.5-VL-7B-Instruct")


@pytest.fixture(scope="module")
def h100():
    return load_platform("h100_sxm", 8, fit="none")


def test_flops_of_llava_are_twice_its_parameters_per_patch():
    tower = load_model("llava-hf/llava-1.5-7b-hf").vision
    assert tower is not None
    layers = [
        op
        for op in tower.operators(1.0, BF16, 1.0)
        if op.name in ("vision_qkv", "vision_attention_out", "vision_up", "vision_down")
    ]
    weights = sum(float(op.parameters * op.repeats) for op in layers)
    assert sum(float(op.flops * op.repeats) for op in layers) == pytest.approx(
        2 * 577 * weights, rel=1e-3
    )  # 577: with the class token


def test_images_cost_time_before_the_first_token_and_then_only_context(qwen, h100):
    none, some = (
        estimate(Scenario(qwen, h100, Workload(4, 1024, 128, images=images), Parallelism()))
        for images in (0, 2)
    )
    same = estimate(
        Scenario(qwen, h100, Workload(4, 1024 + 2 * 1369, 128), Parallelism())
    )  # as many tokens of text
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
    difference = (
        estimate(Scenario(qwen, h100, work, plan)).memory.weights
        - estimate(Scenario(qwen.replace(vision=None), h100, work, plan)).memory.weights
    )
    assert float(difference) == pytest.approx(2 * 676_550_144, rel=1e-4)


def test_more_images_cost_more_and_less_than_one_its_share(h100):
    """A compute-bound tower takes time per image; less than one image in a batch takes its share of one."""
    model = load_model("llava-hf/llava-1.5-7b-hf")

    def seconds(images):
        rows = breakdown(
            Scenario(model, h100, Workload(8, 1024, 128, images=images), Parallelism())
        ).rows("ttft")
        return sum(sum(row.values()) for name, row in rows.items() if name.startswith("vision_"))

    assert seconds(0.0) == 0
    assert seconds(20.0) == pytest.approx(2 * seconds(10.0), rel=0.01)
    assert seconds(1 / 16) == pytest.approx(seconds(1 / 8) / 2, rel=1e-5)


@pytest.mark.parametrize(
    "plan",
    [Parallelism(), Parallelism(tensor=4, overlap=0.5), Parallelism(tensor=2, pipeline=2, data=2)],
    ids=str,
)
@pytest.mark.parametrize("images", [0.0, 0.05, 3.0])
def test_a_breakdown_adds_up(images, plan, qwen, h100):
    work = Workload(8, 512, 64, images=images)
    whole, parts = explained(Scenario(qwen, h100, work, plan))
    assert_close((parts.ttft.sum(), parts.tpot.sum()), (whole.ttft, whole.tpot), 1e-5)
    rows = parts.rows("tpot")
    assert all(sum(row.values()) == 0 for name, row in rows.items() if name.startswith("vision_"))
    assert (sum(parts.rows("ttft")["vision_all_reduce"].values()) > 0) == (
        images > 0 and float(plan.tensor) > 1
    )


def test_gradients_are_finite_and_those_of_differences(qwen, h100, double):
    def ttft(images, size):
        model = qwen.replace(vision=qwen.vision.replace(image_size=size))
        return estimate(
            Scenario(model, h100, Workload(4.0, 1024.0, 128.0, images=images), Parallelism(2))
        ).ttft

    step = 1e-4
    images = jnp.array([2.0, 2 + step, 2 - step, 0.0, 0.25, 1.0])
    times, slopes = jax.jit(jax.vmap(jax.value_and_grad(ttft, argnums=(0, 1)), (0, None)))(
        images, jnp.asarray(1036.0)
    )
    assert_finite(slopes)
    assert slopes[1][0] > 0
    assert float(slopes[0][0]) == pytest.approx(float(times[1] - times[2]) / (2 * step), rel=1e-5)
    assert_finite(
        jax.jit(
            jax.grad(
                lambda model: (
                    estimate(Scenario(model, h100, Workload(images=1.0), Parallelism())).ttft
                )
            )
        )(qwen)
    )


def test_a_batch_of_workloads_is_each_of_them(qwen, h100):
    images = jnp.array([0.0, 0.5, 1.0, 4.0])
    together = jax.vmap(
        lambda n: (
            estimate(Scenario(qwen, h100, Workload(2.0, 512.0, 64.0, images=n), Parallelism())).ttft
        )
    )(images)
    assert_close(
        together,
        [
            float(
                estimate(Scenario(qwen, h100, Workload(2, 512, 64, images=n), Parallelism())).ttft
            )
            for n in images.tolist()
        ],
        1e-6,
    )


def test_elasticities_of_a_time_sum_to_one(qwen, h100):
    card = elasticities(
        Scenario(qwen, h100, Workload(4, 256, 32, images=2), Parallelism(tensor=4)), "ttft"
    )
    rates = ("bandwidth", "peak_flops", "efficiency")
    moved = {name: float(value) for name, value in card.items() if "efficiency" not in name}
    assert sum(
        value if "latency" in name else -value
        for name, value in moved.items()
        if "latency" in name or any(r in name for r in rates)
    ) == (pytest.approx(1, abs=1e-3))


def test_a_smallest_layout_holds_the_tower(qwen, h100):
    """15.2 GB of language model fit on a 16.4 GB accelerator; the tower's 1.35 GB more do not."""
    accelerator = h100.accelerator.replace(memory_capacity=16.4e9, memory_reserve=0.0)
    platform, work = h100.replace(accelerator=accelerator), Workload(1, 64, 8)
    layouts = [
        smallest_layout(model, platform, work, 1, BF16)
        for model in (qwen.replace(vision=None), qwen)
    ]
    assert [layout and layout.accelerators for layout in layouts] == [1, 2]


def test_images_need_a_tower(llama_8b, h100):
    for function in (estimate, breakdown):
        with pytest.raises(
            InputError,
            match=r"images: 2 exceeds 0, since meta-llama/Llama-3\.1-8B has no vision tower",
        ):
            function(Scenario(llama_8b, h100, Workload(images=2), Parallelism()))


@pytest.mark.parametrize("images", [-1.0, float("nan"), float("inf")])
def test_bad_images_are_refused(images):
    with pytest.raises(InputError, match="images: "):
        Workload(images=images)


@pytest.mark.slow
def test_images_on_the_command_line(capsys):
    arguments = [
        "llava-hf/llava-1.5-7b-hf",
        "--system",
        "h100_sxm",
        "--isl",
        "512",
        "--osl",
        "16",
        "--images",
        "2",
    ]
    assert main(["estimate", *arguments, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["images"] == 2
    assert sum(data["breakdown"]["ttft"]["vision_attention"].values()) > 0
    assert main(["sensitivity", *arguments, "--metric", "ttft"]) == 0
    assert "512 tokens and 2 x 576 of images in, 16 out" in capsys.readouterr().out


def test_images_without_a_tower_on_the_command_line(capsys):
    for command in ("estimate", "sensitivity"):
        assert (
            main([command, "meta-llama/Llama-3.1-8B", "--system", "h100_sxm", "--images", "1"]) == 2
        )
        assert "images: 1 exceeds 0" in capsys.readouterr().err
