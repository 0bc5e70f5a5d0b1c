"""One question has one answer: each row of a search is the `estimate` of its scenario.

Rows are drawn from searches over all kinds of models, on measured kernels, with and without drafts
and chunks.
"""

import numpy as np
import pytest

import diffgenz as dgz
from diffgenz.inference.metrics import metrics_of

CHAT = dgz.Workload(1, 1500, 200)
SEEING = dgz.Workload(1, 500, 100, images=1)
DRAFT = dgz.Speculation(3, 0.7)
MTP = dgz.Speculation(2, 0.8, dgz.MTP())


def small_draft():
    """Drafts by a small model in formats and on accelerators of its own, with fits of their own."""
    model = dgz.load_model("Qwen/Qwen2.5-0.5B")
    fp8 = dgz.Precision(weights="fp8", activations="fp8")
    return dgz.Speculation(3, 0.6, dgz.Draft(model, 1, fp8, dgz.load_platform("l40s", 1)))


CASES = {
    "dense": ("Qwen/Qwen3-32B", "h200_sxm", 8, CHAT, None, (None,)),
    "dense in chunks, with drafts": ("Qwen/Qwen3-8B", "b200_sxm", 4, CHAT, DRAFT, (None, 512)),
    "draft of its own": ("Qwen/Qwen3-8B", "h100_sxm", 2, CHAT, small_draft, (None,)),
    "windows, experts": ("openai/gpt-oss-120b", "h100_sxm", 4, CHAT, None, (None,)),
    "latent attention": ("deepseek-ai/DeepSeek-V3", "h200_sxm", 16, CHAT, None, (None,)),
    "latent attention, MTP": ("deepseek-ai/DeepSeek-V3", "b200_sxm", 8, CHAT, MTP, (1024,)),
    "hybrid": ("ai21labs/AI21-Jamba-1.5-Mini", "a100_sxm", 4, CHAT, None, (None,)),
    "vision": ("Qwen/Qwen3-VL-8B-Instruct", "h100_sxm", 4, SEEING, None, (512,)),
}
QUICK = ("dense in chunks, with drafts",)
"""Those that the default job runs; the second job runs the others."""

ROWS = 25


def compare(name: str, rows: int) -> None:
    """Draw rows of the search called `name` and compare each with its estimate."""
    model, system, gpus, workload, speculation, chunks = CASES[name]
    drafting = speculation() if callable(speculation) else speculation
    case = dgz.Scenario(
        dgz.load_model(model),
        dgz.load_platform(system, gpus),
        workload,
        serving=dgz.Serving(speculation=drafting),
    )
    found = dgz.search(case, chunks=chunks)
    every = [*found.deployments, *found.apart]
    random = np.random.default_rng(len(name))
    for number in random.choice(len(every), rows, replace=False):
        deployment = every[number]
        for metric, value in metrics_of(dgz.estimate(deployment.scenario)).items():
            expected = pytest.approx(deployment.metrics[metric], rel=1e-5)
            assert float(value) == expected, (deployment, metric)
    first = found.deployments[0].metrics
    limits = {"ttft": 1.1 * first["ttft"], "tpot": 1.1 * (first["mixed_tpot"] or first["tpot"])}
    best = dgz.search(case, chunks=chunks, **limits).deployments[0]
    answer = dgz.estimate(best.scenario)
    between = answer.tpot if answer.mixed_tpot is None else answer.mixed_tpot
    assert bool(answer.memory.fits)
    assert float(answer.ttft) <= limits["ttft"] * (1 + 1e-5)
    assert float(between) <= limits["tpot"] * (1 + 1e-5)


@pytest.mark.parametrize("name", QUICK)
def test_some_rows_are_their_estimates(name):
    compare(name, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name not in QUICK])
def test_rows_are_their_estimates_and_the_first_meets_its_targets(name):
    compare(name, ROWS)
