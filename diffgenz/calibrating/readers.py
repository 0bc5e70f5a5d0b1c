"""From files to samples: which reader knows a file, by its name or by its header."""

from collections.abc import Callable, Sequence
from pathlib import Path

from diffgenz.calibrating.aiconfigurator.attention import decode, prefill
from diffgenz.calibrating.aiconfigurator.comm import custom_allreduce, nccl
from diffgenz.calibrating.aiconfigurator.deepep import low_latency, normal
from diffgenz.calibrating.aiconfigurator.experts import experts
from diffgenz.calibrating.aiconfigurator.gemm import gemm
from diffgenz.calibrating.aiconfigurator.latent import absorbed, latent_decode, latent_prefill
from diffgenz.calibrating.aiconfigurator.quantise import quantise
from diffgenz.calibrating.aiconfigurator.scans import delta, mamba2
from diffgenz.calibrating.samples import Samples
from diffgenz.errors import InputError

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
    "custom_allreduce_perf": custom_allreduce,
    "wideep_deepep_ll_perf": low_latency,
    "wideep_deepep_normal_perf": normal,
}
"""Readers of aiconfigurator's tables, by the name of the file."""


def samples_of(files: Sequence[str | Path]) -> list[tuple[Path, Samples]]:
    """The samples of all files, and of all files in folders, each with its file.

    Raises:
        InputError: a file that no reader knows, or a folder without any.
    """
    found = []
    for name in files:
        path = Path(name)
        if path.is_dir():
            inside = [file for file in sorted(path.rglob("*")) if table_name(file) in TABLES and file.suffix in (".parquet", ".csv")]
            if not inside:
                raise InputError(f"{path}: no table that is known is in this folder; known are {', '.join(TABLES)}")
            found += [(file, samples) for file in inside for samples in TABLES[table_name(file)](file)]
        elif not path.is_file():
            raise InputError(f"{path}: there is no such file; give measurements as files or folders")
        elif table_name(path) in TABLES:
            found += [(path, samples) for samples in TABLES[table_name(path)](path)]
        else:
            raise InputError(f"{path}: no reader knows this file; tables are known by their names ({', '.join(TABLES)})")
    return found


def table_name(path: Path) -> str:
    """The table that a file holds: "gemm_perf" of gemm_perf__vllm-0.24.0.parquet."""
    return path.stem.partition("__")[0]
