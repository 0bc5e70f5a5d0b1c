"""The platform requirements that GenZ's paper (arXiv 2406.01698) tabulates, beside DiffGenZ's own.

    python benchmarks/paper_requirements.py [--quick] [--json OUT]

The paper tabulates decode bandwidth, decode compute and prefill compute of five models in five use
cases: 75 cells, which its closed forms reproduce. The forms keep the paper's quirks: int8 weights
and KV cache, no embedding, no LM head, no causal halving, "TB/s" of 1e6 x 2**20 B/s, a KV cache
that beams share for multi-head attention only, and code generation prefilled within 5 s.

DiffGenZ's own requirements are for the same formats and objectives, with decimal TB/s, the causal
mask, the LM head, the expected number of active experts and the mean context of the generation, on
one accelerator that is ideal otherwise.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from report import Report, parser_of

from diffgenz import (
    Model,
    Parallelism,
    Precision,
    Requirements,
    Scenario,
    Serving,
    UseCase,
    estimate,
    ideal_platform,
    load_model,
    load_use_case,
    requirements,
)
from diffgenz.ui.tables import number, table

GENZ_TERA = 1e6 * 2**20
"""B in what the paper calls a TB."""

USE_CASES = ("question_answering", "chat", "rag", "summarization", "code_generation")
CODE_TTFT = 5.0
"""TTFT of code generation in the charts that the tables come from, in s; v3's table has 0.5 s."""


class Paper(NamedTuple):
    """A model of the paper, with the cells that the paper prints of it.

    The cells of a quantity are one text, with one number for each use case, since the last digit
    of each number says how far it is rounded.

    Arguments:
        layers: of the model.
        hidden: size of the hidden states.
        kv_width: KV heads x head size.
        feed_forward: width of the feed-forward part, or of one expert.
        matrices: of the feed-forward part: 3 where it is gated, else 2.
        experts: routed experts; 1 in a dense model.
        active: routed experts of a token.
        bandwidth: of decode, in TB/s.
        compute: of decode, in TFLOP/s.
        prefill: compute of prefill, in PFLOP/s.
        id: of the shipped model; None where there is none.
    """

    layers: float
    hidden: float
    kv_width: float
    feed_forward: float
    matrices: float
    experts: float
    active: float
    bandwidth: str
    compute: str
    prefill: str
    id: str | None

    def layer_weights(self, experts: float) -> float:
        """The parameters of all layers, where each layer has that many experts."""
        attention = 2 * self.hidden**2 + 2 * self.hidden * self.kv_width
        return self.layers * (attention + experts * self.matrices * self.hidden * self.feed_forward)

    def closed_forms(self, case: UseCase) -> tuple[float, float, float]:
        """The paper's decode TB/s, decode TFLOP/s and prefill PFLOP/s of a use case."""
        sizes = (case.input_tokens, case.output_tokens, case.beams)
        tokens_in, tokens_out, beams = map(float, sizes)
        # Beams share the prompt's KV cache with multi-head attention only.
        merged = self.kv_width == self.hidden
        context = tokens_in + beams * tokens_out if merged else beams * (tokens_in + tokens_out)
        active = self.layer_weights(self.active)
        traffic = active + 2 * self.layers * self.kv_width * context
        decode = 2 * beams * active + 4 * self.layers * self.hidden * context
        prefill = 2 * tokens_in * active + 4 * self.layers * self.hidden * tokens_in**2
        return (
            traffic / float(case.tpot) / GENZ_TERA,
            decode / float(case.tpot) / 1e12,
            prefill / float(case.ttft) / 1e15,
        )


MODELS = {
    "LLaMA2-7B": Paper(
        32, 4096, 4096, 11008, 3, 1, 1,
        ".6626 .7426 .8876 .5463 .5613",
        "5.275 2.853 5.747 3.088 3.120",
        ".0674 .2179 .4549 .1561 .0938",
        "meta-llama/Llama-2-7b-hf",
    ),
    "Mixtral-8x7B": Paper(
        32, 4096, 1024, 14336, 3, 8, 2,
        "1.2332 1.2532 1.4582 .8016 .8522",
        "10.34 5.466 12.23 6.724 7.149",
        ".1288 .4021 .7619 .2482 .1429",
        "mistralai/Mixtral-8x7B-v0.1",
    ),
    "LLaMA3-70B": Paper(
        80, 8192, 1024, 28672, 3, 1, 1,
        "6.603 6.653 7.1655 3.764 3.8906",
        "56.02 29.48 65.46 35.77 37.89",
        ".6976 2.171 4.078 1.322 .7573",
        "meta-llama/Meta-Llama-3-70B",
    ),
    "GPT3-175B": Paper(
        96, 12288, 12288, 4 * 12288, 2, 1, 1,
        "16.994 17.714 19.019 10.432 10.567",
        "140.0 71.94 144.3 74.06 74.34",
        "1.763 5.431 9.877 3.140 1.769",
        "openai/gpt3-175b",
    ),
    "GPT4-1.8T": Paper(
        128, 10752, 10752, 4 * 10752, 2, 16, 2,
        "28.697 29.537 31.059 16.606 16.763",
        "237.8 121.1 242.7 123.6 123.9",
        "2.987 9.126 16.174 5.059 2.808",
        None,
    ),
}  # fmt: skip
"""Models with the sizes of the paper; those of GPT-4, which has no config.json, are its guess."""

