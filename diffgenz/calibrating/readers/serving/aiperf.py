"""profile_export_aiperf.json of aiperf, and profile_export_genai_perf.json of genai-perf.

Neither says the accelerator or the layout.
"""

from typing import Any

from diffgenz.calibrating.readers.serving.benchmark import Benchmark, Latency
from diffgenz.calibrating.readers.serving.fields import Fields
from diffgenz.core.errors import InputError

TOOL = "aiperf"

_UNITS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def knows(raw: dict[str, Any]) -> bool:
    """Whether an object is one run of these tools."""
    return "input_config" in raw and isinstance(raw.get("request_throughput"), dict)


def read(place: str, raw: dict[str, Any]) -> Benchmark:
    """One run.

    Arguments:
        place: the file.
        raw: the object in the file.

    Raises:
        InputError: the run was cancelled, or served several models.
    """
    if raw.get("was_cancelled"):
        raise InputError(f"{place}: was_cancelled: true; let the benchmark run to its end")
    config = raw["input_config"] if isinstance(raw["input_config"], dict) else {}
    models = _models(config)
    if len(models) > 1:
        raise InputError(
            f"{place}: model_names: {', '.join(models)} are {len(models)} models; measure them "
            "one at a time"
        )
    between = _latency(place, raw, "inter_token_latency")
    return Benchmark(
        place,
        TOOL,
        model=models[0] if models else "",
        input_tokens=_average(place, raw, "input_sequence_length"),
        output_tokens=_average(place, raw, "output_sequence_length"),
        concurrency=_load(place, config, "concurrency"),
        rate=_load(place, config, "request_rate"),
        burstiness=_burstiness(place, config),
        ttft=_latency(place, raw, "time_to_first_token"),
        tpot=between,  # (latency - ttft) / (tokens - 1) of each request
        itl=between,
        end_to_end=_latency(place, raw, "request_latency"),
        throughput=_average(place, raw, "output_token_throughput"),
        completed=int(_average(place, raw, "request_count") or 0) or None,
        failed=_failed(place, raw),
    )


def _models(config: dict[str, Any]) -> list[str]:
    """The models of a run: of aiperf, of genai-perf, and of its first versions."""
    endpoint = config.get("endpoint")
    inside = endpoint.get("model_names") if isinstance(endpoint, dict) else None
    found = inside or config.get("model_names") or config.get("model") or []
    return [found] if isinstance(found, str) else [str(model) for model in found]


def _load(place: str, config: dict[str, Any], name: str) -> float | None:
    """The concurrency or request rate, where it was set."""
    load, analyzer = config.get("loadgen"), config.get("perf_analyzer")
    stimulus = analyzer.get("stimulus") if isinstance(analyzer, dict) else None
    for table in (load, stimulus, config):
        if isinstance(table, dict) and table.get(name) is not None:
            return Fields(f"{place}: input_config", table).number(name)
    return None


def _burstiness(place: str, config: dict[str, Any]) -> float:
    """The squared coefficient of variation of the time between arrivals.

    It is that of aiperf's pattern; perf_analyzer, below genai-perf, sends at regular times.
    """
    load = config.get("loadgen")
    if not isinstance(load, dict):
        return 0.0 if _load(place, config, "request_rate") is not None else 1.0
    pattern = str(load.get("arrival_pattern") or load.get("request_rate_mode") or "poisson").lower()
    smooth = Fields(f"{place}: input_config", load).number("arrival_smoothness") or 1.0
    return {"constant": 0.0, "gamma": 1 / smooth}.get(pattern, 1.0)


def _average(place: str, raw: dict[str, Any], name: str) -> float | None:
    metric = raw.get(name)
    return Fields(f"{place}: {name}", metric).number("avg") if isinstance(metric, dict) else None


def _latency(place: str, raw: dict[str, Any], name: str) -> Latency:
    metric = raw.get(name)
    if not isinstance(metric, dict):
        return Latency()
    unit = str(metric.get("unit", "ms"))
    if unit not in _UNITS:
        raise InputError(
            f"{place}: {name}: its unit {unit!r} is not one of {', '.join(_UNITS)}; export it again"
        )
    return Fields(place, metric).distribution(name, metric, _UNITS[unit])


def _failed(place: str, raw: dict[str, Any]) -> int:
    """Requests that failed: the count, or else those of the summary."""
    count = _average(place, raw, "error_request_count")
    if count is not None:
        return int(count)
    summary = raw.get("error_summary") or []
    return sum(Fields(place, each).count("count") or 0 for each in summary)
