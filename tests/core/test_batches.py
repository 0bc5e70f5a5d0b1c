"""How batches run fastest: options that XLA takes, and memory that is kept."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffgenz.core.batches import wide_vectors

KEEPING = """
import resource
from diffgenz.core.batches import keep_memory
keep_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray(64 * 2**20)
before = faults()
for _ in range(10):
    bytearray(64 * 2**20)
print(faults() - before)
"""
"""Blocks of 64 MB are 16,384 pages each."""


def test_wide_vectors_change_nothing_but_rounding():
    def function(x):
        return jnp.sin(x) * x + 1 / x

    x = jnp.linspace(1.0, 2.0, 1000)
    wide = jax.jit(function, compiler_options=wide_vectors())(x)
    np.testing.assert_allclose(wide, jax.jit(function)(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512vl\n", {"xla_cpu_prefer_vector_width": 512}),
        ("flags\t\t: fpu avx2\n", {}),
        ("Features\t: fp asimd sve\n", {}),
        (None, {}),
    ],
)
def test_only_processors_that_have_wide_vectors_are_told_to_use_them(
    flags, options, tmp_path, monkeypatch
):
    there = tmp_path / "cpuinfo"
    if flags is not None:
        there.write_text(f"processor\t: 0\n{flags}")
    monkeypatch.setattr("diffgenz.core.batches.Path", lambda name: there)
    assert wide_vectors.__wrapped__() == options


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux")
def test_memory_is_kept_between_calls():
    if "/libc.so.6" not in Path("/proc/self/maps").read_text():
        pytest.skip("only glibc")
    command = [sys.executable, "-c", KEEPING]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(found) < 1000
