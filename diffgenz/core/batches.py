"""How programs over batches of configurations run fastest on this machine."""

import contextlib
import ctypes
import functools
from pathlib import Path
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt` (malloc.h)."""


@functools.cache
def wide_vectors() -> dict[str, Any]:
    """Compiler options for `jax.jit`.

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


COMPILED_QUICKLY: dict[str, Any] = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_backend_optimization_level": 0,
}
"""Compiler options for `jax.jit` of programs that run once or twice.

XLA's older emitters for CPUs, and LLVM without optimisation, compile in four fifths of the time.
They then run a fifth longer, which is a hundredth of what is saved.
"""


COMPILED_FOR_SOME: dict[str, Any] = COMPILED_QUICKLY | {"xla_backend_optimization_level": 1}
"""Compiler options for `jax.jit` of programs that run for a second or so.

With a little of LLVM's optimisation, values and slopes of an estimate take a third of the time, and
a fifth more to compile.
"""


def keep_memory() -> None:
    """Let this process keep memory between calls, as long as it lives.

    A program's intermediate results are one block of memory. glibc gives a block above 32 MB back
    to the system after each call, which clears it anew, page by page, for the next: half of the
    time of a gradient of 1e5 configurations. Where there is no glibc, nothing happens.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
