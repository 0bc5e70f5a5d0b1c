"""DiffGenZ: a vectorized, differentiable cost model of LLM inference on AI platforms.

    model = diffgenz.load_model("meta-llama/Llama-3.1-70B")
    platform = diffgenz.load_platform("h100_sxm", accelerators=8)
    chat = diffgenz.Workload(batch=64, input_tokens=2048, output_tokens=256)
    case = diffgenz.Scenario(model, platform, chat)
    now = diffgenz.estimate(case)

Public names stand in `__init__.pyi`, and are loaded when first used, so that `diffgenz --help`
does not wait for JAX.
"""

from importlib.metadata import version

import lazy_loader

__version__ = version(__name__)

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
