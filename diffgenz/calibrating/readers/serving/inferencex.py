"""Rows of InferenceX (once InferenceMAX): agg_*.json, one or a list of them, and its site's CSV.

Times are in s. `tp` counts all accelerators of a stage, those of DP attention too.
"""

from typing import Any

from diffgenz.calibrating.readers.serving.benchmark import Benchmark
from diffgenz.calibrating.readers.serving.fields import Fields

TOOL = "InferenceX"

_TIMES = {"TTFT": "ttft", "TPOT": "tpot", "ITL": "itl", "E2E Latency": "e2el"}

CSV = {
    "Model": "model",
    "ISL": "isl",
    "OSL": "osl",
    "Hardware": "hw",
    "Hardware Key": "hw_key",
    "Framework": "framework",
    "Precision": "precision",
    "TP": "tp",
    "EP": "ep",
    "DP Attention": "dp_attention",
    "Concurrency": "conc",
    "Disaggregated": "disagg",
    "Is Multinode": "is_multinode",
    "Spec Decoding": "spec_decoding",
    "Throughput/Chip (tok/s)": "tput_per_gpu",
    "Throughput/GPU (tok/s)": "tput_per_gpu",
    "Output Throughput/Chip (tok/s)": "output_tput_per_gpu",
    "Output Throughput/GPU (tok/s)": "output_tput_per_gpu",
    **{
        f"{statistic} {name} (s)": f"{statistic.lower()}_{key}"
        for name, key in _TIMES.items()
        for statistic in ("Mean", "Median", "P99")
    },
}
"""What the rows call the columns of the CSV that the site exports."""

_MODELS = {
    "dsr1": "deepseek-ai/DeepSeek-R1-0528",
    "dsv4": "deepseek-ai/DeepSeek-V4-Pro",
    "gptoss": "openai/gpt-oss-120b",
    "gptoss120b": "openai/gpt-oss-120b",
    "70b": "meta-llama/Llama-3.3-70B-Instruct",
    "llama70b": "meta-llama/Llama-3.3-70B-Instruct",
    "glm5": "zai-org/GLM-5",
}
"""Models by the keys of its database, of those that have the sizes of a shipped one."""

_ENGINES = {"vllm": "vllm", "sglang": "sglang", "trt": "trtllm", "trtllm": "trtllm"}


def knows(raw: dict[str, Any]) -> bool:
    """Whether an object is one row."""
    names = raw.keys() | (raw["metrics"].keys() if isinstance(raw.get("metrics"), dict) else set())
    measured = {"output_tput_per_gpu", "mean_tpot", "median_tpot"}
    return "conc" in names and bool({"hw", "hardware"} & names) and bool(measured & names)


def knows_header(header: list[str]) -> bool:
    """Whether a CSV with this header is one of the site's."""
    return {"Hardware", "Concurrency", "Precision", "ISL", "OSL"} <= set(header)


def read(place: str, raw: dict[str, Any]) -> Benchmark:
    """One row.

    Arguments:
        place: the file and the row.
        raw: its fields, those under "metrics" too.
    """
    metrics = raw.get("metrics")
    fields = Fields(place, {**raw, **metrics} if isinstance(metrics, dict) else raw)
    tensor = fields.count("tp", "decode_tp")
    stages = fields.count("pp", "decode_pp") or 1
    ranks = {} if tensor is None else {"pp": stages, "ep": fields.count("ep", "decode_ep") or 1}
    if tensor is not None and (fields.flag("dp_attention") or fields.flag("decode_dp_attention")):
        ranks |= {"tp": 1, "attention-dp": tensor}
    elif tensor is not None:
        ranks |= {"tp": tensor}
    each = fields.number("output_tput_per_gpu")
    speculative = fields.text("spec_decoding", "spec_method", "mtp")
    return Benchmark(
        place,
        TOOL,
        model=_MODELS.get(fields.text("model").lower(), fields.text("model")),
        system=fields.text("hw", "hardware", "hw_key"),
        engine=_ENGINES.get(fields.text("framework").lower().rpartition("-")[2], ""),
        ranks=ranks,
        precision=fields.text("precision"),
        input_tokens=fields.number("isl"),
        output_tokens=fields.number("osl"),
        concurrency=fields.number("conc"),
        ttft=fields.latency("ttft", scale=1.0),
        tpot=fields.latency("tpot", scale=1.0),
        itl=fields.latency("itl", scale=1.0),
        end_to_end=fields.latency("e2el", scale=1.0),
        throughput=None if each is None or tensor is None else each * tensor * stages,
        speculative="" if speculative.lower() in ("none", "off", "false", "") else speculative,
        unmodelled=_unmodelled(fields),
    )


def _unmodelled(fields: Fields) -> str:
    """What of a row no estimate describes."""
    if fields.flag("disagg") or fields.flag("is_multinode"):
        return "prefill and decode on pools of their own"
    if any((fields.count(name) or 1) > 1 for name in ("dcp_size", "pcp_size")):
        return "context-parallel ranks"
    return ""
