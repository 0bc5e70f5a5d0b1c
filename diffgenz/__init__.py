"""DiffGenZ: a vectorized, differentiable cost model of LLM inference on AI platforms.

    model = diffgenz.load_model("meta-llama/Llama-3.1-70B")
    platform = diffgenz.load_platform("h100_sxm", accelerators=8)
    chat = diffgenz.Workload(batch=64, input_tokens=2048, output_tokens=256)
    now = diffgenz.estimate(model, platform, chat, diffgenz.Parallelism(tensor=8))

Names are loaded when first used, so that `diffgenz --help` does not wait for JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffgenz.calibrating.calibrate import calibrate
    from diffgenz.calibrating.suggest import suggest
    from diffgenz.core.errors import InputError, NoSolution
    from diffgenz.core.formats import FORMATS
    from diffgenz.core.smooth import HARD, SHARPNESS
    from diffgenz.hardware.platform import Accelerator, Level, Platform, load_platform
    from diffgenz.inference.breakdown import Breakdown, breakdown
    from diffgenz.inference.elasticities import METRICS, elasticities
    from diffgenz.inference.estimate import Estimate, estimate
    from diffgenz.inference.memory import Memory
    from diffgenz.models.checkpoint import load_precision
    from diffgenz.models.huggingface import load_model, model_from_config
    from diffgenz.models.model import Model
    from diffgenz.operators.gear import Gear
    from diffgenz.operators.precision import Precision
    from diffgenz.scenario.parallelism import Parallelism, Workload
    from diffgenz.scenario.scenario import Scenario, Served
    from diffgenz.scenario.serving_options import MTP, Draft, Offload, Serving, Speculation
    from diffgenz.scenario.use_case_figures import USE_CASES
    from diffgenz.scenario.use_cases import UseCase, load_use_case
    from diffgenz.serving.disaggregation import Disaggregated, Pool, disaggregate
    from diffgenz.studies.requirements import (
        LinkNeeds,
        Needs,
        Requirements,
        ideal_platform,
        requirements,
    )
    from diffgenz.studies.search.launch_command import ENGINES, launch_command
    from diffgenz.studies.search.plans import plans
    from diffgenz.studies.search.search import Deployment, Search, search
    from diffgenz.studies.sweep.axes import (
        choice,
        geometric,
        integers,
        linear,
        log_uniform,
        uniform,
        values,
    )
    from diffgenz.studies.sweep.findings import Findings
    from diffgenz.studies.sweep.on_ray import on_ray
    from diffgenz.studies.sweep.reductions.reduction import Best, Histogram, Pareto, Top
    from diffgenz.studies.sweep.reductions.rows import Rows
    from diffgenz.studies.sweep.space import Space
    from diffgenz.studies.sweep.space_file import SpaceFile, load_space
    from diffgenz.studies.sweep.sweep import findings_in, merge, sweep

_HOMES = {
    "inference.breakdown": ("Breakdown", "breakdown"),
    "serving.disaggregation": ("Disaggregated", "Pool", "disaggregate"),
    "core.errors": ("InputError", "NoSolution"),
    "studies.search.launch_command": ("ENGINES", "launch_command"),
    "inference.memory": ("Memory",),
    "hardware.platform": ("Accelerator", "Level", "Platform", "load_platform"),
    "inference.estimate": ("Estimate", "estimate"),
    "models.huggingface": ("load_model", "model_from_config"),
    "models.model": ("Model",),
    "studies.search.plans": ("plans",),
    "calibrating.calibrate": ("calibrate",),
    "calibrating.suggest": ("suggest",),
    "models.checkpoint": ("load_precision",),
    "core.formats": ("FORMATS",),
    "operators.gear": ("Gear",),
    "operators.precision": ("Precision",),
    "studies.search.search": ("Deployment", "Search", "search"),
    "studies.requirements": (
        "LinkNeeds",
        "Needs",
        "Requirements",
        "ideal_platform",
        "requirements",
    ),
    "inference.elasticities": ("METRICS", "elasticities"),
    "scenario.serving_options": ("MTP", "Draft", "Offload", "Serving", "Speculation"),
    "core.smooth": ("HARD", "SHARPNESS"),
    "scenario.use_case_figures": ("USE_CASES",),
    "scenario.use_cases": ("UseCase", "load_use_case"),
    "studies.sweep.axes": (
        "choice",
        "geometric",
        "integers",
        "linear",
        "log_uniform",
        "uniform",
        "values",
    ),
    "studies.sweep.findings": ("Findings",),
    "studies.sweep.on_ray": ("on_ray",),
    "studies.sweep.reductions.reduction": ("Best", "Histogram", "Pareto", "Top"),
    "studies.sweep.reductions.rows": ("Rows",),
    "studies.sweep.sweep": ("findings_in", "merge", "sweep"),
    "scenario.scenario": ("Scenario", "Served"),
    "studies.sweep.space": ("Space",),
    "studies.sweep.space_file": ("SpaceFile", "load_space"),
    "scenario.parallelism": ("Parallelism", "Workload"),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022
    "calibrate", "suggest",
    "Breakdown", "breakdown", "InputError", "Memory", "Accelerator", "Level", "Platform", "load_platform", "Estimate", "estimate", "load_model",
    "model_from_config", "Model", "FORMATS", "Gear", "Precision", "load_precision",
    "METRICS", "elasticities", "HARD", "SHARPNESS", "Parallelism", "Workload", "plans",
    "Deployment", "Search", "search", "NoSolution", "ENGINES", "launch_command",
    "LinkNeeds", "Needs", "Requirements", "ideal_platform", "requirements", "USE_CASES", "UseCase", "load_use_case",
    "Scenario", "Served", "Space", "choice", "geometric", "integers", "linear", "log_uniform", "uniform", "values",
    "sweep", "merge", "findings_in", "on_ray", "SpaceFile", "load_space", "Findings", "Pareto", "Top", "Best", "Histogram", "Rows",
    "Draft", "MTP", "Offload", "Serving", "Speculation", "Disaggregated", "Pool", "disaggregate",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'diffgenz' has no attribute {name!r}")
    value = getattr(import_module(f"diffgenz.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
