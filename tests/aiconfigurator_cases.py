"""Tables as aiconfigurator has them, written by tests."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from diffgenz.calibrating.samples import Samples


def written(path: Path, **columns: Any) -> Path:
    """A table of collectives: numbers are a row, lists are columns."""
    pd.DataFrame(
        {"framework": "SGLang"} | columns,
        index=None if any(isinstance(x, list) for x in columns.values()) else [0],
    ).to_parquet(path)
    return path


def saved(folder: Path, **columns: Any) -> Path:
    """A table of kernels, a row for each of `latency`."""
    path = folder / "table.parquet"
    base = {
        "framework": ["TRTLLM"] * len(columns["latency"]),
        "version": "1.0.0",
        "kernel_source": "default",
    }
    pd.DataFrame(base | columns).to_parquet(path)
    return path


def has(samples: Samples, **columns: float) -> None:
    """The columns of a shape have these numbers."""
    for name, value in columns.items():
        assert getattr(samples.shape, name) == pytest.approx(value), name
