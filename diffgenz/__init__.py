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
    from diffgenz.attribution import Breakdown, breakdown
    from diffgenz.calibrating.run import calibrate
    from diffgenz.calibrating.suggestion import suggest
    from diffgenz.checkpoints import load_precision
    from diffgenz.deployments import Deployment, Search, search
    from diffgenz.disaggregation import Disaggregated, Pool, disaggregate
    from diffgenz.errors import InputError, NoSolution
    from diffgenz.export import ENGINES, launch_command
    from diffgenz.footprint import Memory
    from diffgenz.formats import FORMATS
    from diffgenz.gear import Gear
    from diffgenz.hardware import Accelerator, Level, Platform, load_platform
    from diffgenz.inference import Estimate, estimate
    from diffgenz.layouts import plans
    from diffgenz.models.huggingface import load_model, model_from_config
    from diffgenz.models.model import Model
    from diffgenz.precision import Precision
    from diffgenz.sensitivity import METRICS, elasticities
    from diffgenz.serving_options import MTP, Draft, Offload, Serving, Speculation
    from diffgenz.sizing import LinkNeeds, Needs, Requirements, ideal_platform, requirements
    from diffgenz.smooth import HARD, SHARPNESS
    from diffgenz.sweeping.axes import choice, geometric, integers, linear, log_uniform, uniform, values
    from diffgenz.sweeping.findings import Findings
    from diffgenz.sweeping.ray_tasks import on_ray
    from diffgenz.sweeping.reductions import Best, Histogram, Pareto, Top
    from diffgenz.sweeping.rows import Rows
    from diffgenz.sweeping.run import findings_in, merge, sweep
    from diffgenz.sweeping.scenario import Scenario, Served
    from diffgenz.sweeping.space import Space
    from diffgenz.sweeping.space_file import SpaceFile, load_space
    from diffgenz.use_case_figures import USE_CASES
    from diffgenz.use_cases import UseCase, load_use_case
    from diffgenz.workload import Parallelism, Workload

_HOMES = {
    "attribution": ("Breakdown", "breakdown"),
    "disaggregation": ("Disaggregated", "Pool", "disaggregate"),
    "errors": ("InputError", "NoSolution"),
    "export": ("ENGINES", "launch_command"),
    "footprint": ("Memory",),
    "hardware": ("Accelerator", "Level", "Platform", "load_platform"),
    "inference": ("Estimate", "estimate"),
    "models.huggingface": ("load_model", "model_from_config"),
    "models.model": ("Model",),
    "layouts": ("plans",),
    "calibrating.run": ("calibrate",),
    "calibrating.suggestion": ("suggest",),
    "checkpoints": ("load_precision",),
    "formats": ("FORMATS",),
    "gear": ("Gear",),
    "precision": ("Precision",),
    "deployments": ("Deployment", "Search", "search"),
    "sizing": ("LinkNeeds", "Needs", "Requirements", "ideal_platform", "requirements"),
    "sensitivity": ("METRICS", "elasticities"),
    "serving_options": ("MTP", "Draft", "Offload", "Serving", "Speculation"),
    "smooth": ("HARD", "SHARPNESS"),
    "use_case_figures": ("USE_CASES",),
    "use_cases": ("UseCase", "load_use_case"),
    "sweeping.axes": ("choice", "geometric", "integers", "linear", "log_uniform", "uniform", "values"),
    "sweeping.findings": ("Findings",),
    "sweeping.ray_tasks": ("on_ray",),
    "sweeping.reductions": ("Best", "Histogram", "Pareto", "Top"),
    "sweeping.rows": ("Rows",),
    "sweeping.run": ("findings_in", "merge", "sweep"),
    "sweeping.scenario": ("Scenario", "Served"),
    "sweeping.space": ("Space",),
    "sweeping.space_file": ("SpaceFile", "load_space"),
    "workload": ("Parallelism", "Workload"),
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