QUANTITIES = {"decode bandwidth": "TB/s", "decode compute": "TFLOP/s", "prefill compute": "PFLOP/s"}
PRECISION = Precision("bf16", "int8", "int8", "int8")
WHOLE = Serving(chunk=None, memory_utilization=1)
"""The paper's prompts are computed at once, on all of the memory."""


def use_case(name: str) -> UseCase:
    """The use case as the paper's tables have it."""
    case = load_use_case(name)
    return case.replace(ttft=CODE_TTFT) if name == "code_generation" else case


def own(need: Requirements) -> tuple[float, float, float]:
    """DiffGenZ's three numbers, in the table's units taken as decimal ones."""
    return (
        float(need.decode.memory_bandwidth) / 1e12,
        float(need.decode.compute) / 1e12,
        float(need.prefill.compute) / 1e15,
    )


def asked(model: Model, case: UseCase) -> Scenario:
    """The scenario of a use case on an ideal platform."""
    plan = Parallelism()
    platform = ideal_platform(plan, PRECISION)
    return Scenario(model, platform, case.workload, plan, PRECISION, case.served(WHOLE))


def required(model: Model, case: UseCase) -> Requirements:
    """The requirements of a use case."""
    return requirements(asked(model, case), ttft=case.ttft, tpot=case.tpot)


def round_trip(model: Model, case: UseCase, need: Requirements) -> float:
    """The largest relative error of estimates to the objectives at the required numbers.

    Arguments:
        model: what is served.
        case: the use case, whose TTFT and TPOT are the objectives.
        need: its requirements; each of them replaces one number of an ideal platform.
    """
    ideal = ideal_platform(Parallelism(), PRECISION)

    def relative_error(phase: str, **changes) -> float:
        platform = ideal.replace(accelerator=ideal.accelerator.replace(**changes))
        now = estimate(asked(model, case).replace(platform=platform))
        return abs(float(getattr(now, phase) / getattr(case, phase)) - 1)

    def peaks(value: jax.Array) -> dict[str, jax.Array]:
        return {format: value for format in ideal.accelerator.peak_flops}

    return max(
        relative_error("tpot", memory_bandwidth=need.decode.memory_bandwidth),
        relative_error("tpot", peak_flops=peaks(need.decode.compute)),
        relative_error("ttft", peak_flops=peaks(need.prefill.compute)),
    )


def rounding(cell: str) -> float:
    """Half a unit of the last digit that `cell` prints."""
    return 0.5 * 10.0 ** -len(cell.partition(".")[2])


def main() -> None:
    """Reproduce, solve, print, write."""
    quick = "DiffGenZ's own requirements of two models only; all cells of the paper"
    options = parser_of(__doc__, quick).parse_args()
    report, trips, gaps = Report(), [], []
    cases = {name: use_case(name) for name in USE_CASES}
    for index, (name, paper) in enumerate(MODELS.items()):
        model = load_model(paper.id) if paper.id and not (options.quick and index > 1) else None
        needs = {
            case: None if model is None else required(model, cases[case]) for case in USE_CASES
        }
        if model is not None:
            trips += [
                round_trip(model, cases[case], need)
                for case, need in needs.items()
                if need is not None
            ]
        for position, quantity in enumerate(QUANTITIES):
            cells = (paper.bandwidth, paper.compute, paper.prefill)[position].split()
            for case, cell in zip(USE_CASES, cells, strict=True):
                again = paper.closed_forms(cases[case])[position]
                need = needs[case]
                ours = None if need is None else own(need)[position]
                error = abs(again / float(cell) - 1)
                exact = abs(again - float(cell)) <= rounding(cell) * (1 + 1e-6)
                what = {"model": name, "use_case": case, "quantity": quantity}
                found = {
                    "unit": QUANTITIES[quantity],
                    "paper": float(cell),
                    "reproduced": again,
                    "relative_error": error,
                    "to_the_last_digit": exact,
                    "diffgenz": ours,
                }
                report.rows.append(what | found)
                if ours is not None:
                    gaps.append(abs(math.log(ours / float(cell))))
    for quantity, unit in QUANTITIES.items():
        digits = {"paper": 4, "reproduced": 5, "diffgenz": 4}
        lines = [
            (row["model"], row["use_case"], *(number(row[key], digits[key]) for key in digits))
            for row in report.rows
            if row["quantity"] == quantity
        ]
        header = (f"{quantity}, {unit}", "use case", "paper", "reproduced", "DiffGenZ")
        print(table(header, lines, "ll") + "\n")
    factor = math.exp(sum(gaps) / len(gaps))
    print(
        f"DiffGenZ's own differ from the paper's by a factor of {factor:.3g} in the geometric mean,"
        " up or down"
    )
    error = max(row["relative_error"] for row in report.rows)
    report.check("largest relative error of the 75 reproduced cells", error, "", 1e-3)
    exact = sum(row["to_the_last_digit"] for row in report.rows)
    report.check("cells reproduced to their last digit", exact, "cells", 75, at_least=True)
    name = "estimates at DiffGenZ's requirements: largest error to the objective"
    report.check(name, float(jnp.max(jnp.asarray(trips))), "", 1e-4)
    report.finish(options.json)


if __name__ == "__main__":
    main()
