"""Whose kernels time an estimate. No JAX here: `--help` must be quick."""

SOFTWARE = ("vllm", "trtllm", "sglang")
"""Serving engines whose kernels were measured, best predicted first (decode attention, above all)."""

DEFAULT = SOFTWARE[0]
"""Whose kernels are taken where nothing is said."""

NONE = "none"
"""In place of measured kernels: the smooth roofline, a bound."""
