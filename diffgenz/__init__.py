"""DiffGenZ: a vectorized, differentiable cost model of LLM inference on AI platforms.

    model = diffgenz.load_model("meta-llama/Llama-3.1-70B")
    platform = diffgenz.load_platform("h100_sxm", accelerators=8)
    chat = diffgenz.Workload(batch=64, input_tokens=2048, output_tokens=256)
    now = diffgenz.estimate(model, platform, chat, diffgenz.Parallelism(tensor=8))
"""

from diffgenz.breakdown import Breakdown, breakdown
from diffgenz.errors import InputError
from diffgenz.footprint import Memory
from diffgenz.hardware import Accelerator, Level, Platform, load_platform
from diffgenz.inference import Estimate, estimate
from diffgenz.models.huggingface import load_model, model_from_config
from diffgenz.models.model import Model
from diffgenz.precision import FORMATS, Precision
from diffgenz.sensitivity import METRICS, elasticities
from diffgenz.smooth import HARD, SHARPNESS
from diffgenz.workload import Parallelism, Workload

__all__ = [
    "FORMATS",
    "HARD",
    "METRICS",
    "SHARPNESS",
    "Accelerator",
    "Breakdown",
    "Estimate",
    "InputError",
    "Level",
    "Memory",
    "Model",
    "Parallelism",
    "Platform",
    "Precision",
    "Workload",
    "breakdown",
    "elasticities",
    "estimate",
    "load_model",
    "load_platform",
    "model_from_config",
]
