"""What tests of readers share: writing a file, reading it, and what its samples say."""

from pathlib import Path

import numpy as np

from diffgenz.calibrating.readers.registry import samples_of

SHARED = Path(__file__).resolve().parents[2] / "shared" / "measurements" / "ops"


def write(folder, name, header, *rows):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*([header] if header else []), *rows]) + "\n")
    return path


def read(path):
    return [samples for _, samples in samples_of([path])]


def columns(samples):
    """Its rows: the shape's numbers by name, lists."""
    return {name: np.asarray(column).tolist() for name, column in samples.shape._asdict().items()}


def said(samples):
    return samples.family, samples.format, samples.source, samples.kernel
