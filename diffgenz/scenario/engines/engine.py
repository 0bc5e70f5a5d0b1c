"""The serving engines, and over which ranks of a plan each of them shares what."""

from typing import NamedTuple

from diffgenz.scenario.engines.shards import Shared
from diffgenz.scenario.parallelism import Parallelism

VLLM, SGLANG = "vllm", "sglang"

TITLES = {VLLM: "vLLM", SGLANG: "SGLang"}
"""Engines by name, as people write them."""


class Ranks(NamedTuple):
    """The ranks of a plan, as whole numbers.

    Arguments:
        tensor, context, attention_data, pipeline, data, expert: as in `Parallelism`, at least 1.
    """

    tensor: int
    context: int
    attention_data: int
    pipeline: int
    data: int
    expert: int

    @classmethod
    def of(cls, plan: Parallelism) -> "Ranks":
        """The ranks of one plan."""
        values = (getattr(plan, name) for name in cls._fields)
        return cls(*(1 if value is None else int(value) for value in values))

    @property
    def stage(self) -> int:
        """Accelerators of one pipeline stage of one replica."""
        return self.tensor * self.context * self.attention_data

    @property
    def dense_whole(self) -> bool:
        """Whether every rank holds dense layers whole and has requests of its own.

        SGLang then is told so: --moe-dense-tp-size 1.
        """
        return self.tensor == 1 and self.attention_data > 1

    def sharing(self, what: Shared, engine: str) -> int:
        """The ranks that share a width.

        vLLM shares dense layers and shared experts among the tensor ranks of an attention group.
        SGLang shares them among all ranks of a stage ("moe_dense_tp_size", documented in
        docs.sglang.io, server arguments).

        Arguments:
            what: the kind of width.
            engine: one of `TITLES`.
        """
        if what is Shared.EXPERTS:
            return self.stage // self.expert
        if what is Shared.TENSOR or engine == VLLM:
            return self.tensor
        if what is Shared.DENSE and self.dense_whole:
            return 1
        return self.tensor * self.attention_data
