"""LLM-Inference-Bench (arXiv 2411.00136): CSVs of whole batches, on eight kinds of accelerators.

Times are in s. Answers are as long as their prompts, and `Throughput` counts the tokens of both. In
the file that has them, times to first token were measured apart, with answers of one token.
"""

import re
from typing import Any

from diffgenz.calibrating.readers.serving.benchmark import Benchmark, Latency
from diffgenz.calibrating.readers.serving.fields import Fields
from diffgenz.core.errors import InputError

TOOL = "LLM-Inference-Bench"

_ENGINES = {"vllm": "vllm", "tensorrt-llm": "trtllm", "sglang": "sglang"}
_SHARED = {"Hardware", "Num of Hardware", "Framework", "Model", "Batch Size"}
_WORDS = re.compile(r"\b(nvidia|amd|habana|sambanova|intel|gpu)\b", re.IGNORECASE)


def knows(raw: dict[str, Any]) -> bool:
    """Whether an object is one row of it."""
    lengths = {"Input Output Length", "Input Length"} & raw.keys()
    return bool(lengths) and raw.keys() >= _SHARED


def read(place: str, raw: dict[str, Any]) -> Benchmark:
    """One row.

    Arguments:
        place: the file and the row.
        raw: its columns, as text.
    """
    fields = Fields(place, raw)
    framework, batch = fields.text("Framework"), fields.number("Batch Size")
    tokens = fields.number("Input Output Length", "Input Length")
    first = fields.number("TTFT Latency")
    whole = fields.number("Latency", "latency", "end_latency")
    if whole is not None and whole <= 0:
        raise InputError(f"{place}: Latency: {whole:g} s is none; leave the row out")
    if first is None and fields.number("Output Length") == 1:
        first, whole = whole, None
    tpot = None
    if whole is not None and first is not None and tokens is not None:
        tpot = (whole - first) / (tokens - 1)
    throughput = None
    if batch is not None and tokens is not None and whole is not None:
        throughput = batch * tokens / whole
    return Benchmark(
        place,
        TOOL,
        model=fields.text("Model"),
        system=_WORDS.sub(" ", fields.text("Hardware")).strip(),
        engine=_ENGINES.get(framework.lower(), ""),
        ranks={
            "gpus": fields.count("Num of Hardware") or 1,
            "tp": fields.count("Num of Hardware") or 1,
        },
        input_tokens=tokens,
        output_tokens=tokens,
        in_flight=batch,
        together=True,
        ttft=Latency(first),
        tpot=Latency(tpot),
        end_to_end=Latency(whole),
        throughput=throughput,
        unmodelled="" if framework.lower() in _ENGINES else f"the kernels of {framework}",
    )
