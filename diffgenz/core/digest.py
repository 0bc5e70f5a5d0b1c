"""A digest of a record, by which a sweep knows itself again."""

import hashlib
from typing import Any

import jax
import numpy as np


def structure_digest(record: Any) -> str:
    """A digest of a record: its structure, names and numbers."""
    leaves, structure = jax.tree.flatten(record)
    total = hashlib.sha256(str(structure).encode())
    for leaf in leaves:
        total.update(np.asarray(leaf, np.float64).tobytes())
    return total.hexdigest()[:16]
