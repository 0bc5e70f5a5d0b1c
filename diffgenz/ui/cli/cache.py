"""Compiled programs, kept between runs of the command line."""

import os
from pathlib import Path


def cache_compilations() -> None:
    """Keep compiled programs between runs, which halves the time of a cold command.

    It configures JAX for the whole process, so that only commands call it.
    """
    import jax

    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "diffgenz" / "xla"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
