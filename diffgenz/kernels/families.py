"""Every form by name: what fit files refer to. A new one is one line."""

from diffgenz.kernels.form import Form
from diffgenz.kernels.gemm import Gemm, QuantisedGemm

FORMS: dict[str, type[Form]] = {form.__name__: form for form in (Gemm, QuantisedGemm)}
