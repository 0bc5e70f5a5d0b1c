"""GEAR (arXiv 2403.05527): a KV cache of few bits, repaired by sparse outliers and a low-rank term.

Of each head's keys, n tokens of width d, three parts are kept, and likewise of its values:

    core       n d elements of a narrow format
    outliers   a share s of the n d elements: the value in dtype, and its index in the token's
               vector in 16 bit
    low rank   A (n, r) and B (d, r) in dtype; A B^T is close to what the core lost

A token then costs d (core + s (dtype + 2)) + r dtype bytes, and a sequence r d dtype bytes once.
Every token has equally many outliers, which therefore need no row pointers. Attention multiplies
with the parts one by one,

    q (core + S + A B^T)^T = q core^T + q S^T + (q B) A^T

which takes s d + r multiply-adds more per (query, key) pair. Without outliers and rank it is a
plain quantised cache.

Three things are left out: q B, which takes d r multiply-adds per query, once for all its keys; that
GEAR keeps the latest tokens in dtype until a buffer is full, and factorises each buffer by itself;
and the compression.
"""

from collections.abc import Iterable
from typing import Self

import equinox as eqx

from diffgenz.core.checks import Condition
from diffgenz.core.errors import InputError
from diffgenz.core.formats import format_named
from diffgenz.core.record import Record, number
from diffgenz.core.smooth import Leaf, Scalar, as_leaf

INDEX_SIZE = 2.0
"""B of an outlier's index: vectors of up to 65,536 elements."""


class Gear(Record):
    """A format of the KV cache, for `Precision(kv_cache=Gear(...))`.

    Arguments:
        core: the format that most of it is in.
        outliers: share of the elements kept in dtype beside it, in [0, 1].
        rank: of the low-rank term.

    The defaults are the paper's.

    Raises:
        InputError: an unknown core, a share outside [0, 1], a negative rank.
    """

    core: str = eqx.field(static=True, default="int4")
    outliers: Leaf = number(at_most=1, remedy="it is a share: 0.02 for 2 %", default=0.02)
    rank: Leaf = number(default=4.0)

    def conditions(self) -> Iterable[Condition]:
        format_named(self.core, "core")
        return ()

    @classmethod
    def named(cls, text: str, field: str = "kv_cache") -> Self:
        """The format that "gear-CORE", "gear-CORE:OUTLIERS" or "gear-CORE:OUTLIERS:RANK" names.

        Arguments:
            text: the name.
            field: what errors call it.

        Raises:
            InputError: a text of another form, and what the record refuses.
        """
        core, *numbers = text.removeprefix("gear-").split(":")
        try:
            return cls(core, *map(float, numbers))
        except (ValueError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{field}: {text!r} is not GEAR; write gear-int4, or with outliers and rank "
                "gear-int4:0.02:4"
            ) from None

    @property
    def name(self) -> str:
        """The name that `named` reads back, without numbers where they are the defaults.

        For one concrete configuration.
        """
        outliers, rank = float(self.outliers), float(self.rank)
        if (outliers, rank) == (float(as_leaf(0.02)), 4.0):
            return f"gear-{self.core}"
        return f"gear-{self.core}:{outliers:.6g}:{rank:g}"

    def element_size(self, core: Scalar, dtype: Scalar, width: Scalar) -> Scalar:
        """B that a token costs, per element of its vector.

        Arguments:
            core: B of an element of the core.
            dtype: B of an element of dtype.
            width: elements of the vector.
        """
        return core + self.outliers * (dtype + INDEX_SIZE) + self.rank * dtype / width

    def sequence_size(self, dtype: Scalar, width: Scalar) -> Scalar:
        """B that a sequence costs once, for vectors of `width` elements: the factor B."""
        return self.rank * width * dtype

    def extra_work(self, width: Scalar) -> Scalar:
        """FLOP of outliers and low rank over those of the core, for vectors of `width` elements."""
        return self.outliers + self.rank / width
