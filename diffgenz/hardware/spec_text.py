"""An accelerator file written from numbers: what `read_spec` reads."""

import dataclasses
import json
import math
from collections.abc import Mapping

from diffgenz.core.errors import InputError
from diffgenz.hardware import design
from diffgenz.hardware.platform import Platform
from diffgenz.hardware.spec import FIGURES, LEVEL, TIER, UNSOURCED, Figures, Spec


def spec_of(platform: Platform, base: Spec, name: str) -> Spec:
    """The accelerator file of a platform whose numbers were changed.

    TDP is the power at full use of everything. A file that is loaded splits it by the shares of
    `hardware.platform`, so that powers that were changed one by one keep their sum alone.

    Arguments:
        platform: its accelerator and network.
        base: the file that it was made of.
        name: what people call the new one.

    Raises:
        InputError: a number that files do not have: an efficiency that is not 1.
    """
    chip = platform.accelerator
    for label in ("compute_efficiency", "memory_efficiency"):
        if float(getattr(chip, label)) != 1:
            raise InputError(
                f"{label}: {float(getattr(chip, label)):g} has no place in an accelerator file; "
                "multiply the peaks by it, or keep it at 1"
            )
    power = chip.idle_power + chip.compute_power + chip.memory_power
    if platform.network:
        power = power + platform.network[0].power
    execution = {"launch_latency": float(chip.launch_latency)}
    if chip.compute_units is not None:
        execution["compute_units"] = float(chip.compute_units)
    return dataclasses.replace(
        base,
        name=name,
        peak_flops={key: float(peak) for key, peak in chip.peak_flops.items()},
        memory={
            "capacity": float(chip.memory_capacity),
            "bandwidth": float(chip.memory_bandwidth),
            "reserve": float(chip.memory_reserve),
        },
        execution=execution,
        power={"tdp": float(power), "idle": float(chip.idle_power)},
        price={} if chip.price is None else {"per_hour": float(chip.price)},
        network=tuple(
            dataclasses.replace(
                level,
                figures={key: float(getattr(now, key)) for key in level.figures},
            )
            for level, now in zip(base.network, platform.network, strict=True)
        ),
        like="none" if chip.kernels is None else base.like or base.id,
    )


def spec_text(spec: Spec, base: Spec, source: str) -> str:
    """The text of an accelerator file.

    Arguments:
        spec: the accelerator.
        base: the file that it was made of: figures that both have keep their source.
        source: the source of all others.
    """
    titles = {"changed": source}
    told = [each for each in ("architecture", "memory_type") if getattr(spec, each)]
    names = ("name", "vendor", *told)
    lines = [*(f"{each} = {_quoted(getattr(spec, each))}" for each in names), ""]
    body: list[str] = []

    def figures(
        head: str, where: str, now: Figures, was: Figures, units: Mapping[str, str]
    ) -> None:
        body.append(head)
        for key, value in now.items():
            same = math.isclose(value, was.get(key, math.inf), rel_tol=1e-6)
            known = spec.sources.get(f"{where}.{key}", "") if same else ""
            label = "changed"
            if known and known != UNSOURCED:
                label = next((k for k, text in titles.items() if text == known), "")
                if not label:
                    label = f"source_{len(titles)}"
                    titles[label] = known
            unit = "" if units[key] == "1" else f" {units[key]}"
            body.append(f'{key} = ["{value:.9g}{unit}", "{label}"]')
        body.append("")

    for table, units in FIGURES.items():
        now = getattr(spec, table)
        if now and table != "design":
            figures(f"[{table}]", table, now, getattr(base, table), units)
    for number, level in enumerate(spec.network):
        head = f"[[network]]\nname = {_quoted(level.name)}\ntopology = {_quoted(level.topology)}"
        if level.dimensions != 1:
            head += f"\ndimensions = {level.dimensions}"
        was = base.network[number].figures
        figures(head, f"network[{number}]", level.figures, was, LEVEL)
    for number, (name, tier) in enumerate(spec.memory_tiers):
        head = f"[[memory_tier]]\nname = {_quoted(name)}"
        figures(head, f"memory_tier[{number}]", tier, base.memory_tiers[number][1], TIER)
    if spec.design_names:
        head = "\n".join(
            ["[design]", *(f"{key} = {_quoted(text)}" for key, text in spec.design_names.items())]
        )
        now, was = (
            design.as_written(each.design, each.execution.get("compute_units"))
            for each in (spec, base)
        )
        figures(head, "design", now, was, design.FIGURES)
    body += ["[kernels]", f"like = {_quoted(spec.like)}"]
    lines += ["[sources]", *(f"{key} = {_quoted(text)}" for key, text in titles.items()), ""]
    return "\n".join([*lines, *body]) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
