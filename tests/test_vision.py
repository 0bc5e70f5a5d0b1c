"""Vision towers: parameters, tokens and FLOP by hand, and what images do to an estimate."""

import json

import jax
import jax.numpy as jnp
import pytest
from support import assert_close, assert_finite, explained

from diffgenz import (
    Scenario,
    Parallelism,
    Precision,
    Workload,
    breakdown,
    estimate,
    load_model,
    load_platform,
    model_from_config,
)
from diffgenz.core.errors import InputError
from diffgenz.inference.elasticities import elasticities
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.families.vision import VISION
from diffgenz.models.files import model_ids, read_config
from diffgenz.models.vision import PatchAttention, Projector, Tower
from diffgenz.operators.operator import Kind
from diffgenz.studies.search.smallest_layout import smallest_layout
from diffgenz.ui.cli.main import main

TOWERS = {  # parameters, from the checkpoints' tensor shapes; patches and tokens of an image
    "llava-hf/llava-1.5-7b-hf": (324_487_168, 24**2, 576),
    "google/gemma-3-27b-it": (423_060_336, 64**2, 256),
    "Qwen/Qwen2.5-VL-7B-Instruct": (676_550_144, 74**2, 37**2),  # 1024 pixels become 1036 = 37 x 28
    "Qwen/Qwen3-VL-8B-Instruct": (576_388_336, 64**2, 1024),
    "Qwen/Qwen3-VL-30B-A3B-Instruct": (538_631_408, 64**2, 1024),
    "Qwen/Qwen3.5-27B": (460_730_096, 64**2, 1024),
    "Qwen/Qwen3.5-35B-A3B": (446_571_248, 64**2, 1024),
    "meta-llama/Llama-4-Scout-17B-16E": (871_932_416, 24**2, 144),
    "meta-llama/Llama-4-Maverick-17B-128E": (871_932_416, 24**2, 144),
}
SMALL = Tower(
    hidden=64.0,
    layers=2.0,
    attention=PatchAttention(heads=4, head_dim=16),
    mlp=MLP(intermediate=128, gated=False, bias=True),
    projectors=(Projector((256, 256, 32)),),
    image_size=96,
    patch=8,
    merge=2,
)
BF16 = Precision()


@pytest.fixture(scope="module")
def qwen():
    return load_model("Qwen/Qwen2.5-VL-7B-Instruct")


@pytest.fixture(scope="module")
def h100():
    return load_platform("h100_sxm", 8, fit="none")


# ---- towers


@pytest.mark.parametrize("name", TOWERS)
def test_towers_are_those_of_the_checkpoints(name, double):
    model, (parameters, patches, tokens) = load_model(name), TOWERS[name]
    assert model.vision is not None
    assert float(model.parameters - model.replace(vision=None).parameters) == parameters
    assert float(model.parameters) == read_config(name)[1]["published_parameters"]
    assert (float(model.vision.patches), float(model.vision.tokens)) == (patches, tokens)


def test_every_tower_has_a_shipped_model():
    assert {
        read_config(name)[1]["model_type"]
        for name in model_ids()
        if load_model(name).vision is not None
    } == set(VISION)
    assert {name for name in model_ids() if load_model(name).vision is not None} == set(TOWERS)


def test_flops_by_hand():
    """12 x 12 patches of 8 x 8 x 3 numbers, merged by fours."""
    images, patches, tokens = 3, 144, 36
    per_patch = 3 * 64 * 64 + 2 * (
        4 * 64 * 64 + 2 * 64 * 128
    )  # multiply-adds with weights, biases apart
    per_token = 256 * 256 + 256 * 32
    scores = (
        2 * images * 4 * patches * patches * 64
    )  # layers x images x (2 products of 2 FLOP) x queries x keys x width
    expected = 2 * images * (patches * per_patch + tokens * per_token) + scores
    assert (
        sum(float(op.flops * op.repeats) for op in SMALL.operators(images, BF16, 1.0)) == expected
    )


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


