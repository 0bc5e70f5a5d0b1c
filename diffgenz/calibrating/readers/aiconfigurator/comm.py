"""The tables nccl_perf, oneccl_perf and custom_allreduce_perf: collectives inside a node.

message_size counts elements of the whole tensor; latency is in ms.
"""

import dataclasses
from pathlib import Path

from diffgenz.calibrating.readers.aiconfigurator.frames import format_of, need, parts, seconds_of
from diffgenz.calibrating.readers.collective_names import FAMILIES
from diffgenz.calibrating.readers.frames import frame_of
from diffgenz.calibrating.samples import Samples
from diffgenz.core.errors import InputError
from diffgenz.core.formats import FORMATS as SIZES
from diffgenz.kernels.forms.custom_allreduce import CustomAllReduce
from diffgenz.kernels.shapes import CollectiveShape

COLUMNS = (
    "framework",
    "version",
    "kernel_source",
    "op_name",
    "num_gpus",
    "message_size",
    "latency",
)
"""Columns that every such table has, beside that of its formats."""


def nccl(path: Path) -> list[Samples]:
    """The samples of an nccl_perf table, by op_name and nccl_dtype.

    Its framework is who measured; the version is NCCL's.
    """
    return _collectives(path, "nccl_dtype", software="nccl")


def oneccl(path: Path) -> list[Samples]:
    """The samples of a oneccl_perf table, which has the columns of NCCL's."""
    return _collectives(path, "nccl_dtype", software="oneccl")


def custom_allreduce(path: Path) -> list[Samples]:
    """The samples of a custom_allreduce_perf table: all-reduce as an engine does it.

    They are split by kernel_source, which tells eager launches from CUDA graphs.
    """
    return _collectives(path, "allreduce_dtype")


def _collectives(path: Path, dtypes: str, software: str | None = None) -> list[Samples]:
    """The samples of a table, by op_name and the column `dtypes`.

    Arguments:
        path: the file.
        dtypes: the column of formats.
        software: the library that was measured; None for the table's own framework, which has a
            form of its own.
    """
    frame = frame_of(path)
    need(frame, (*COLUMNS, dtypes), path)
    found = []
    for source, kernel, (op, dtype), rows in parts(frame, "op_name", dtypes):
        if op not in FAMILIES:
            raise InputError(
                f"{path}: op_name: {op!r} is not known; "
                f"it is one of {', '.join(FAMILIES)}: leave other rows out"
            )
        family, format = FAMILIES[op], format_of(dtype, dtypes, path)
        volume = rows["message_size"].to_numpy(float) * SIZES[format].size
        shape = CollectiveShape(rows["num_gpus"].to_numpy(float), volume)
        version = source.partition("-")[2]
        name = f"{software}-{version}" if software else source
        samples = Samples.of(family, format, name, kernel, shape, seconds_of(rows))
        if software is None:
            samples = dataclasses.replace(samples, form=CustomAllReduce)
        found.append(samples)
    return found
