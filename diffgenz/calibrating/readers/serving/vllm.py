"""`vllm bench serve --save-result` (with or without `--save-detailed`, `--append-result`).

Its older name is benchmark_serving.py. The file says neither the accelerator nor the layout, unless
`--metadata tp=8 system=h100_sxm` did.
"""

from typing import Any

from diffgenz.calibrating.readers.serving.benchmark import Benchmark
from diffgenz.calibrating.readers.serving.fields import Fields

TOOL = "vllm bench serve"

_ENGINES = {"vllm": "vllm", "sglang": "sglang", "tensorrt-llm": "trtllm"}
_RANKS = {
    "gpus": ("gpus", "num_gpus"),
    "tp": ("tp", "tensor_parallel_size"),
    "pp": ("pp", "pipeline_parallel_size"),
    "dp": ("dp", "data_parallel_size"),
    "ep": ("ep", "expert_parallel_size"),
}
"""What people call ranks in `--metadata`."""


def knows(raw: dict[str, Any]) -> bool:
    """Whether an object is one run of this tool."""
    return {"model_id", "request_throughput", "total_input_tokens"} <= raw.keys()


def read(place: str, raw: dict[str, Any]) -> Benchmark:
    """One run.

    Arguments:
        place: the file and the row.
        raw: the object in the file.
    """
    fields = Fields(place, raw)
    completed, asked = fields.count("completed"), fields.count("num_prompts")
    failed = fields.count("failed")
    if failed is None:
        failed = max(0, (asked or 0) - (completed or 0))
    ranks = {word: fields.count(*names) for word, names in _RANKS.items()}
    drafts = fields.number("spec_decode_acceptance_length")
    return Benchmark(
        place,
        TOOL,
        model=fields.text("model_id"),
        system=fields.text("system", "gpu", "hw"),
        engine=_ENGINES.get(fields.text("backend", "endpoint_type"), ""),
        ranks={word: count for word, count in ranks.items() if count is not None},
        precision=fields.text("precision", "quantization"),
        input_tokens=fields.per_request("total_input_tokens"),
        output_tokens=fields.per_request("total_output_tokens"),
        concurrency=fields.number("max_concurrency"),
        rate=fields.rate("request_rate"),
        ttft=fields.latency("ttft", "_ms"),
        tpot=fields.latency("tpot", "_ms"),
        itl=fields.latency("itl", "_ms"),
        end_to_end=fields.latency("e2el", "_ms"),
        throughput=fields.number("output_throughput"),
        completed=completed,
        failed=failed,
        speculative="" if drafts is None else f"{drafts:.3g} tokens per verification",
    )
