"""Readers of aiconfigurator's tables of DeepEP's kernels."""

from typing import Any

import pytest
from aiconfigurator_cases import has, written

from diffgenz.calibrating.readers.aiconfigurator.deepep import low_latency, normal
from diffgenz.core.errors import InputError

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
        written(tmp_path / "wideep_deepep_ll_perf.parquet", node_num=[2], **columns)
    )
    own = 2 * 7168 * (1 + 4 / 128)
    has(
        dispatch,
        ranks=16,
        nodes=2,
        tokens=2,
        own=own,
        near=own * 8 * 7 / 16,
        far=own * 8 / 2,
        lanes=256,
    )
    has(combine, own=2 * 7168 * 2)
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
        written(tmp_path / "wideep_deepep_normal_perf.parquet", node_num=[4], **columns)
    )
    own = 2 * 7168 * (1 + 4 / 128)
    has(dispatch, ranks=32, near=own * 7 / 8, far=own * 3 / 4, lanes=20)
    assert dispatch.seconds == pytest.approx(35e-6)
    wide, _ = normal(
        written(
            tmp_path / "wideep_deepep_normal_perf.parquet",
            node_num=[8],
            **columns | {"num_topk": 8},
        )
    )
    has(
        wide,
        ranks=64,
        far=own * 4 * (1 - (3 / 4) ** 8) * 7 / 8,
        near=own * 32 * (1 - (31 / 32) ** 8) * 7 / 8,
    )  # on 4 nodes at most
    with pytest.raises(InputError, match="'node_num' has 0"):
        normal(written(tmp_path / "wideep_deepep_normal_perf.parquet", node_num=[0], **columns))
