"""Forms of collectives and of DeepEP, and the readers of their tables."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from diffgenz.calibrating.hardware import hardware_of, wire_of
from diffgenz.calibrating.readers.aiconfigurator.comm import custom_allreduce, nccl
from diffgenz.calibrating.readers.aiconfigurator.deepep import low_latency, normal
from diffgenz.calibrating.samples import Samples
from diffgenz.core.errors import InputError
from diffgenz.hardware.specs import read_spec
from diffgenz.kernels.forms.collective import AllGather, AllReduce, AllToAll
from diffgenz.kernels.forms.custom_allreduce import CustomAllReduce
from diffgenz.kernels.forms.deepep import CHUNK, Combine, Dispatch
from diffgenz.kernels.hardware import Wire, Wires
from diffgenz.kernels.shapes import CollectiveShape, ExchangeShape

WIRE = Wire(1e9, 1e-6, 2e-6)
WIRES = Wires(4e9, 1e-6, 1e9, 5e-6, 2e-6)
EXCHANGE = ExchangeShape(16.0, 2.0, 64.0, 1e6, 4e6, 2e6, 20.0)


def test_a_collective_worked_by_hand():
    parameters: dict[str, Any] = {
        "efficiency": 0.5,
        "pairing": 0.5,
        "crowding": 0.01,
        "launch": 1.0,
        "barrier": 3.0,
        "hop": 1.0,
    }
    parameters |= {"rise": 0.5, "onset": 1.0, "setup": 2.0, "refill": 1.0, "switch": 0.25}
    form = AllReduce(**parameters)
    flat = 2e-6 + (3 + 2 * 3) * 1e-6
    transfer = 2 * 3 / 3.5 * 1e-6 / 0.5 * (1 + 0.01 * 12)
    step, start = 0.5 * flat / 2, (2 + 2 * 3) * 1e-6 / 2
    seconds = form.seconds(CollectiveShape(4.0, 1000.0), WIRE)
    assert float(seconds) == pytest.approx(flat + transfer + step + start, rel=1e-5)


def test_an_exchange_worked_by_hand():
    parameters: dict[str, Any] = {
        "near_efficiency": 0.5,
        "far_efficiency": 0.8,
        "launch": 1.0,
        "barrier": 10.0,
        "hidden": 3.0,
        "expert": 0.1,
    }
    parameters |= {
        "far_hop": 2.0,
        "row": 1.0,
        "touch": 1.0,
        "copy": 2.0,
        "rise": 4.0,
        "onset": 1000.0,
    }
    form = Dispatch(**parameters)
    fixed = 2e-6 + 12e-6 + 2 * 5e-6 / 2
    lane = (64 + (1e6 + 2 * 6e6) / CHUNK) * 1e-6 / 20
    busy = np.sqrt((3e-6) ** 2 + (1e-3 / 0.5) ** 2 + (2e-3 / 0.8) ** 2 + lane**2)
    assert float(form.seconds(EXCHANGE, WIRES)) == pytest.approx(fixed + busy + 2e-6, rel=1e-5)


@pytest.mark.parametrize("form", [AllReduce(), AllGather(), AllToAll()])
def test_a_collective_tends_to_its_bandwidth_and_one_rank_takes_no_time(form):
    bandwidth = (
        form.passes
        * 1e12
        * 7
        / (8 - form.pairing)
        / (1e9 * form.efficiency)
        * (1 + 60 * form.crowding)
    )
    assert float(form.seconds(CollectiveShape(8.0, 1e12), WIRE)) == pytest.approx(
        float(bandwidth), rel=1e-3
    )
    assert float(form.seconds(CollectiveShape(1.0, 1e9), WIRE)) == 0
    assert float(form.seconds(CollectiveShape(8.0, 1e12), WIRE)) > float(
        form.work(CollectiveShape(8.0, 1e12)).bound(WIRE)
    )


def test_a_custom_all_reduce_is_one_shot_while_small_and_two_passes_when_large():
    form = CustomAllReduce()
    nothing, small, large = (
        float(form.seconds(CollectiveShape(8.0, volume), WIRE)) for volume in (0.0, 10.0, 1e12)
    )
    assert small - nothing == pytest.approx(
        float(7 * 10 / (1e9 * form.one_shot) * (1 + 60 * form.crowding)), rel=2e-2
    )
    assert large == pytest.approx(
        float(
            2 * 7 / (8 - form.pairing) * 1e12 / (1e9 * form.efficiency) * (1 + 60 * form.crowding)
        ),
        rel=0.05,
    )
    assert float(form.seconds(CollectiveShape(1.0, 1e6), WIRE)) == 0


@pytest.mark.parametrize("form", [Dispatch(), Combine()])
def test_an_exchange_tends_to_its_slower_wire_and_one_rank_takes_no_time(form):
    far = EXCHANGE._replace(own=0.0, near=0.0, far=1e12, lanes=1e9)
    assert float(form.seconds(far, WIRES)) > float(form.work(far).bound(WIRES))
    many = form.replace(expert=1e-12)
    assert float(many.seconds(far, WIRES)) == pytest.approx(
        float(1e12 / (1e9 * form.far_efficiency)), rel=1e-3
    )
    assert (
        float(form.seconds(EXCHANGE._replace(ranks=1.0, nodes=1.0, near=0.0, far=0.0), WIRES)) == 0
    )


@pytest.mark.parametrize(("ranks", "volume"), [(1, 0), (1, 1e9), (2, 0), (2, 1), (72, 1e12)])
@pytest.mark.parametrize("form", [AllReduce(), AllToAll(), CustomAllReduce()])
def test_gradients_of_collectives_are_finite(form, ranks, volume):
    gradients = jax.grad(lambda wire, form, shape: form.seconds(shape, wire), (0, 1, 2))(
        _singles(WIRE), form, _singles(CollectiveShape(ranks, volume))
    )
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1, 1, 0, 0, 1),
        (8, 1, 0, 0, 0, 0, 8),
        (8, 1, 1, 7168, 0, 0, 256),
        (512, 64, 1e6, 1e10, 1e11, 1e11, 20),
    ],
)
def test_gradients_of_exchanges_are_finite(shape):
    gradients = jax.grad(lambda wires, form, shape: form.seconds(shape, wires), (0, 1, 2))(
        _singles(WIRES), Dispatch(), _singles(ExchangeShape(*shape))
    )
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))


def test_nccl_messages_count_elements_of_the_whole_tensor(tmp_path):
    ops = ["all_reduce", "all_gather", "reduce_scatter", "alltoall"]
    table = _table(
        tmp_path / "nccl_perf.parquet",
        version="2.29.2",
        kernel_source="NCCL",
        op_name=ops,
        nccl_dtype="half",
        num_gpus=8,
        message_size=1024,
        latency=0.02,
    )
    found = {samples.family: samples for samples in nccl(table)}
    assert {family: samples.form for family, samples in found.items()} == {
        "all_reduce": AllReduce,
        "all_gather": AllGather,
        "reduce_scatter": AllGather,
        "all_to_all": AllToAll,
    }
    _has(found["all_reduce"], ranks=8, volume=2048)
    assert found["all_reduce"].source == "nccl-2.29.2"
    assert found["all_reduce"].format == "fp16"
    assert found["all_reduce"].seconds == pytest.approx(20e-6)


def test_eager_and_graph_all_reduces_are_apart(tmp_path):
    columns = {
        "version": "0.24.0",
        "op_name": "all_reduce",
        "allreduce_dtype": "bfloat16",
        "num_gpus": 2,
        "message_size": 128,
        "latency": 0.004,
    }
    table = _table(
        tmp_path / "custom_allreduce_perf.parquet",
        kernel_source=["vLLM_custom_eager", "vLLM_custom_graph"],
        **columns,
    )
    assert all(samples.form is CustomAllReduce for samples in custom_allreduce(table))
    assert [samples.kernel for samples in custom_allreduce(table)] == [
        "vLLM_custom_eager",
        "vLLM_custom_graph",
    ]


def test_an_unknown_collective_is_refused(tmp_path):
    columns = {
        "version": "2",
        "kernel_source": "NCCL",
        "nccl_dtype": "half",
        "num_gpus": 8,
        "message_size": 1024,
        "latency": 0.02,
    }
    with pytest.raises(InputError, match="op_name.*'broadcast'"):
        nccl(_table(tmp_path / "nccl_perf.parquet", op_name=["broadcast"], **columns))
    with pytest.raises(InputError, match="'op_name' is missing"):
        nccl(_table(tmp_path / "nccl_perf.parquet", **columns))


DEEPEP: dict[str, Any] = {
    "version": "0.5.12",
    "kernel_source": "deepep",
    "device": "NVIDIA H100 80GB HBM3",
    "hidden_size": 7168,
    "num_token": 2,
}


def test_low_latency_kernels_send_a_token_once_for_each_expert(tmp_path):
    columns = DEEPEP | {
        "num_topk": 8,
        "num_experts": 256,
        "dispatch_avg_t_us": 16.0,
        "combine_avg_t_us": 20.0,
    }
    dispatch, combine = low_latency(
        _table(tmp_path / "wideep_deepep_ll_perf.parquet", node_num=[2], **columns)
    )
    own = 2 * 7168 * (1 + 4 / 128)
    _has(
        dispatch,
        ranks=16,
        nodes=2,
        tokens=2,
        own=own,
        near=own * 8 * 7 / 16,
        far=own * 8 / 2,
        lanes=256,
    )
    _has(combine, own=2 * 7168 * 2)
    assert (dispatch.format, combine.format) == ("fp8", "bf16")
    assert (float(dispatch.seconds[0]), float(combine.seconds[0])) == pytest.approx((16e-6, 20e-6))


def test_normal_kernels_send_a_token_once_for_each_rank_and_node(tmp_path):
    times = {
        f"{phase}_{what}": value
        for phase in ("dispatch", "combine")
        for what, value in (("sms", 20), ("transmit_us", 30.0), ("notify_us", 5.0))
    }
    columns = DEEPEP | times | {"num_topk": 1, "num_experts": 256}
    dispatch, _ = normal(
        _table(tmp_path / "wideep_deepep_normal_perf.parquet", node_num=[4], **columns)
    )
    own = 2 * 7168 * (1 + 4 / 128)
    _has(dispatch, ranks=32, near=own * 7 / 8, far=own * 3 / 4, lanes=20)
    assert dispatch.seconds == pytest.approx(35e-6)
    wide, _ = normal(
        _table(
            tmp_path / "wideep_deepep_normal_perf.parquet",
            node_num=[8],
            **columns | {"num_topk": 8},
        )
    )
    _has(
        wide,
        ranks=64,
        far=own * 4 * (1 - (3 / 4) ** 8) * 7 / 8,
        near=own * 32 * (1 - (31 / 32) ** 8) * 7 / 8,
    )  # on 4 nodes at most
    with pytest.raises(InputError, match="'node_num' has 0"):
        normal(_table(tmp_path / "wideep_deepep_normal_perf.parquet", node_num=[0], **columns))


def test_wires_come_from_the_accelerators_file():
    spec = read_spec("h100_sxm")
    near, far = (level.figures for level in spec.network)
    wires = hardware_of(spec, Dispatch, "fp8")
    assert (wires.bandwidth, wires.latency, wires.far_bandwidth) == (
        near["bandwidth"],
        near["latency"],
        far["bandwidth"],
    )
    with pytest.raises(InputError, match="2 level"):
        wire_of(spec, 2)


def _singles(numbers: Any) -> Any:
    return type(numbers)(*(jnp.float32(x) for x in numbers))


def _table(path: Path, **columns: Any) -> Path:
    pd.DataFrame(
        {"framework": "SGLang"} | columns,
        index=None if any(isinstance(x, list) for x in columns.values()) else [0],
    ).to_parquet(path)
    return path


def _has(samples: Samples, **columns: float) -> None:
    for name, value in columns.items():
        assert getattr(samples.shape, name) == pytest.approx(value), name
