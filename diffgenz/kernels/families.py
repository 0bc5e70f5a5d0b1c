"""Every kernel family, and every form by name: what readers ask for and fit files refer to. A new one is one line."""

from diffgenz.kernels.elementwise import Elementwise
from diffgenz.kernels.form import Form
from diffgenz.kernels.gemm import Gemm, QuantisedGemm

FAMILIES: dict[str, type[Form]] = {"gemm": Gemm, "elementwise": Elementwise}
"""The form of each family, in formats that are multiplied as they are stored."""

QUANTISED: dict[str, type[Form]] = {"gemm": QuantisedGemm}
"""The form of those families that need another in narrow formats."""

WHOLE = ("bf16", "fp16", "fp32", "tf32", "any")
"""Formats that nothing is quantised to on the way."""

FORMS: dict[str, type[Form]] = {form.__name__: form for form in (*FAMILIES.values(), *QUANTISED.values())}


def form_of(family: str, format: str) -> type[Form]:
    """The form of a family in a format ("weights/activations" where they differ)."""
    return FAMILIES[family] if format in WHOLE or family not in QUANTISED else QUANTISED[family]
