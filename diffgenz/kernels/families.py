"""Every kernel family, one row each: what operators, readers and fit files refer to by name."""

import enum
from typing import NamedTuple

from diffgenz.core.errors import unknown
from diffgenz.kernels.form import Form
from diffgenz.kernels.forms.attention_decode import Decode
from diffgenz.kernels.forms.attention_prefill import Prefill
from diffgenz.kernels.forms.batched_gemm import BatchedGemm
from diffgenz.kernels.forms.causal_conv import CausalConv
from diffgenz.kernels.forms.collective import AllGather, AllReduce, AllToAll
from diffgenz.kernels.forms.custom_allreduce import CustomAllReduce
from diffgenz.kernels.forms.deepep import Combine, Dispatch, NormalCombine, NormalDispatch
from diffgenz.kernels.forms.elementwise import Elementwise
from diffgenz.kernels.forms.experts import Experts
from diffgenz.kernels.forms.gemm import Gemm, QuantisedGemm
from diffgenz.kernels.forms.latent_attention import LatentDecode, LatentPrefill
from diffgenz.kernels.forms.recurrence import DeltaDecode, DeltaPrefill, Mamba2Decode, Mamba2Prefill
from diffgenz.kernels.kernel_format import KernelFormat

WHOLE = ("bf16", "fp16", "fp32", "tf32")
"""Formats in which nothing is quantised on the way."""


class KnownBy(enum.Enum):
    """By which formats of an estimate a family's kernels are known."""

    OPERATOR = "operator"  # those that its operator multiplies in
    CACHE = "cache"  # that of the cache, together with dtype


class Family(NamedTuple):
    """A family of kernels that one formula describes.

    Arguments:
        name: by which operators, tables and fit files refer to it.
        kind: what people ask to have fitted, which may be several families.
        form: its formula.
        quantised: its formula in formats that are not `WHOLE`; None where that is `form` too.
        others: formulas of special kernels that may stand in for `form`.
        known_by: by which formats of an estimate its kernels are known.
    """

    name: str
    kind: str
    form: type[Form]
    quantised: type[Form] | None = None
    others: tuple[type[Form], ...] = ()
    known_by: KnownBy = KnownBy.OPERATOR

    def form_in(self, format: str) -> type[Form]:
        """The formula in `format`: "bf16", or "weights/activations" where these differ."""
        return self.form if self.quantised is None or format in WHOLE else self.quantised

    @property
    def forms(self) -> tuple[type[Form], ...]:
        """All its formulas."""
        return (self.form, *(() if self.quantised is None else (self.quantised,)), *self.others)


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("gemm", "gemm", Gemm, quantised=QuantisedGemm),
        Family("batched", "gemm", BatchedGemm),
        Family("elementwise", "gemm", Elementwise),
        Family("prefill", "attention", Prefill),
        Family("decode", "attention", Decode),
        Family("latent_prefill", "attention", LatentPrefill, known_by=KnownBy.CACHE),
        Family("latent_decode", "attention", LatentDecode, known_by=KnownBy.CACHE),
        Family("mamba2_prefill", "recurrence", Mamba2Prefill),
        Family("mamba2_decode", "recurrence", Mamba2Decode),
        Family("delta_prefill", "recurrence", DeltaPrefill),
        Family("delta_decode", "recurrence", DeltaDecode),
        Family("conv_prefill", "recurrence", CausalConv),
        Family("conv_decode", "recurrence", CausalConv),
        Family("experts", "experts", Experts),
        Family("all_reduce", "network", AllReduce, others=(CustomAllReduce,)),
        Family("all_gather", "network", AllGather),
        Family("reduce_scatter", "network", AllGather),
        Family("all_to_all", "network", AllToAll),
        Family("dispatch_low_latency", "network", Dispatch),
        Family("combine_low_latency", "network", Combine),
        Family("dispatch_normal", "network", NormalDispatch),
        Family("combine_normal", "network", NormalCombine),
    )
}
"""Every family by name."""

KINDS: dict[str, tuple[str, ...]] = {
    kind: tuple(name for name, family in FAMILIES.items() if family.kind == kind)
    for kind in dict.fromkeys(family.kind for family in FAMILIES.values())
}
"""What people ask to have fitted, and the families of each kind."""

FORMS: dict[str, type[Form]] = {
    form.__name__: form for family in FAMILIES.values() for form in family.forms
}
"""Every form by the name that fit files have for it."""


def family_named(name: str, field: str = "family") -> Family:
    """The family called `name`.

    Raises:
        InputError: there is none; the message calls it `field`.
    """
    if name not in FAMILIES:
        raise unknown(field, name, FAMILIES)
    return FAMILIES[name]


def format_known_by(family: str, own: str, dtype: str, cache: str) -> str:
    """The format by which kernels of a family are known in an estimate.

    Arguments:
        family: a name of `FAMILIES`.
        own: format of the part of the model that they run, "weights/activations" where these
            differ.
        dtype: format of everything that no linear layer does.
        cache: format of the KV cache.
    """
    if FAMILIES[family].known_by is KnownBy.CACHE and cache != dtype:
        return str(KernelFormat(cache, dtype))
    return own


EXCHANGES = {
    "low_latency": ("dispatch_low_latency", "combine_low_latency"),
    "normal": ("dispatch_normal", "combine_normal"),
}
"""DeepEP's modes: the families that take tokens to their experts, and back."""
