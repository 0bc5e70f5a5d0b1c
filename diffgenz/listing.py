"""`diffgenz list`: what is shipped, read without JAX."""

from typing import Any

from diffgenz.model_files import model_ids, read_config
from diffgenz.specs import read_spec, system_ids
from diffgenz.tables import number, table


def models() -> tuple[str, Any]:
    """The shipped models: text and JSON."""
    data = []
    for name in model_ids():
        _, config = read_config(name)
        text = config.get("text_config", config)
        data.append({"id": name, "model_type": text["model_type"], "parameters": config["published_parameters"], "source": config["source"]})
    rows = [(entry["id"], entry["model_type"], f"{entry['parameters'] / 1e9:.3g}") for entry in data]
    footer = f"{len(rows)} models; any other config.json of these types loads by its path"
    return table(("model", "type", "parameters, 1e9"), rows, "ll") + "\n" + footer, data


def systems() -> tuple[str, Any]:
    """The shipped accelerators: text and JSON."""
    specs = [read_spec(system) for system in system_ids()]
    rows = []
    for spec in specs:
        wide = spec.peak_flops.get("bf16") or spec.peak_flops.get("fp16") or spec.peak_flops.get("fp32")
        narrow = spec.peak_flops.get("fp8") or spec.peak_flops.get("int8")
        level = spec.network[0]
        hourly = spec.price.get("per_hour")
        rows.append(
            (
                spec.id,
                spec.name,
                number(None if wide is None else wide / 1e12),
                number(None if narrow is None else narrow / 1e12),
                number(spec.memory["capacity"] / 1e9),
                number(spec.memory["bandwidth"] / 1e12),
                f"{level.figures['size']:.0f} x {level.figures['bandwidth'] / 1e9:.3g} GB/s {level.topology}",
                number(spec.power["tdp"]),
                number(None if hourly is None else hourly * 3600),
            )
        )
    header = ("system", "name", "16-bit TFLOP/s", "8-bit", "memory GB", "TB/s", "innermost network", "TDP W", "USD/h")
    data = [
        {
            "id": spec.id,
            "name": spec.name,
            "vendor": spec.vendor,
            "peak_flops": spec.peak_flops,
            "memory": spec.memory,
            "network": [{"name": level.name, "topology": level.topology, **level.figures} for level in spec.network],
            "power": spec.power,
            "price_per_second": spec.price.get("per_hour"),
            "sources": spec.sources,
        }
        for spec in specs
    ]
    return table(header, rows, "ll") + f"\n{len(rows)} systems; any other TOML of hw_specs/README.md's schema loads by its path", data
