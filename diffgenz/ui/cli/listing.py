"""`diffgenz list`: what is shipped, read without JAX."""

import argparse
import math
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.core.formats import FORMATS
from diffgenz.core.units import show
from diffgenz.hardware.spec import Spec
from diffgenz.hardware.specs import list_systems, read_spec, schema
from diffgenz.models.files import NESTED, kind_of, list_models, read_config
from diffgenz.scenario.use_case_figures import SOURCE, USE_CASES
from diffgenz.ui.tables import number, table


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("what", choices=tuple(_LISTS))
    parser.add_argument(
        "--schema",
        action="store_true",
        help="with systems: how the TOML file of an accelerator of your own is written",
    )


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """A list of what is shipped, or how an accelerator's file is written: text and JSON."""
    if options.schema:
        if options.what != "systems":
            raise InputError(
                f"--schema: there is none of {options.what}; write `diffgenz list systems --schema`"
            )
        return schema(), {"schema": schema()}
    return _LISTS[options.what]()


def models() -> tuple[str, Any]:
    """The shipped models: text and JSON."""
    data = []
    for name in list_models():
        _, config = read_config(name)
        text = next((config[key] for key in NESTED if key in config), config)
        data.append(
            {
                "id": name,
                "model_type": kind_of(text) or kind_of(config),
                "parameters": config["published_parameters"],
                "source": config["source"],
            }
        )
    rows = [
        (entry["id"], entry["model_type"], f"{entry['parameters'] / 1e9:.3g}") for entry in data
    ]
    footer = f"{len(rows)} models; any other config.json of these types loads by its path"
    return table(("model", "type", "parameters, 1e9"), rows, "ll") + "\n" + footer, data


def systems() -> tuple[str, Any]:
    """The shipped accelerators: text and JSON."""
    specs = [read_spec(system) for system in list_systems()]
    rows = []
    for spec in specs:
        wide = (
            spec.peak_flops.get("bf16")
            or spec.peak_flops.get("fp16")
            or spec.peak_flops.get("fp32")
        )
        narrow = spec.peak_flops.get("fp8") or spec.peak_flops.get("int8")
        hourly = spec.price.get("per_hour")
        rows.append(
            (
                spec.id,
                spec.name,
                number(None if wide is None else wide / 1e12),
                number(None if narrow is None else narrow / 1e12),
                number(spec.memory["capacity"] / 1e9),
                number(spec.memory["bandwidth"] / 1e12),
                _innermost(spec),
                number(spec.power["tdp"]),
                number(None if hourly is None else hourly * 3600),
            )
        )
    header = (
        "system",
        "name",
        "16-bit TFLOP/s",
        "8-bit",
        "memory GB",
        "TB/s",
        "innermost network",
        "TDP W",
        "USD/h",
    )
    data = [
        {
            "id": spec.id,
            "name": spec.name,
            "vendor": spec.vendor,
            "peak_flops": spec.peak_flops,
            "memory": spec.memory,
            "network": [
                {"name": level.name, "topology": level.topology, **level.figures}
                for level in spec.network
            ],
            "power": spec.power,
            "price_per_second": spec.price.get("per_hour"),
            "sources": spec.sources,
        }
        for spec in specs
    ]
    footer = f"{len(rows)} systems; your own TOML loads by its path (--schema: how it is written)"
    return table(header, rows, "ll") + "\n" + footer, data


def _innermost(spec: Spec) -> str:
    """The innermost level of the network."""
    if not spec.network:
        return "none"
    level = spec.network[0]
    size, bandwidth = (level.figures[name] for name in ("size", "bandwidth"))
    return f"{size:.0f} x {show(bandwidth, 'B/s')} {level.topology}"


def formats() -> tuple[str, Any]:
    """The number formats: text and JSON."""
    data = [{"id": name, **format._asdict()} for name, format in FORMATS.items()]
    rows = [
        (name, f"{8 * format.size:.6g}", format.peak, format.note)
        for name, format in FORMATS.items()
    ]
    footer = "a KV cache can also be gear-CORE[:OUTLIERS[:RANK]], GEAR around one of these"
    return table(("format", "bits", "multiplied as", "note"), rows, "lrll") + f"\n{footer}", data


def use_cases() -> tuple[str, Any]:
    """The shipped use cases: text and JSON, in which an absent objective is null."""
    header = ("use case", "batch", "tokens in", "out", "beams", "TTFT ms", "TPOT ms", "note")
    rows, data = [], []
    for name, figures in USE_CASES.items():
        slos = {
            phase: value if math.isfinite(value) else None
            for phase, value in (("ttft", figures.ttft), ("tpot", figures.tpot))
        }
        counts = (figures.batch, figures.input_tokens, figures.output_tokens, figures.beams)
        times = (number(None if value is None else 1e3 * value) for value in slos.values())
        rows.append((name, *(f"{count:,.0f}" for count in counts), *times, figures.note))
        data.append({"id": name, **figures._asdict(), **slos, "source": SOURCE})
    return table(header, rows, "lrrrrrrl") + f"\n{len(rows)} use cases; source: {SOURCE}", data


_LISTS = {"models": models, "systems": systems, "use-cases": use_cases, "formats": formats}
