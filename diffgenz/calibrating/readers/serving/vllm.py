"""`vllm bench serve --save-result` (with or without `--save-detailed`, `--append-result`).

Its older name is benchmark_serving.py. The file says neither the accelerator nor the layout, unless
`--metadata tp=8 system=h100_sxm` did.
"""

from typing import Any

from diffgenz.calibrating.readers.serving.benchmark import Benchmark
from diffgenz.calibrating.readers.serving.burst import burst_of
from diffgenz.calibrating.readers.serving.fields import Fields

TOOL = "vllm bench serve"

_ENGINES = {"vllm": "vllm", "sglang": "sglang", "tensorrt-llm": "trtllm"}
_RANKS = {
    "gpus": ("gpus", "num_gpus", "gpu_count"),
    "tp": ("tp", "tp_size", "tensor_parallel_size", "tensor_parallel"),
    "pp": ("pp", "pp_size", "pipeline_parallel_size", "pipeline_parallel"),
    "dp": ("dp", "dp_size", "data_parallel_size", "data_parallel"),
    "ep": ("ep", "ep_size", "expert_parallel_size"),
}
"""What people call ranks in `--metadata`, in small letters, with underscores."""

_SYSTEM = ("system", "gpu", "hw", "gpu_name", "gpu_type", "hardware", "accelerator", "device")

_FIELDS = {"model_id", "tokenizer_id", "num_prompts", "duration", "completed", "total_input_tokens"}


def knows(raw: dict[str, Any]) -> bool:
    """Whether an object is one run of this tool, of which a field or two may be missing."""
    other = "mean_e2e_latency_ms" in raw  # SGLang's
    return "request_throughput" in raw and len(_FIELDS & raw.keys()) >= 4 and not other


def read(place: str, raw: dict[str, Any]) -> Benchmark:
    """One run.

    Arguments:
        place: the file and the row.
        raw: the object in the file.
    """
    fields = Fields(place, raw)
    said = Fields(place, {name.lower().replace("-", "_"): value for name, value in raw.items()})
    completed, asked = fields.count("completed"), fields.count("num_prompts")
    failed = fields.count("failed")
    if failed is None:
        failed = max(0, (asked or 0) - (completed or 0))
    regular = fields.number("burstiness")
    drafts = fields.number("spec_decode_acceptance_length")
    return Benchmark(
        place,
        TOOL,
        model=fields.text("model_id"),
        system=said.text(*_SYSTEM),
        engine=_ENGINES.get(fields.text("backend", "endpoint_type"), ""),
        ranks=_ranks(said),
        precision=said.text("precision", "quantization"),
        input_tokens=fields.per_request("total_input_tokens"),
        output_tokens=fields.per_request("total_output_tokens"),
        concurrency=fields.number("max_concurrency"),
        rate=fields.rate("request_rate"),
        burstiness=1.0 if not regular else 1 / regular,  # gamma distributed, of that shape
        slots=said.number("max_num_seqs"),
        budget=said.number("max_num_batched_tokens"),
        log=burst_of(fields),
        ttft=fields.latency("ttft", "_ms"),
        tpot=fields.latency("tpot", "_ms"),
        itl=fields.latency("itl", "_ms"),
        end_to_end=fields.latency("e2el", "_ms"),
        throughput=fields.number("output_throughput"),
        completed=completed,
        failed=failed,
        speculative="" if drafts is None else f"{drafts:.3g} tokens per verification",
        unmodelled=_unmodelled(fields),
    )


def _ranks(said: Fields) -> dict[str, int]:
    """The layout in our words."""
    ranks = {word: said.count(*names) for word, names in _RANKS.items()}
    found = {word: count for word, count in ranks.items() if count is not None}
    if said.flag("enable_expert_parallel") and "tp" in found:
        found.setdefault("ep", found["tp"])
    return found


def _unmodelled(fields: Fields) -> str:
    """What of a run no estimate describes."""
    if "input_sequence_throughput" in fields.raw:
        return "embeddings, of which nothing is decoded"
    ramp = fields.text("ramp_up_strategy")
    return f"a rate that ramps up ({ramp})" if ramp else ""
