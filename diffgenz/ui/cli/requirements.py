"""`diffgenz requirements`: flags in, text and JSON out."""

import argparse
import math
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.core.units import show
from diffgenz.hardware.platform import Platform
from diffgenz.hardware.specs import read_spec
from diffgenz.models.huggingface import load_model
from diffgenz.models.model import Model
from diffgenz.operators.precision import Precision
from diffgenz.scenario.use_cases import UseCase, load_use_case
from diffgenz.studies.requirements import Needs, ideal_platform, requirements
from diffgenz.ui.cli.estimate import (
    cache_compilations,
    layout_of,
    plan_of,
    ranks_json,
    ranks_line,
    sharpness_of,
)
from diffgenz.ui.cli.format_flags import precision_json, precision_of
from diffgenz.ui.cli.serving_flags import serving_json, serving_line, serving_of
from diffgenz.ui.tables import number, table

BOUND = {"at least": ">=", "at most": "<="}


def requirements_of(options: argparse.Namespace) -> tuple[str, Any]:
    """What each accelerator needs for the use case: text and JSON."""
    cache_compilations()
    use_case = _use_case(options)
    layout, accelerators = layout_of(options)
    model = load_model(options.model)
    plan = plan_of(options, layout)
    spec = None if options.system is None else read_spec(options.system)
    real = None if spec is None else Platform.from_spec(spec, accelerators)
    precision, formats = precision_of(options, None if real is None else real.accelerator)
    platform = ideal_platform(plan, precision) if real is None else real
    options.beams = None  # they are the use case's by now
    serving = serving_of(options, layout.tensor, precision)
    result = requirements(
        model,
        use_case,
        plan,
        precision,
        platform=platform,
        serving=serving,
        sharpness=sharpness_of(options.sharpness),
    )

    levels = _levels_in_use(platform, layout.accelerators)
    needs = {phase: _named(getattr(result, phase), levels) for phase in ("prefill", "decode")}
    capacity = float(result.memory_capacity)
    now = None if spec is None else _now(platform, precision)
    others = "unlimited" if spec is None else f"as on {spec.name}"
    text = [
        _title(model, use_case, layout.accelerators),
        ranks_line(model, plan),
        *([] if serving is None else [serving_line(serving)]),
        formats,
        f"each number on its own, the others {others}; uncalibrated: smooth roofline, peaks fully reached",
        "",
        _table(needs, capacity, now),
    ]
    data = {
        "model": model.name,
        "use_case": use_case.name,
        **{
            name: float(getattr(use_case, name))
            for name in ("batch", "input_tokens", "output_tokens", "beams")
        },
        **{name: _finite(float(getattr(use_case, name))) for name in ("ttft", "tpot")},
        "system": None if spec is None else spec.id,
        "accelerators": layout.accelerators,
        **ranks_json(plan),
        "precision": precision_json(precision),
        "serving": {
            name: value for name, value in serving_json(serving).items() if name != "beams"
        },
        "calibrated": False,
        **{
            phase: {
                name: {"value": _finite(x), "bound": _verdict(name, x)} for name, x in named.items()
            }
            for phase, named in needs.items()
        },
        "memory_capacity": capacity,
        "now": now,
    }
    return "\n".join(text), data


def _use_case(options: argparse.Namespace) -> UseCase:
    use_case = load_use_case(options.use_case)
    if options.batch is not None:
        use_case = use_case.replace(batch=float(options.batch))
    if options.beams is not None:
        use_case = use_case.replace(beams=float(options.beams))
    for name in ("ttft", "tpot"):
        milliseconds = getattr(options, name)
        if milliseconds is None:
            continue
        if not 0 < milliseconds < math.inf:
            raise InputError(
                f"--{name}: {milliseconds:g} is not allowed; it must be finite and above 0 ms"
            )
        use_case = use_case.replace(**{name: 1e-3 * milliseconds})
    return use_case


def _title(model: Model, use_case: UseCase, ranks: int) -> str:
    u = use_case
    goals = [
        f"{name.upper()} {number(1e3 * float(getattr(u, name)))} ms"
        for name in ("ttft", "tpot")
        if math.isfinite(float(getattr(u, name)))
    ]
    tokens = f"batch {float(u.batch):g}, {float(u.beams):g} beams, {float(u.input_tokens):g} tokens in, {float(u.output_tokens):g} out"
    machines = "an accelerator" if ranks == 1 else f"{ranks} accelerators"
    return f"{model.name} ({float(model.parameters) / 1e9:.3g}e9 parameters) for {u.name} on {machines}\n{tokens}; {', '.join(goals)}"


def _levels_in_use(platform: Platform, ranks: int) -> int:
    """Network levels, from the innermost, that `ranks` neighbours communicate over."""
    inner_sizes = [1.0, *(float(level.size) for level in platform.network[:-1])]
    return sum(ranks > size for size in inner_sizes) if platform.network else 0


def _named(needs: Needs, levels: int) -> dict[str, float]:
    links = {
        f"{link.level} {name}": float(getattr(link, name))
        for link in needs.links[:levels]
        for name in ("bandwidth", "latency")
    }
    return {
        "compute": float(needs.compute),
        "memory_bandwidth": float(needs.memory_bandwidth),
        **links,
    }


def _now(platform: Platform, precision: Precision) -> dict[str, float]:
    accelerator = platform.accelerator
    links = {
        f"{level.name} {name}": float(getattr(level, name))
        for level in platform.network
        for name in ("bandwidth", "latency")
    }
    own = {
        "compute": float(accelerator.peak(precision.linear_peak)),
        "memory_bandwidth": float(accelerator.memory_bandwidth),
    }
    return {**own, **links, "memory_capacity": float(accelerator.memory_capacity)}


def _verdict(name: str, value: float) -> str:
    """Whether a number is bounded, at least or, for latencies, at most; "any" will do; or the objective is "out of reach"."""
    latency = name.endswith("latency")
    if math.isfinite(value) and value > 0:
        return "at most" if latency else "at least"
    return "any" if value == (math.inf if latency else 0) else "out of reach"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _table(
    needs: dict[str, dict[str, float]], capacity: float, now: dict[str, float] | None
) -> str:
    rows = []
    for name in needs["prefill"]:
        unit = "FLOP/s" if name == "compute" else "s" if name.endswith("latency") else "B/s"
        cells = []
        for phase in needs:
            value = needs[phase][name]
            verdict = _verdict(name, value)
            cells.append(f"{BOUND[verdict]} {show(value, unit)}" if verdict in BOUND else verdict)
        rows.append(
            (name.replace("_", " "), *cells, *(() if now is None else (show(now[name], unit),)))
        )
    rows.append(
        (
            "memory capacity",
            "",
            f">= {show(capacity, 'B')}",
            *(() if now is None else (show(now["memory_capacity"], "B"),)),
        )
    )
    return table(
        ("of each accelerator", "for TTFT", "for TPOT", *(() if now is None else ("now",))),
        rows,
        "l",
    )
