"""Precision: which format is for what, and what messages cost."""

import jax.numpy as jnp
import pytest
from support import assert_close, make_cluster

from diffgenz import (
    Gear,
    Parallelism,
    Platform,
    Scenario,
    Workload,
    breakdown,
    estimate,
    load_platform,
)
from diffgenz.core.errors import InputError
from diffgenz.core.formats import FORMATS
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.moe import MoE
from diffgenz.models.model import Model, Repeated
from diffgenz.operators.layer_format import LayerFormat
from diffgenz.operators.message import Exchange
from diffgenz.operators.precision import Precision
from diffgenz.operators.step import Step

TINY = Model(
    "tiny",
    256,
    1000,
    (Repeated(Attention(heads=8, kv_heads=2, head_dim=32), 4), Repeated(MLP(intermediate=512), 4)),
)


@pytest.mark.parametrize("name", FORMATS)
def test_sizes_are_those_of_the_format(name):
    precision = Precision(name)
    sizes = (
        precision.dtype_size,
        precision.weight_size,
        precision.activation_size,
        precision.kv_cache_size,
        precision.message_size,
    )
    assert [float(size) for size in sizes] == pytest.approx([FORMATS[name].size] * 5, rel=1e-7)


@pytest.mark.parametrize(
    ("weights", "activations", "peak"),
    [
        (None, None, "bf16"),
        ("int4", None, "bf16"),  # W4A16
        ("nvfp4", None, "bf16"),
        ("int8", None, "bf16"),  # W8A16
        ("fp8", "fp8", "fp8"),  # W8A8
        ("fp8_block", "fp8_block", "fp8"),
        ("fp8_block", "fp8", "fp8"),
        ("int8", "int8", "int8"),
        ("mxfp4", "fp8", "fp8"),  # W4A8
        ("mxfp4", "mxfp8", "fp8"),
        ("nvfp4", "nvfp4", "nvfp4"),  # W4A4
        ("mxfp6", "mxfp4", "fp6"),
        ("mxfp4", "mxfp6", "fp6"),
        (None, "fp8", "bf16"),  # wide weights, narrow activations
    ],
)
def test_linear_layers_multiply_in_the_wider_format(weights, activations, peak):
    precision = Precision("bf16", weights, activations)
    assert precision.linear_peak == peak
    assert precision.attention_peak == "bf16"


def test_everything_follows_dtype_unless_said():
    precision = Precision("fp16", kv_cache="fp8")
    assert (precision.weights, precision.activations, precision.kv_cache) == ("fp16", "fp16", "fp8")
    assert float(precision.kv_cache_size) == 1


@pytest.mark.parametrize("field", ["dtype", "weights", "activations", "kv_cache", "messages"])
def test_an_unknown_name_is_refused_with_the_nearest(field):
    with pytest.raises(
        InputError, match=f"{field}: 'fp8_blok' is not known; did you mean fp8_block"
    ):
        Precision(**{field: "fp8_blok"})


def test_half_the_message_size_halves_the_transfers_of_messages_alone():
    """Without latency, so that what communication takes is bytes over bandwidth.

    Logits are gathered in dtype. The rows add up, under GEAR too.
    """
    cluster = make_cluster()
    cluster = Platform(
        cluster.accelerator, tuple(level.replace(latency=0.0) for level in cluster.network), 16
    )
    plan, workload = Parallelism(4, 4), Workload(8, 100, 10)
    dtype, core = jnp.asarray(2.0), jnp.asarray(0.5)
    precisions = [
        Precision(kv_cache=Gear()).with_sizes(dtype, dtype, dtype, core, jnp.asarray(size))
        for size in (2.0, 1.0)
    ]
    rows, results = (
        [function(Scenario(TINY, cluster, workload, plan, precision)) for precision in precisions]
        for function in (breakdown, estimate)
    )
    for phase in ("ttft", "tpot"):
        before, after = (each.rows(phase) for each in rows)
        for name, seconds in before.items():
            share = 0.5 if name in ("all_reduce", "send") else 1.0
            assert after[name] == pytest.approx(
                seconds | {"communication": share * seconds["communication"]}, rel=1e-6
            )
        assert before["all_reduce"]["communication"] > 0
        assert_close(
            [getattr(row, phase).sum() for row in rows],
            [getattr(result, phase) for result in results],
            rtol=1e-6,
        )
    assert rows[0].rows("ttft")["send"]["communication"] > 0
    assert_close(results[0].memory, results[1].memory, rtol=0)
    assert float(results[1].energy_per_output_token) < float(results[0].energy_per_output_token)


