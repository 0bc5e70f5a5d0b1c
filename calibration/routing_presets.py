"""Remake the presets of synthetic routing (diffgenz/routing/presets) from what is known of models.

    python calibration/routing_presets.py DATA [PRESET ...]

DATA is a folder with two files. `deepseek_v2_lite_puffin.npz` has the arrays `expert` [tokens,
layers, k] and `request` [tokens]: the experts of DeepSeek-V2-Lite on prompts of the Puffin data set
(moe-beyond). `expert_counts_by_domain.json` has tokens per expert, per layer and domain, of OLMoE
and Mixtral (allenai/OLMoE at 357454f, scripts/routing_output; layers 0, 7 and 15 of each). The
other presets are made of numbers in this file. It takes two minutes on 2 cores.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
from scipy.special import ndtri

import diffgenz.routing.synthetic_files as files
from diffgenz.core.files import written_aside
from diffgenz.routing.fit_synthetic import Layout, fit_counts, fit_moments, fit_synthetic
from diffgenz.routing.moments import Moments
from diffgenz.routing.synthetic import Synthetic
from diffgenz.routing.trace import Counts, Trace

MAVERICK = Moments(
    gini=0.69,
    participation=0.056,
    same_domain=0.52,
    other_domain=0.20,
    domain_cosine=0.38,
    prefill_pearson=0.77,
    request_pearson=0.51,
)
"""Moments of a trace of Llama-4-Maverick: 387 MMLU requests of 3 subjects, 24 layers."""


def maverick_layout() -> Layout:
    """The requests of that trace: prompts of 15 tokens in the median and 18.7 in the mean."""
    requests = 387
    quantile = ndtri((np.arange(requests) + 0.5) / requests)
    prompts = np.clip(np.round(15 * np.exp(0.66 * quantile)), 1, 59).astype(int)
    decode = np.full(requests, 126)
    return Layout(prompts, decode, np.arange(requests) % 3)


def maverick(_: Path) -> Synthetic:
    """Llama-4-Maverick, fitted to moments of a trace."""
    start = Synthetic(
        128,
        1,
        tuple(range(1, 48, 2)),
        ("subject 1", "subject 2", "subject 3"),
        model="Llama-4-Maverick-17B-128E",
        source="Fitted to moments of an expert-activation trace of Llama-4-Maverick: 387 MMLU "
        "requests of 3 subjects, 7,255 prompt and 48,834 decode tokens, 24 layers. Assumed: 8 "
        "factors, and that popularity differs by a quarter from layer to layer.",
        basis={"factors": "assumed", "popularity_spread": "assumed"},
    )
    return fit_moments(MAVERICK, start, maverick_layout())


def deepseek_v2_lite(data: Path) -> Synthetic:
    """DeepSeek-V2-Lite, fitted to a trace."""
    fitted = fit_synthetic(deepseek_v2_lite_trace(data))
    assumed = dict.fromkeys(("partitions", "blocks", "block_choices"), "assumed")
    return dataclasses.replace(
        fitted,
        source="Fitted to an expert-activation trace of DeepSeek-V2-Lite (moe-beyond): 114,354 "
        "prompt tokens of 1,200 prompts of the Puffin data set, 26 layers. Assumed: two "
        "partitions into 8 blocks, of which a token is in 2. Decoding and domains were not "
        "recorded.",
        basis=fitted.basis | assumed,
    )


def deepseek_v2_lite_trace(data: Path) -> Trace:
    """The trace of DeepSeek-V2-Lite."""
    with np.load(data / "deepseek_v2_lite_puffin.npz") as arrays:
        return Trace(
            64,
            tuple(range(1, 27)),
            arrays["expert"],
            arrays["request"],
            model="deepseek-ai/DeepSeek-V2-Lite",
        )


def counts_of(data: Path, model: str) -> Counts:
    """Counts by domain of the pre-trained model, in its layers 0, 7 and 15."""
    every = json.loads((data / "expert_counts_by_domain.json").read_text())["models"][model]
    domains = {name: counts for name, counts in every["domains"].items() if name != "tulu"}
    counts = np.array(list(domains.values()))
    return Counts(counts, tuple(domains), "domain", (0, 7, 15), k=every["top_k"], model=model)


def by_domain(data: Path, model: str, layers: int) -> Synthetic:
    """A model of which counts by domain are known in three layers."""
    fitted = fit_counts(counts_of(data, model))
    every = np.arange(layers)
    values = {
        name: tuple(np.interp(every, fitted.layers, getattr(fitted, name)).round(4).tolist())
        for name in ("popularity", "domain")
    }
    return dataclasses.replace(
        fitted,
        layers=tuple(range(layers)),
        **values,
        source=f"Fitted to counts per expert and domain in layers 0, 7 and 15 of {model} "
        "(allenai/OLMoE at 357454f, scripts/routing_output, Apache-2.0); between and beyond them "
        "interpolated. Assumed, as only counts were recorded: requests of a domain do not differ, "
        "and experts are chosen independently.",
        basis=fitted.basis | dict.fromkeys(("request", "private", "block_bonus"), "assumed"),
    )


def published(target: Moments, note: str, assumed: tuple[str, ...], start: Synthetic) -> Synthetic:
    """A model of which only moments were published: all but two parameters are assumed."""
    requests = 128
    layout = Layout(np.full(requests, 64), np.full(requests, 64), np.arange(requests) % 4)
    made = fit_moments(target, start, layout)
    basis = dict.fromkeys(made.basis, "published") | dict.fromkeys(assumed, "assumed")
    return dataclasses.replace(made, source=note, basis=basis)


_PUBLISHED = (
    "From published moments only, no trace of this model was seen: arXiv 2604.23150 for the "
    "correlation of prefill and decode, {pearson}, and the gain of its placement, {gain}. {gini} "
    "Assumed: popularity where no Gini coefficient says it, the spread over domains and requests, "
    "chosen so that a placement gains about as much, 8 factors, and that experts are chosen "
    "independently{limit}, as co-activation was not published."
)


def deepseek_v3(_: Path) -> Synthetic:
    """DeepSeek-V3, from published moments."""
    note = _PUBLISHED.format(
        pearson="Pearson .55",
        gain="6 % less traffic between nodes",
        gini="Its Gini coefficient lies between .24 and .38; .31 is taken.",
        limit=" but for the limit of 4 of 8 groups",
    )
    model = Synthetic(
        256,
        8,
        tuple(range(3, 61)),
        DOMAINS,
        domain=0.3,
        request=0.15,
        private=0.3,
        groups=8,
        used_groups=4,
        model="deepseek-ai/DeepSeek-V3",
    )
    target = Moments(gini=0.31, prefill_pearson=0.55)
    return published(target, note, ("domain", "request", "private", "block_bonus"), model)


def qwen3_235b(_: Path) -> Synthetic:
    """Qwen3-235B-A22B, from published moments."""
    note = _PUBLISHED.format(
        pearson="Pearson .68",
        gain="12 % less traffic between nodes",
        gini="Its Gini coefficient was not published.",
        limit="",
    )
    model = Synthetic(
        128,
        8,
        tuple(range(94)),
        DOMAINS,
        popularity=0.55,
        domain=0.8,
        request=0.4,
        private=0.3,
        model="Qwen/Qwen3-235B-A22B",
    )
    assumed = ("popularity", "domain", "request", "private", "block_bonus")
    return published(Moments(prefill_pearson=0.68), note, assumed, model)


DOMAINS = ("code", "mathematics", "chat", "general")
"""The domains of arXiv 2604.23150."""

PRESETS = {
    "llama-4-maverick": maverick,
    "deepseek-v2-lite": deepseek_v2_lite,
    "olmoe": lambda data: by_domain(data, "allenai/OLMoE-1B-7B-0924", 16),
    "mixtral": lambda data: by_domain(data, "mistralai/Mixtral-8x7B-v0.1", 32),
    "deepseek-v3": deepseek_v3,
    "qwen3-235b": qwen3_235b,
}
"""What makes each preset."""


def main() -> None:
    """Make presets, and write them where the package has them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("presets", nargs="*", metavar="PRESET")
    options = parser.parse_args()
    for name in options.presets or PRESETS:
        path = files.FOLDER / f"{name}.toml"
        with written_aside(path, "preset") as aside:
            aside.write_text(files.text_of(PRESETS[name](options.data)), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
