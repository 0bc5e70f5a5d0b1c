"""SGLang's bench_serving: a file of JSON lines, a run in each.

Newer versions add what the server said of itself (`server_info`): model, ranks and formats.
"""

from typing import Any

from diffgenz.calibrating.readers.serving.benchmark import Benchmark
from diffgenz.calibrating.readers.serving.burst import burst_of
from diffgenz.calibrating.readers.serving.fields import Fields

TOOL = "sglang bench_serving"

_ENGINES = {"sglang": "sglang", "vllm": "vllm", "trt": "trtllm"}
_CACHES = {"fp8_e4m3": "fp8", "fp8_e5m2": "fp8", "fp8": "fp8", "bfloat16": "bf16", "bf16": "bf16"}


def knows(raw: dict[str, Any]) -> bool:
    """Whether an object is one run of this tool."""
    return {"backend", "request_throughput", "mean_e2e_latency_ms"} <= raw.keys()


def read(place: str, raw: dict[str, Any]) -> Benchmark:
    """One run.

    Arguments:
        place: the file and the row.
        raw: the object in the file.
    """
    fields = Fields(place, raw)
    info = raw.get("server_info")
    server = Fields(f"{place}: server_info", info if isinstance(info, dict) else {})
    errors = raw.get("errors")
    failed = sum(1 for error in errors if error) if isinstance(errors, list) else 0
    drafts = fields.number("accept_length")
    speculative = server.text("speculative_algorithm")
    if not speculative and drafts is not None and drafts > 1:
        speculative = f"{drafts:.3g} tokens per verification"
    engine = fields.text("backend").partition("-")[0]
    pools = {"prefill", "decode"} & server.raw.keys()  # of a router
    disaggregated = pools or server.text("disaggregation_mode") not in ("", "null")
    budget, slots = server.number("chunked_prefill_size"), server.number("max_running_requests")
    return Benchmark(
        place,
        TOOL,
        model=_model(server),
        engine=_ENGINES.get(engine, ""),
        ranks=_ranks(server),
        precision=server.text("quantization"),
        kv_cache=_CACHES.get(server.text("kv_cache_dtype"), ""),
        input_tokens=fields.per_request("total_input_tokens"),
        output_tokens=fields.per_request("total_output_tokens"),
        concurrency=fields.number("max_concurrency"),
        rate=fields.rate("request_rate", "trace"),
        in_flight=fields.number("concurrency"),
        slots=slots if slots and slots > 0 else None,
        budget=budget if budget and budget > 0 else None,
        log=burst_of(fields),
        ttft=fields.latency("ttft", "_ms"),
        tpot=fields.latency("tpot", "_ms"),
        itl=fields.latency("itl", "_ms"),
        end_to_end=fields.latency("e2e_latency", "_ms"),
        throughput=fields.number("output_throughput"),
        completed=fields.count("completed"),
        failed=failed,
        speculative=speculative,
        unmodelled="prefill and decode on pools of their own" if disaggregated else "",
    )


def _model(server: Fields) -> str:
    """What the server calls its model: a name rather than a path."""
    path, served = server.text("model_path"), server.text("served_model_name")
    return served if served and path.startswith(("/", "~", ".")) else path or served


def _ranks(server: Fields) -> dict[str, int]:
    """The layout in our words: --tp-size counts the groups of DP attention, too."""
    tensor = server.count("tp_size")
    if tensor is None:
        return {}
    groups = server.count("dp_size") or 1
    ranks = {"pp": server.count("pp_size") or 1, "ep": server.count("ep_size") or 1}
    if server.flag("enable_dp_attention"):
        return {**ranks, "tp": max(1, tensor // groups), "attention-dp": groups}
    return {**ranks, "tp": tensor, "dp": groups}
