"""Readers of aiconfigurator's tables of collectives."""

import pytest
from aiconfigurator_cases import has, written

from diffgenz.calibrating.readers.aiconfigurator.comm import custom_allreduce, nccl
from diffgenz.calibrating.readers.registry import reader_of
from diffgenz.core.errors import InputError
from diffgenz.kernels.forms.collective import AllGather, AllReduce, AllToAll
from diffgenz.kernels.forms.custom_allreduce import CustomAllReduce


@pytest.mark.parametrize("library", ["nccl", "oneccl"])
def test_messages_of_a_library_count_elements_of_the_whole_tensor(library, tmp_path):
    ops = ["all_reduce", "all_gather", "reduce_scatter", "alltoall"]
    table = written(
        tmp_path / f"{library}_perf.parquet",
        version="2.29.2",
        kernel_source="NCCL",
        op_name=ops,
        nccl_dtype="half",
        num_gpus=8,
        message_size=1024,
        latency=0.02,
    )
    read = reader_of(table)
    assert read is not None
    found = {samples.family: samples for samples in read(table)}
    assert {family: samples.form for family, samples in found.items()} == {
        "all_reduce": AllReduce,
        "all_gather": AllGather,
        "reduce_scatter": AllGather,
        "all_to_all": AllToAll,
    }
    has(found["all_reduce"], ranks=8, volume=2048)
    assert found["all_reduce"].source == f"{library}-2.29.2"
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
    table = written(
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
        nccl(written(tmp_path / "nccl_perf.parquet", op_name=["broadcast"], **columns))
    with pytest.raises(InputError, match="'op_name' is missing"):
        nccl(written(tmp_path / "nccl_perf.parquet", **columns))