def test_experts_send_back_messages_and_are_sent_activations():
    """fp8 out, bf16 or less back, as DeepEP's kernels do."""
    block = MoE(routed=8, used=2, intermediate=14336)

    def exchanged(precision):
        step = Step(10.0, 1.0, 0.0, 1.0, precision, 1.0, 2.0)
        operators = block.operators(jnp.asarray(4096.0), step)
        messages = [each for op in operators for each in op.messages]
        (exchange,) = (each for each in messages if isinstance(each, Exchange))
        return float(exchange.dispatch), float(exchange.combine)

    assert exchanged(Precision(activations="fp8")) == (10 * 4096, 10 * 4096 * 2)
    assert exchanged(Precision(activations="fp8", messages="fp8")) == (10 * 4096, 10 * 4096)


SPARSE = Model(
    "sparse",
    256,
    1000,
    (
        Repeated(Attention(heads=8, kv_heads=2, head_dim=32), 4),
        Repeated(MoE(routed=8, used=2, intermediate=128, shared=MLP(256, norm=None)), 4),
    ),
)
OWN = {"attention": "bf16", "mlp": "fp8/bf16", "experts": "int4/fp8", "head": "fp8"}


def stored(precision, model=SPARSE):
    """B per parameter of each operator with weights."""
    step = Step(4.0, 1.0, 64.0, 1.0, precision)
    operators = (*model.layer_operators(step), *model.head_operators(step))
    return {op.name: float(op.parameter_size) for op in operators if op.kernel or op.part}


def test_modules_have_formats_of_their_own():
    sizes = stored(Precision(weights="nvfp4", activations="nvfp4", modules=OWN))
    int4 = FORMATS["int4"].size
    assert {name: sizes[name] for name in ("qkv", "attention_out", "router", "gate_up")} == {
        "qkv": 2,
        "attention_out": 2,
        "router": 2,
        "gate_up": 1,
    }
    assert (sizes["expert_gate_up"], sizes["lm_head"]) == (pytest.approx(int4), 1)


def test_a_row_precedes_its_kind():
    sizes = stored(Precision(modules={"attention": "fp8", "attention_out": "int4/bf16"}))
    assert (sizes["qkv"], sizes["attention_out"]) == (1, pytest.approx(FORMATS["int4"].size))


def test_modules_in_the_formats_of_all_others_are_no_modules():
    plain = Precision(weights="fp8", activations="fp8")
    assert Precision("bf16", "fp8", "fp8", modules={"mlp": "fp8", "attention": "fp8"}) == plain
    assert Precision(modules={"head": "bf16", "mlp": "bf16"}).modules == {}


@pytest.mark.parametrize("fit", ["none", "vllm"])
def test_each_part_multiplies_at_the_peak_of_its_formats(fit):
    """A breakdown of four formats is put together from those of uniform ones, row by row."""
    platform = load_platform("b200_sxm", fit=fit)
    workload = Workload(batch=4096, input_tokens=64, output_tokens=2)

    def rows(precision):
        found = breakdown(Scenario(SPARSE, platform, workload, None, precision)).rows("tpot")
        return {name: sum(row.values()) for name, row in found.items()}

    mixed = rows(Precision("bf16", "nvfp4", modules=OWN | {"experts": "fp8"}))
    for name, formats in {
        "qkv": {},
        "gate_up": {"weights": "fp8"},
        "expert_down": {"weights": "fp8", "activations": "fp8"},
    }.items():
        assert mixed[name] == pytest.approx(rows(Precision(**formats))[name], rel=1e-6)


def test_a_size_of_its_own_counts():
    mixed = Precision(modules={"mlp": LayerFormat("fp8", "fp8", 1.25)})
    assert stored(mixed)["gate_up"] == 1.25
    assert mixed.summary == "weights bf16, activations bf16, mlp fp8, KV cache bf16, else bf16"


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ({"mlp": "fp7"}, "'fp7' is not known"),
        ({"atention": "fp8"}, "modules: 'atention' is not known; did you mean attention"),
        ({"gate_up": "fp4/bf16"}, "'fp4' is not known"),
    ],
)
def test_unknown_modules_and_formats_are_refused(modules, message):
    with pytest.raises(InputError, match=message):
        Scenario(SPARSE, make_cluster(), Workload(), None, Precision(modules=modules))
