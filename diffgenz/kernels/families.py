"""Every kernel family, and every form by name: what readers ask for and fit files refer to. A new one is one line."""

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

FAMILIES: dict[str, type[Form]] = {
    "gemm": Gemm,
    "batched": BatchedGemm,
    "prefill": Prefill,
    "decode": Decode,
    "latent_prefill": LatentPrefill,
    "latent_decode": LatentDecode,
    "mamba2_prefill": Mamba2Prefill,
    "mamba2_decode": Mamba2Decode,
    "delta_prefill": DeltaPrefill,
    "delta_decode": DeltaDecode,
    "conv_prefill": CausalConv,
    "conv_decode": CausalConv,
    "experts": Experts,
    "elementwise": Elementwise,
    "all_reduce": AllReduce,
    "all_gather": AllGather,
    "reduce_scatter": AllGather,
    "all_to_all": AllToAll,
    "dispatch_low_latency": Dispatch,
    "combine_low_latency": Combine,
    "dispatch_normal": NormalDispatch,
    "combine_normal": NormalCombine,
}
"""The form of each family, in formats that are multiplied as they are stored."""

QUANTISED: dict[str, type[Form]] = {"gemm": QuantisedGemm}
"""The form of those families that need another in narrow formats."""

WHOLE = ("bf16", "fp16", "fp32", "tf32")
"""Formats that nothing is quantised to on the way."""

FORMS: dict[str, type[Form]] = {
    form.__name__: form for form in (*FAMILIES.values(), *QUANTISED.values(), CustomAllReduce)
}


def form_of(family: str, format: str) -> type[Form]:
    """The form of a family in a format ("weights/activations" where they differ)."""
    return FAMILIES[family] if format in WHOLE or family not in QUANTISED else QUANTISED[family]
