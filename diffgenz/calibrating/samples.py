"""Measured kernels: shapes and seconds of one family, format and kernel source."""

import dataclasses
import hashlib
from typing import Any, Self

import numpy as np

from diffgenz.kernels.families import family_named
from diffgenz.kernels.form import Form


@dataclasses.dataclass(frozen=True)
class Samples:
    """Rows of one kernel.

    Arguments:
        form: the formula that is fitted to them.
        family: name of the kernel's family: "gemm", "prefill", ...
        format: what it multiplies: a name of `FORMATS`, or "weights/activations" where these
            differ.
        source: the software and its version, such as "trtllm-1.3.0rc20".
        kernel: which of its kernels, as the table calls it.
        shape: a `form.Shape` of float64 arrays (rows,).
        seconds: of each row, (rows,).
        dropped: how many rows were left out, by reason.
    """

    form: type[Form]
    family: str
    format: str
    source: str
    kernel: str
    shape: Any
    seconds: np.ndarray
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls, family: str, format: str, source: str, kernel: str, shape: Any, seconds: np.ndarray
    ) -> Self:
        """Rows of a kernel that its family's own form describes.

        Arguments are those of the class.
        """
        form = family_named(family).form_in(format)
        return cls(form, family, format, source, kernel, shape, seconds)

    def __len__(self) -> int:
        return len(self.seconds)

    def only(self, rows: np.ndarray, why: str | None = None) -> Self:
        """Some of the rows.

        Arguments:
            rows: which: booleans (rows,), or indices.
            why: the reason for which the others count as dropped; None where they do not count.
        """
        shape = type(self.shape)(*(column[rows] for column in self.shape))
        kept = dataclasses.replace(self, shape=shape, seconds=self.seconds[rows])
        if why is None or len(kept) == len(self):
            return kept
        return dataclasses.replace(
            kept, dropped=self.dropped | {why: self.dropped.get(why, 0) + len(self) - len(kept)}
        )

    def merged(self) -> Self:
        """One row for each shape: the median of its measurements."""
        columns = np.column_stack(self.shape)
        unique, group = np.unique(columns, axis=0, return_inverse=True)
        order = np.lexsort((self.seconds, group.ravel()))
        seconds = self.seconds[order]
        starts = np.searchsorted(group.ravel()[order], np.arange(len(unique) + 1))
        first, last = starts[:-1], starts[1:] - 1
        medians = 0.5 * (seconds[(first + last) // 2] + seconds[(first + last + 1) // 2])
        again = len(self) - len(unique)
        dropped = self.dropped | ({"repeats of a shape (median kept)": again} if again else {})
        return dataclasses.replace(
            self, shape=type(self.shape)(*unique.T), seconds=medians, dropped=dropped
        )

    @property
    def held_out(self) -> np.ndarray:
        """Which rows are kept from fits: a fifth, as booleans (rows,).

        A hash of the shape decides, so that all formats, sources and accelerators keep the same
        shapes.
        """
        return shape_hash(self.shape) % np.uint64(5) == 0

    @property
    def digest(self) -> str:
        """A hash of shapes and times that does not depend on the order of the rows."""
        rows = np.column_stack([*self.shape, self.seconds])
        ordered = np.ascontiguousarray(rows[np.lexsort(rows.T)])
        return hashlib.sha256(ordered.tobytes()).hexdigest()[:16]


def padded(column: Any, size: int) -> np.ndarray:
    """The column in float64, lengthened to `size` by repeats of its first number.

    Programs are compiled for few sizes.
    """
    column = np.asarray(column, np.float64)
    return np.concatenate([column, np.full(size - len(column), column[0])])


def shape_hash(shape: Any) -> np.ndarray:
    """A 64-bit hash of each row of a shape, the same on every machine and in every version.

    It covers the columns that the shape names as `SPLIT`, or all where it names none.
    """
    names = getattr(shape, "SPLIT", shape._fields)
    state = np.full(len(shape[0]), 0x9E3779B97F4A7C15, np.uint64)
    with np.errstate(over="ignore"):
        for name in names:
            column = np.asarray(getattr(shape, name), np.float64)
            state = _mixed(state ^ _mixed(np.ascontiguousarray(column + 0.0).view(np.uint64)))
    return state


def _mixed(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    x = (x + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
