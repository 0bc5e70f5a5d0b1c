"""perf_model.csv of Splitwise: batches that arrive together, on DGX A100 and H100, vLLM of 2023.

Times are in ms. Rows under a limit of the accelerators' power are known by their hardware's name.
"""

from typing import Any

from diffgenz.calibrating.readers.serving.benchmark import Benchmark, Latency
from diffgenz.calibrating.readers.serving.fields import Fields

TOOL = "Splitwise"

_MODELS = {"llama2-70b": "meta-llama/Llama-2-70b-hf", "bloom-176b": "bigscience/bloom"}


def knows(raw: dict[str, Any]) -> bool:
    """Whether an object is one row of it."""
    return {"prompt_size", "batch_size", "token_size", "prompt_time", "token_time"} <= raw.keys()


def read(place: str, raw: dict[str, Any]) -> Benchmark:
    """One row.

    Arguments:
        place: the file and the row.
        raw: its columns, as text.
    """
    fields = Fields(place, raw)
    model, hardware = fields.text("model"), fields.text("hardware")
    times = {name: fields.number(f"{name}_time") for name in ("prompt", "token", "e2e")}
    means = {name: Latency(None if ms is None else ms / 1e3) for name, ms in times.items()}
    capped = "cap" in hardware.lower()
    return Benchmark(
        place,
        TOOL,
        model=_MODELS.get(model, model),
        system=hardware,
        engine="vllm",
        ranks={"tp": fields.count("tensor_parallel") or 1},
        precision="fp16",
        input_tokens=fields.number("prompt_size"),
        output_tokens=fields.number("token_size"),
        in_flight=fields.number("batch_size"),
        together=True,
        ttft=means["prompt"],
        tpot=means["token"],
        end_to_end=means["e2e"],
        unmodelled="a limit of the accelerators' power" if capped else "",
    )
