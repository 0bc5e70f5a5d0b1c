"""From files to samples: every reader, and which of them knows a file.

aiconfigurator's tables are known by their names, other layouts by how their files begin.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from diffgenz.calibrating.readers import (
    apex,
    frontier,
    frontier_attention,
    infersim,
    infersim_attention,
    llmcompass,
    llmservingsim,
    llmservingsim_v0,
    nccl_tests,
    plain,
    vidur,
)
from diffgenz.calibrating.readers.aiconfigurator.attention import decode, prefill
from diffgenz.calibrating.readers.aiconfigurator.comm import custom_allreduce, nccl, oneccl
from diffgenz.calibrating.readers.aiconfigurator.deepep import low_latency, normal
from diffgenz.calibrating.readers.aiconfigurator.experts import experts
from diffgenz.calibrating.readers.aiconfigurator.gemm import gemm
from diffgenz.calibrating.readers.aiconfigurator.latent import (
    absorbed,
    latent_decode,
    latent_prefill,
)
from diffgenz.calibrating.readers.aiconfigurator.quantise import quantise
from diffgenz.calibrating.readers.aiconfigurator.scans import delta, mamba2
from diffgenz.calibrating.readers.reader import Layout, beginning
from diffgenz.calibrating.samples import Samples
from diffgenz.core.errors import InputError

TABLES: dict[str, Callable[[Path], list[Samples]]] = {
    "gemm_perf": gemm,
    "moe_perf": experts,
    "scale_matrix_perf": quantise,
    "mla_bmm_perf": absorbed,
    "context_attention_perf": prefill,
    "generation_attention_perf": decode,
    "context_mla_perf": latent_prefill,
    "generation_mla_perf": latent_decode,
    "mamba2_perf": mamba2,
    "gdn_perf": delta,
    "nccl_perf": nccl,
    "oneccl_perf": oneccl,
    "custom_allreduce_perf": custom_allreduce,
    "wideep_deepep_ll_perf": low_latency,
    "wideep_deepep_normal_perf": normal,
}
"""Readers of aiconfigurator's tables, by the name of the file."""

LAYOUTS: tuple[Layout, ...] = (
    *plain.LAYOUTS,
    *frontier.LAYOUTS,  # before vidur's, whose columns it has too
    *frontier_attention.LAYOUTS,
    *vidur.LAYOUTS,
    *llmservingsim.LAYOUTS,
    *llmservingsim_v0.LAYOUTS,
    *infersim.LAYOUTS,
    *infersim_attention.LAYOUTS,
    *llmcompass.LAYOUTS,
    *apex.LAYOUTS,
    *nccl_tests.LAYOUTS,
)
"""Other layouts: the first that knows a file reads it."""


def samples_of(
    files: str | Path | Sequence[str | Path], told: Callable[[str], None] | None = None
) -> list[tuple[Path, Samples]]:
    """The samples of all files, each with its file.

    Arguments:
        files: files, and folders, in which all files that some reader knows are read; or one.
        told: called with what is wrong with a file in a folder, which is then left out. Without it,
            that is an error, as it is for files that are named.

    Raises:
        InputError: no reader knows a file, its reader refuses it, or it holds nothing to fit; or no
            reader knows a file of a folder.
    """
    found = []
    for name in [files] if isinstance(files, str | Path) else files:
        path = Path(name)
        if not path.exists():
            raise InputError(
                f"{path}: there is no such file; give measurements as files or folders"
            )
        inside = [path]
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file())
        read = [(file, reader) for file in inside if (reader := reader_of(file)) is not None]
        if not read:
            what = "no reader knows this file"
            if path.is_dir():
                what = "no file in this folder is known to any reader"
            raise InputError(f"{path}: {what}; {known()}")
        samples, refused = [], False
        for file, reader in read:
            try:
                samples += [(file, each) for each in reader(file)]
            except InputError as error:
                if told is None or not path.is_dir():
                    raise
                refused = True
                told(str(error))
        if not samples and not refused:
            raise InputError(
                f"{path}: it holds no measurements of a kernel family "
                "(docs/calibration.md says what each layout is read for)"
            )
        found += samples
    return found


def reader_of(path: Path) -> Callable[[Path], list[Samples]] | None:
    """The function that reads a file; None where no reader knows it."""
    if path.suffix in (".parquet", ".csv") and table_name(path) in TABLES:
        return TABLES[table_name(path)]
    start = beginning(path)
    return next((layout.read for layout in LAYOUTS if layout.knows(path, start)), None)


def known() -> str:
    """Which files are known, and how to write one that is, for people."""
    layouts = ", ".join(dict.fromkeys(layout.name for layout in LAYOUTS))
    return (
        f"known are aiconfigurator's tables by their names ({', '.join(TABLES)}), "
        f"and by how they begin {layouts}, such as\n{plain.EXAMPLE}"
    )


def table_name(path: Path) -> str:
    """The table that a file holds: "gemm_perf" of gemm_perf__vllm-0.24.0.parquet."""
    return path.stem.partition("__")[0]
