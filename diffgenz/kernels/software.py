"""The serving engines whose kernels time estimates. No JAX here: `--help` must be quick."""

SOFTWARE = ("vllm", "trtllm", "sglang")
"""Serving engines whose kernels were measured.

First those that are predicted best, above all in decode attention.
"""

DEFAULT = SOFTWARE[0]
"""The engine whose kernels are taken where nothing is said."""

NONE = "none"
"""In place of an engine: no measured kernels, but the smooth roofline, a bound."""

TAKEN_FIRST = {"trtllm": ("moe_torch_flow_min_latency",)}
"""Kernels that an engine takes by default, by its name, whichever was measured most often.

TensorRT-LLM's experts on Blackwell are those of its TRTLLM backend, not CUTLASS's (its deployment
guide for GPT-OSS, "MoE Backend Support Matrix", read 2026-11-30).
"""

ACTIVATIONS = {("trtllm", "mxfp4"): "mxfp8"}
"""Inputs that an engine quantises for weights whose checkpoint says no format of inputs.

By engine and format of weights, where the accelerator multiplies that. TensorRT-LLM on Blackwell:
mxfp8, while vLLM and SGLang leave them at 16 bits (the same guide).
"""
