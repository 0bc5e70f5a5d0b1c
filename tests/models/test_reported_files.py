"""Files that people brought: the counts that are published for them."""

from pathlib import Path

import pytest

from diffgenz import Scenario, Workload, estimate, load_model, load_platform, load_precision
from diffgenz.operators.step import Step

FOLDER = Path(__file__).parents[3] / "shared" / "reports" / "configs"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the reports are not here")

COUNTS = {
    "nvidia--NVIDIA-Nemotron-3-Super-120B-A12B-FP8": (120.7e9, 12e9),
    "nvidia--NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16": (550e9, 55e9),
    "nvidia--Llama-3_3-Nemotron-Super-49B-v1": (49.9e9, 49.9e9),
    "nvidia--DeepSeek-V3.1-NVFP4": (671e9, 37e9),
    "zai-org--GLM-5": (744e9, 40e9),
    "deepseek-ai--DeepSeek-V4-Flash": (284e9, 13e9),
    "stepfun-ai--Step-3.7-Flash": (196e9, 11e9),
    "google--gemma-4-26B-A4B": (25.8e9, 3.8e9),
    "XiaomiMiMo--MiMo-7B-Base": (7.61e9, 7.61e9),
    "Mistral-Small-3.1-24B": (44.76 * 2**30 / 2, 23.57e9),  # as vLLM logs it, tower included
    "llava-1.5-7b-hf": (7.06e9, 6.74e9),
    "bom": (8.19e9, 8.19e9),
}
"""Parameters of the whole, and those that take part in a token (published in round figures)."""


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_the_published_ones(name):
    model, (total, active) = load_model(FOLDER / name), COUNTS[name]
    assert float(model.parameters) == pytest.approx(total, rel=0.01)
    # publishers differ in whether they count embedding and LM head, once or twice
    tables = 2 * float(model.vocabulary * model.hidden)
    assert 0.99 * active - tables <= float(model.active_parameters) <= 1.01 * active + tables


@pytest.mark.parametrize(
    "name", sorted(path.name for path in FOLDER.iterdir()) if FOLDER.is_dir() else []
)
def test_every_file_is_served_in_its_own_formats(name):
    """As `diffgenz estimate FILE --weights checkpoint` does."""
    model, platform = load_model(FOLDER / name), load_platform("b200_sxm", 8, fit="none")
    precision = load_precision(FOLDER / name, platform.accelerator)
    result = estimate(Scenario(model, platform, Workload(4, 512, 64), None, precision))
    assert 0 < float(result.tpot) < float(result.ttft) < 10


def test_nemotron_super_by_hand():
    """40 layers of experts in a latent space of 1024, 40 of Mamba-2 and 8 of attention."""
    model = load_model(FOLDER / "nvidia--NVIDIA-Nemotron-3-Super-120B-A12B-FP8")
    step = Step(1.0, 1.0, 0.0, 1.0, load_precision(FOLDER / "nvidia--Llama-3.1-70B-Instruct-FP8"))
    found = {}
    for op in model.layer_operators(step):
        found[op.name] = found.get(op.name, 0.0) + float(op.parameters * op.repeats)
    assert found["expert_up"] + found["expert_down"] == pytest.approx(40 * 512 * 2 * 1024 * 2688)
    assert found["latent_down"] + found["latent_up"] == pytest.approx(40 * 2 * 4096 * 1024)
