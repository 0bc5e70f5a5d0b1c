"""nccl_perf and custom_allreduce_perf: collectives inside a node. message_size counts elements of the whole tensor; latency is in ms."""

from pathlib import Path

from diffgenz.calibrating.aiconfigurator.frames import FORMATS, frame_of, need, parts
from diffgenz.calibrating.samples import Samples
from diffgenz.errors import InputError
from diffgenz.formats import FORMATS as SIZES
from diffgenz.kernels.collective import AllGather, AllReduce, AllToAll, CollectiveShape
from diffgenz.kernels.custom_allreduce import CustomAllReduce
from diffgenz.kernels.form import Form

NCCL: dict[str, type[Form]] = {"all_reduce": AllReduce, "all_gather": AllGather, "reduce_scatter": AllGather, "alltoall": AllToAll}
CUSTOM: dict[str, type[Form]] = {"all_reduce": CustomAllReduce}
"""Forms by op_name, which is the family too."""


def nccl(path: Path) -> list[Samples]:
    """The samples of an nccl_perf table, by op_name and nccl_dtype. Its framework is whoever measured: the version is NCCL's."""
    return _collectives(path, NCCL, "nccl_dtype", software="nccl")


def custom_allreduce(path: Path) -> list[Samples]:
    """The samples of a custom_allreduce_perf table: all-reduce as an engine does it, by kernel_source, which tells eager from CUDA graph."""
    return _collectives(path, CUSTOM, "allreduce_dtype")


def _collectives(path: Path, forms: dict[str, type[Form]], dtypes: str, software: str | None = None) -> list[Samples]:
    frame = frame_of(path)
    need(frame, ("framework", "version", "kernel_source", "op_name", dtypes, "num_gpus", "message_size", "latency"), path)
    found = []
    for source, kernel, (op, dtype), rows in parts(frame, "op_name", dtypes):
        for column, value, known in (("op_name", op, forms), (dtypes, dtype, FORMATS)):
            if value not in known:
                raise InputError(
                    f"{path}: column {column!r} has {value!r}, which is not known; leave those rows out, or use one of {', '.join(known)}"
                )
        volume = rows["message_size"].to_numpy(float) * SIZES[FORMATS[dtype]].size
        shape = CollectiveShape(rows["num_gpus"].to_numpy(float), volume)
        version = source.partition("-")[2]
        name = f"{software}-{version}" if software else source
        found.append(Samples(forms[op], op, FORMATS[dtype], name, kernel, shape, rows["latency"].to_numpy(float) * 1e-3))
    return found
