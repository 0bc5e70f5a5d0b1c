"""GEAR: a KV cache of few bits, whose error is corrected by sparse outliers and a low-rank term.

The source is arXiv 2403.05527. Of each head's keys, n tokens of width d, three parts are kept, and
of its values the same:

    core       n d elements of a narrow format
    outliers   a share s of the n d elements: the value in dtype, and its index in the token's
               vector in 16 bit
    low rank   A (n, r) and B (d, r) in dtype, with A B^T close to what the core lost

A token therefore costs d (core + s (dtype + 2)) + r dtype bytes, and a sequence r d dtype bytes
once. Every token has equally many outliers, so that they need no row pointers. Attention multiplies
with the parts one by one:

    q (core + S + A B^T)^T = q core^T + q S^T + (q B) A^T

That is s d + r multiply-adds more for each (query, key) pair. Without outliers and rank, GEAR is a
plain quantised cache.

The model leaves out:

- q B, which is d r multiply-adds per query, once for all its keys;
- the latest tokens, which GEAR keeps in dtype until a buffer is full, and that it factorises each
  buffer by itself instead of the whole cache at once;
- the compression itself.
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
        core: the narrow format that all elements are kept in, a key of `FORMATS`.
        outliers: the share of the elements that are kept in dtype as well, in [0, 1].
        rank: the rank r of the low-rank term, at least 0.

    The defaults are those of the paper.

    Raises:
        InputError: an unknown core, a share outside [0, 1], or a negative rank.
    """

    core: str = eqx.field(static=True, default="int4")
    outliers: Leaf = number(at_most=1, remedy="it is a share: 0.02 for 2 %", default=0.02)
    rank: Leaf = number(default=4.0)

    def conditions(self) -> Iterable[Condition]:
        format_named(self.core, "core")
        return ()

    @classmethod
    def named(cls, text: str, field: str = "kv_cache") -> Self:
        """The format that a text names.

        Arguments:
            text: "gear-CORE", "gear-CORE:OUTLIERS" or "gear-CORE:OUTLIERS:RANK".
            field: what an error calls the input that gave the text.

        Raises:
            InputError: a text of another form, or numbers that the record refuses.
        """
        core, *numbers = text.removeprefix("gear-").split(":")
        try:
            return cls(core, *map(float, numbers))
        except (ValueError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{field}: {text!r} is not GEAR; write gear-int4, "
                "or with outliers and rank gear-int4:0.02:4"
            ) from None

    @property
    def name(self) -> str:
        """The text that `named` reads back, without the numbers where both are the defaults.

        It exists for one concrete configuration.
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
        """B that a sequence costs once: the low-rank factor B.

        Arguments:
            dtype: B of an element of dtype.
            width: elements of each vector.
        """
        return self.rank * width * dtype

    def extra_work(self, width: Scalar) -> Scalar:
        """FLOP of the outliers and the low-rank term over those of the core.

        Arguments:
            width: elements of each vector.
        """
        return self.outliers + self.rank / width
