"""The serving engines whose kernels time estimates. No JAX here: `--help` must be quick."""

SOFTWARE = ("vllm", "trtllm", "sglang")
"""Serving engines whose kernels were measured.

First those that are predicted best, above all in decode attention.
"""

DEFAULT = SOFTWARE[0]
"""The engine whose kernels are taken where nothing is said."""

NONE = "none"
"""In place of an engine: no measured kernels, but the smooth roofline, a bound."""