def test_windows_cut_the_scores_and_nothing_is_cached():
    windowed = SMALL.replace(window=16, windowed=1)
    scores = [
        [
            float(op.flops * op.repeats)
            for op in tower.operators(1.0, BF16, 1.0)
            if op.kind is Kind.ATTENTION
        ]
        for tower in (SMALL, windowed)
    ]
    assert scores == [[2 * 4 * 144 * 144 * 64], [4 * 144 * 16 * 64, 4 * 144 * 144 * 64]]
    assert all(float(op.cached) == 0 for op in windowed.operators(1.0, BF16, 1.0))


def test_ranks_share_the_layers_but_not_the_patch_embedding():
    one, four = (
        {op.name: float(op.parameters) for op in SMALL.operators(1.0, BF16, shard)}
        for shard in (1.0, 0.25)
    )
    assert one["vision_patches"] == four["vision_patches"] == 64 * 192
    assert one["vision_qkv"] == 4 * four["vision_qkv"]
    assert one["vision_projector"] == 32 * (256 + 1)
    assert four["vision_projector"] == 32 * (64 + 1)  # biases whole
    assert [(float(count), float(volume)) for count, volume in SMALL.reductions(2.0, BF16)] == [
        (4, 2 * 144 * 64 * 2),
        (1, 2 * 36 * 32 * 2),
    ]


def test_a_tower_stays_in_dtype():
    sizes = {
        float(op.parameter_size)
        for op in SMALL.operators(1.0, Precision("bf16", "int4", "fp8"), 1.0)
        if float(op.parameters)
    }
    assert sizes == {2.0}
    assert all(op.kind is not Kind.LINEAR for op in SMALL.operators(1.0, BF16, 1.0))


def test_tokens_follow_the_image_size_and_so_does_their_slope():
    assert [float(SMALL.replace(image_size=size).tokens) for size in (96, 103, 105, 200)] == [
        36,
        36,
        49,
        144,
    ]
    slope = jax.grad(lambda size: SMALL.replace(image_size=size).tokens)(jnp.asarray(96.0))
    assert float(slope) == pytest.approx(2 * 6 / 16)


# ---- estimates


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


# ---- bad input


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


@pytest.mark.parametrize("field", ["hidden", "image_size", "patch", "merge", "layers", "windowed"])
@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_bad_sizes_are_refused(field, value):
    with pytest.raises(InputError, match=f"{field}: {value:g} is not allowed"):
        SMALL.replace(**{field: value})


def test_an_image_of_less_than_a_token_is_refused():
    with pytest.raises(InputError, match=r"patch x merge: 16 exceeds 15, image_size"):
        SMALL.replace(image_size=15)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("google/gemma-3-27b-it", "image_size"),
        ("Qwen/Qwen3-VL-8B-Instruct", "num_position_embeddings"),
    ],
)
def test_a_missing_field_is_named(name, field):
    config = read_config(name)[1]
    vision = {key: value for key, value in config["vision_config"].items() if key != field}
    with pytest.raises(InputError, match=f"m: vision_config: config.json lacks {field}"):
        model_from_config(config | {"vision_config": vision}, "m")


def test_a_list_of_layers_must_be_one():
    config = read_config("Qwen/Qwen3-VL-8B-Instruct")[1]
    with pytest.raises(InputError, match="deepstack_visual_indexes: 3 is not a list of layers"):
        model_from_config(
            config | {"vision_config": config["vision_config"] | {"deepstack_visual_indexes": 3}},
            "m",
        )


def test_a_tower_that_is_not_modelled_is_left_out():
    config = read_config("llava-hf/llava-1.5-7b-hf")[1]
    assert (
        model_from_config(config | {"vision_config": {"model_type": "pixtral"}}, "m").vision is None
    )
    assert (
        model_from_config(
            {key: value for key, value in config.items() if key != "vision_config"}, "m"
        ).vision
        is None
    )


def test_newer_files_nest_the_language_model(qwen):
    config = read_config("Qwen/Qwen2.5-VL-7B-Instruct")[1]
    text = {key: value for key, value in config.items() if key != "vision_config"} | {
        "model_type": "qwen2_5_vl_text"
    }
    nested = {
        "model_type": "qwen2_5_vl",
        "vision_config": config["vision_config"],
        "text_config": text,
    }
    assert float(model_from_config(nested, "m").parameters) == float(qwen.parameters)


# ---- the command line


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
