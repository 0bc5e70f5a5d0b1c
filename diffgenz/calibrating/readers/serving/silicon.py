"""The table of served runs that aiconfigurator-core ships: a CSV of TTFT and TPOT on real GPUs.

Each row is a mean over requests at a fixed concurrency, in ms. Its ranks have a trap: where an
identifier says neither and both MoE ranks exceed 1, `tp_size` or `attention_dp_size` is their
product, though either of them alone is the number of GPUs; where the identifier says "tp8", there
are 8 GPUs, whatever the columns say. Tensor ranks that are no power of two (36 for DeepSeek-R1 on
GB200) are the GPUs of several engines or pools, which the row does not tell apart.

Rows that come from InferenceX, whose sources are dumps of its database or exports by date, have
lengths drawn evenly between 0.8 of the stated ones and these (RANDOM_RANGE_RATIO of its workflows),
and servers that are set as its scripts say; those that NVIDIA measured itself have requests of one
length.
"""

import re
from typing import Any

from diffgenz.calibrating.readers.serving.benchmark import Benchmark, Latency
from diffgenz.calibrating.readers.serving.fields import Fields

TOOL = "aiconfigurator's silicon table"

_GPUS = re.compile(r"_tp(\d+)")
_INFERENCEX = re.compile(r"db-dump/|source_file=\d{4}-\d\d-\d\d\.csv")
_RANGE_RATIO = 0.8

_CONCURRENCY = (re.compile(r"silicon_concurrency=(\d+)"), re.compile(r"_c(\d+)_"))


def knows_header(header: list[str]) -> bool:
    """Whether a CSV with this header is such a table."""
    return {"silicon_ttft_ms", "silicon_tpot_ms", "tp_size", "model_path"} <= set(header)


def knows(raw: dict[str, Any]) -> bool:
    """Whether an object is one row of it."""
    return knows_header(list(raw))


def read(place: str, raw: dict[str, Any]) -> Benchmark:
    """One row.

    Arguments:
        place: the file and the row.
        raw: its columns, as text.
    """
    fields = Fields(place, raw)
    times = {name: fields.number(f"silicon_{name}_ms") for name in ("ttft", "tpot")}
    means = {name: Latency(None if ms is None else ms / 1e3) for name, ms in times.items()}
    apart = fields.text("mode") not in ("agg", "")
    ranks = {} if apart else _ranks(fields)
    tensor = ranks.get("tp", 1)
    unmodelled = "prefill and decode on pools of their own" if apart else ""
    if tensor & (tensor - 1):
        unmodelled = f"{tensor} tensor ranks, which are no single engine's"
    return Benchmark(
        place,
        TOOL,
        model=fields.text("model_path"),
        system=fields.text("system"),
        engine=fields.text("backend"),
        ranks=ranks,
        precision=fields.text("precision") or fields.text("gemm_quant_mode"),
        input_tokens=fields.number("isl"),
        output_tokens=fields.number("osl"),
        range_ratio=_range_ratio(fields),
        request_iterations=_request_iterations(fields),
        concurrency=_concurrency(fields),
        ttft=means["ttft"],
        tpot=means["tpot"],
        unmodelled=unmodelled,
    )


def _ranks(fields: Fields) -> dict[str, int]:
    """The layout, by word."""
    columns = ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size", "pp_size")
    tensor, groups, sharded, experts, stages = (fields.count(name) or 1 for name in columns)
    said = _GPUS.search(fields.text("id"))
    if said:
        gpus = int(said[1])
    elif sharded > 1 and experts > 1:
        gpus = sharded
    else:
        gpus = tensor * groups
    ranks = {"pp": stages, "ep": experts}
    return ranks | ({"tp": 1, "attention-dp": gpus} if groups > 1 else {"tp": gpus})


def _range_ratio(fields: Fields) -> float | None:
    """The shortest requests over the longest ones; None where the row does not say its source."""
    source = fields.text("silicon_data_source")
    if not source:
        return None
    return _RANGE_RATIO if _INFERENCEX.match(source) else 1.0


def _request_iterations(fields: Fields) -> float | None:
    """Iterations before InferenceX's servers on B200 look at a request, as its scripts set them.

    SGLang looks every 10 of them, and every 30 from 16 requests under way on (dsr1_*_b200.sh,
    qwen3.5_*_b200.sh); TensorRT-LLM waits 20 for more prompts where it serves Llama 70B on fewer
    than eight GPUs, and 40 where DeepSeek-R1 in fp8 has 64 requests under way, both of 1024 tokens
    in and out (70b_*_b200_trt_slurm.sh, dsr1_fp8_b200_trt.sh).
    """
    known = _INFERENCEX.match(fields.text("silicon_data_source"))
    if not known or fields.text("system") != "b200_sxm":
        return None
    under_way, model = _concurrency(fields) or 1.0, fields.text("model_path").lower()
    if fields.text("backend") == "sglang":
        return ((30 if under_way >= 16 else 10) - 1) / 2
    even = fields.number("isl") == fields.number("osl") == 1024
    if fields.text("backend") != "trtllm" or not even:
        return None
    if "llama" in model and "70b" in model and max(_ranks(fields).values()) < 8:
        return 20.0
    fp8 = fields.text("precision") == "fp8"
    return 40.0 if "deepseek" in model and fp8 and under_way >= 64 else None


def _concurrency(fields: Fields) -> float | None:
    """Requests under way: what the source says, else the identifier."""
    for pattern, name in zip(_CONCURRENCY, ("silicon_data_source", "id"), strict=True):
        found = pattern.search(fields.text(name))
        if found:
            return float(found[1])
    return None
