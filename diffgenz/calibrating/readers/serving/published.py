"""Tables of published figures that Rapid-LLM keeps: NVIDIA's of its NIM, and those of IMEC.

NVIDIA's are closed loops, in ms; the file says neither the model nor the accelerators. IMEC's are s
of one request of 200 tokens in and 200 out.
"""

import re
from typing import Any

from diffgenz.calibrating.readers.serving.benchmark import Benchmark, Latency
from diffgenz.calibrating.readers.serving.fields import Fields
from diffgenz.core.errors import InputError

NIM, IMEC = "NVIDIA NIM", "IMEC"

_LLAMA = re.compile(r"llama ?-?(?P<generation>[23])[- ](?P<size>\d+)b", re.IGNORECASE)
_TOKENS = 200.0


def knows_nim(raw: dict[str, Any]) -> bool:
    """Whether an object is one row of NVIDIA's."""
    return {"Input Tokens", "Output Tokens", "Concurrency", "TTFT (ms)", "ITL (ms)"} <= raw.keys()


def knows_imec(raw: dict[str, Any]) -> bool:
    """Whether an object is one row of IMEC's."""
    return {"device", "model", "TP", "actual"} <= raw.keys()


def read_nim(place: str, raw: dict[str, Any]) -> Benchmark:
    """One row of NVIDIA's; arguments as of `read_imec`."""
    fields = Fields(place, raw)
    first, between = fields.number("TTFT (ms)"), fields.number("ITL (ms)")
    tpot = Latency(None if between is None else between / 1e3)
    return Benchmark(
        place,
        NIM,
        input_tokens=fields.number("Input Tokens"),
        output_tokens=fields.number("Output Tokens"),
        concurrency=fields.number("Concurrency"),
        ttft=Latency(None if first is None else first / 1e3),
        tpot=tpot,  # of genai-perf, whose time between tokens is each request's mean
        itl=tpot,
        throughput=fields.number("Throughput (Tokens/s)"),
    )


def read_imec(place: str, raw: dict[str, Any]) -> Benchmark:
    """One row of IMEC's.

    Arguments:
        place: the file and the row.
        raw: its columns, as text.
    """
    fields = Fields(place, raw)
    model = fields.text("model")
    found = _LLAMA.fullmatch(model)
    if found:
        model = f"meta-llama/Llama-{found['generation']}-{found['size']}b-hf"
    ranks, seconds = fields.count("TP") or 1, fields.number("actual")
    if seconds is not None and seconds <= 0:
        raise InputError(f"{place}: actual: {seconds:g} s is no time; leave the row out")
    return Benchmark(
        place,
        IMEC,
        model=model,
        system=fields.text("device"),
        ranks={"tp": ranks},
        input_tokens=_TOKENS,
        output_tokens=_TOKENS,
        in_flight=1.0,
        together=True,
        end_to_end=Latency(seconds),
        throughput=None if seconds is None else _TOKENS / seconds,
    )
