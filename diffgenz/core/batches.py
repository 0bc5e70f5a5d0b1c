"""How programs over batches of configurations are compiled."""

import functools
from pathlib import Path
from typing import Any


@functools.cache
def wide_vectors() -> dict[str, Any]:
    """The compiler options with which batches are fastest on this machine, for `jax.jit`.

    XLA uses 256 of the 512 bits of a CPU's vectors unless it is told otherwise. Estimates are bound
    by arithmetic, and take 0.65 to 0.85 of the time with all 512 (measured on an EPYC with
    AVX-512). A CPU without AVX-512 gets no option, and GPUs ignore this one. Compiler options apply
    to whole programs: a function that was compiled with them may not be called while another one is
    traced.
    """
    try:
        with Path("/proc/cpuinfo").open() as lines:
            flags = next((line for line in lines if line.startswith("flags")), "")
    except OSError:  # not Linux
        return {}
    return {"xla_cpu_prefer_vector_width": 512} if "avx512f" in flags.split() else {}
