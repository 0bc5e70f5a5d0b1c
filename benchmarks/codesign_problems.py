"""Design problems for `codesign.py`: accelerators that are made for a workload.

Area, power and cost are posynomials of the free numbers, with rounded coefficients of a 5 nm node;
they are assumptions that make the problems worth solving, not data.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import diffgenz as dgz
from diffgenz.studies.optimize.distributions import LogNormal
from diffgenz.studies.optimize.draws import Uncertainty, draws_of
from diffgenz.studies.optimize.layouts import Layout, layouts_of
from diffgenz.studies.optimize.optimize import problems_of
from diffgenz.studies.optimize.problem import Problem
from diffgenz.studies.optimize.robust import Robust
from diffgenz.studies.optimize.statistic_words import limits_on_draws, objective_on_draws

DENSE, SMALL = "meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.1-8B"
EXPERTS = "deepseek-ai/DeepSeek-V3"
FP8 = dgz.Precision(weights="fp8", activations="fp8")

CHIP = {
    "peak_flops[fp8]": (0.5e15, 16e15),
    "memory_bandwidth": (1e12, 16e12),
    "memory_capacity": (24e9, 512e9),
}
LINK, SCALE_OUT = "network[0].bandwidth", "network[1].bandwidth"
LINKS = {LINK: (50e9, 2e12)}
MORE = {"clock": (1e9, 2.2e9), "stacks": (1, 12), "die": (100, 858)}
DERIVED = {"peak_flops[bf16]": "peak_flops[fp8] / 2"}
QUANTITIES = {
    "clock": "1.7e9",
    "stacks": "6",
    "die": "800",
    "flop_per_cycle": "peak_flops[fp8] / 2 / clock / 1e3",
    "area": "150 + 0.44 * flop_per_cycle + 14.2 * stacks + 7.9e-11 * network[0].bandwidth",
    "watts": "0.39e-12 / 2 * peak_flops[fp8] * (0.55 + 0.45 * (clock / 1.7e9) ** 2) + 0.1 * area "
    "+ 31e-12 * memory_bandwidth + 88e-12 * network[0].bandwidth",
    "dollars": "350 + 0.277 * area * exp(area / 1000) + 18e-9 * memory_capacity "
    "+ 0.54 * (area + 110 * stacks)",
    "rate": "(2.5 * dollars + 2000) / 9e7 + 0.13 / 3.6e6 * watts",
}
PACKAGE = (
    "memory_capacity <= 36e9 * stacks",
    "memory_bandwidth <= 1.2e12 * stacks",
    "area <= die",
    "11 * stacks + 3e-11 * network[0].bandwidth + 8 <= 2 * sqrt(die) * 2",
    "watts <= 1000",
)
"""HBM stacks carry so much; the die holds its logic, and its edge the stacks and links."""


class Named(NamedTuple):
    """A problem by name, and what is asked of it.

    Arguments:
        name: of the problem.
        make: the problem.
        quick: whether a quick run solves it.
        starts: of each plan, that all must end well.
        within: the share of them within 0.1 % of their plan's best, in percent.
        most: processor seconds that these may take together.
        hardness: how far the optimum with hard maxima may be from the smooth one, in percent.
        rivals: whether others solve it too.
    """

    name: str
    make: Callable[[], Problem]
    quick: bool = False
    starts: int = 256
    within: float = 99
    most: float = 3
    hardness: float = 0.5
    rivals: bool = True


def _problem(
    question: Any,
    over: dict[str, tuple[float, float]],
    objective: str,
    limits: Sequence[str],
    plans: Sequence[dgz.Parallelism] | None = None,
    maximise: bool = False,
    more: dict[str, str] | None = None,
    derived: dict[str, str] | None = None,
) -> Problem:
    return Problem(
        question,
        over,
        objective,
        maximise,
        limits,
        DERIVED if derived is None else derived,
        QUANTITIES | (more or {}),
        [Layout(plan) for plan in layouts_of(question, plans)],
    ).hardened(sharpness=8, smooth_batch=True)


def _case(model: str, platform: Any, batch: float, prompt: float, answer: float) -> dgz.Scenario:
    return dgz.Scenario(
        dgz.load_model(model),
        platform,
        dgz.Workload(batch, prompt, answer),
        precision=FP8,
    )


def _platform(count: int, fit: str) -> Any:
    return dgz.load_platform("h100_sxm", count, fit)


def _batches(count: int) -> dict[str, tuple[float, float]]:
    return {f"scenarios[{part}].workload.batch": (1, 1024) for part in range(count)}


def _plans(ranks: int, node: int) -> list[dgz.Parallelism]:
    """Tensor x pipeline x data layouts of some accelerators."""
    sizes = [2**power for power in range(10)]
    return [
        dgz.Parallelism(tensor, pipeline, ranks // tensor // pipeline)
        for tensor in sizes
        for pipeline in sizes
        if tensor <= node and tensor * pipeline <= ranks and pipeline <= 8
    ]


def chat4(fit: str = "none") -> Problem:
    """The most tokens per dollar of a chat: four numbers, one model."""
    question = _case(DENSE, _platform(8, fit), 32, 2048, 512)
    limits = ("fits", "tpot <= 0.02", "ttft <= 2", "area <= 858", "watts <= 700")
    return _problem(question, CHIP | {"batch": (1, 1024)}, "throughput / rate", limits, None, True)


def mix70b(fit: str = "none", tpot: float = 0.03) -> Problem:
    """Chat, retrieval and code on one accelerator: ten numbers, of which three batches."""
    platform = _platform(8, fit)
    works = ((16, 2048, 512), (8, 8192, 256), (8, 4096, 1024))
    mix = dgz.Mix(tuple(_case(DENSE, platform, *work) for work in works), (3, 2, 1))
    limits = ("fits", f"tpot <= {tpot}", "ttft <= 3", *PACKAGE)
    over = CHIP | LINKS | MORE | _batches(3)
    return _problem(mix, over, "8e6 * rate / throughput", limits, _plans(8, 8))


def infeasible() -> Problem:
    """The same with a TPOT that nothing reaches."""
    return mix70b(tpot=0.002)


def dsv3(fit: str = "none") -> Problem:
    """DeepSeek-V3 at 20 ms a token: ten numbers, experts on 8 to 32 ranks."""
    platform = _platform(32, fit)
    mix = dgz.Mix(
        tuple(_case(EXPERTS, platform, *work) for work in ((64, 2048, 512), (64, 8192, 512))),
        (1, 1),
    )
    plans = [
        dgz.Parallelism(
            tensor, pipeline, 32 // tensor // pipeline // spread, 0, experts, spread
        )
        for tensor, pipeline, spread, experts in (
            (8, 1, 1, 8), (8, 1, 2, 16), (8, 1, 4, 32), (4, 1, 4, 16), (4, 1, 8, 32),
            (2, 1, 16, 32), (1, 1, 32, 32), (8, 2, 2, 16), (4, 2, 4, 16), (8, 4, 1, 8),
        )
    ]  # fmt: skip
    over = CHIP | LINKS | {SCALE_OUT: (10e9, 400e9)} | MORE | _batches(2)
    more = {
        "watts": QUANTITIES["watts"] + " + 88e-12 * network[1].bandwidth",
        "dollars": QUANTITIES["dollars"] + " + 1e-8 * network[1].bandwidth",
    }
    limits = ("fits", "tpot <= 0.02", "ttft <= 3", *PACKAGE)
    return _problem(mix, over, "32e6 * rate / throughput", limits, plans, more=more)


def shoreline(fit: str = "none") -> Problem:
    """A fixed die: stacks against links, for a dense model and one of experts."""
    platform = _platform(8, fit)
    mix = dgz.Mix(
        (_case(DENSE, platform, 16, 2048, 512), _case(EXPERTS, platform, 16, 2048, 512)), (1, 1)
    )
    over = CHIP | LINKS | {name: MORE[name] for name in ("clock", "stacks")}
    plans = [
        dgz.Parallelism(8),
        dgz.Parallelism(4, 2),
        dgz.Parallelism(4, 1, 2),
        dgz.Parallelism(2, 4),
    ]
    limits = ("fits", *PACKAGE)
    return _problem(mix, over, "sqrt(tpot[0] * tpot[1])", limits, plans)


def disagg(fit: str = "none") -> Problem:
    """A prefill chip and a decode chip, each with its tensor ranks: six numbers each, a batch.

    The parts of a mix have platforms of their own here, and what differs from part to part is
    chosen by its full name, plans too: each of both parts has one to eight tensor ranks.
    """
    platform = _platform(8, fit)
    mix = dgz.Mix(
        (_case(DENSE, platform, 4, 2048, 2), _case(DENSE, platform, 32, 2048, 512)), (1, 1)
    )
    ranks = [f"scenarios[{part}].plan.tensor" for part in range(2)]
    over = {"scenarios[1].workload.batch": (1, 1024)}
    quantities: dict[str, str] = {}
    derived: dict[str, str] = {}
    limits = ["fits", "ttft[0] <= 0.5", "tpot[1] <= 0.015"]
    for part in range(2):
        place = f"scenarios[{part}].platform."
        names = {name: f"{place}accelerator.{name}" for name in CHIP} | {LINK: place + LINK}
        names |= {name: f"{name}{part}" for name in (*QUANTITIES, "stacks", "clock")}

        def own(text: str, names: dict[str, str] = names) -> str:
            pattern = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
            return re.sub(rf"(?<![\w.])({pattern})(?!\w)", lambda found: names[found[0]], text)

        over |= {names[name]: (CHIP | LINKS | MORE)[name] for name in (*CHIP, LINK)}
        over |= {names[name]: MORE[name] for name in ("clock", "stacks")}
        quantities |= {names[name]: own(text) for name, text in QUANTITIES.items()}
        derived[f"{place}accelerator.peak_flops[bf16]"] = f"{names['peak_flops[fp8]']} / 2"
        limits += [own(text.replace("die", "858")) for text in PACKAGE]
    tokens = 512
    objective = (
        f"{ranks[0]} / 4 / {tokens} * 1e6 * rate0 * ttft[0] "
        f"+ {ranks[1]} * 1e6 * rate1 * tpot[1] / scenarios[1].workload.batch"
    )
    choices = dict.fromkeys(ranks, dgz.axes.values(1, 2, 4, 8))
    asked = over, objective, False, limits, derived, quantities
    return problems_of(mix, asked, dgz.Parallelism(1), choices)[0][0].hardened(
        sharpness=8, smooth_batch=True
    )


def robust(fit: str = "none") -> Robust:
    """The mean of the worst quarter of costs over twelve drawn workloads (CVaR): eight numbers."""
    question = _case(DENSE, _platform(8, fit), 16, 2048, 512)
    drawn = Uncertainty(
        {"input_tokens": LogNormal(2048, 0.5), "output_tokens": LogNormal(512, 0.5)}, draws=12
    )
    objective, statistic = objective_on_draws("cvar(75%, 8e6 * rate / throughput)")
    limits = limits_on_draws(("fits", "tpot <= 0.03", "ttft <= 3", *PACKAGE))
    over = CHIP | LINKS | MORE | {"batch": (1, 1024)}
    texts = [limit.text for limit in limits]
    asked = over, objective, False, texts, DERIVED, QUANTITIES
    nominal = problems_of(question, asked, _plans(8, 8), {}, drawn)[0][0]
    nominal = nominal.hardened(sharpness=8, smooth_batch=True)
    return Robust(nominal, draws_of(nominal, drawn, drawn.draws), statistic, limits)


def edge(fit: str = "none") -> Problem:
    """Our own: the accelerator of least power for a small model at 15 ms a token."""
    question = _case(SMALL, _platform(1, fit), 1, 1024, 256)
    over = CHIP | {name: MORE[name] for name in ("clock", "stacks")} | {"batch": (1, 64)}
    over |= {"memory_bandwidth": (0.1e12, 4e12), "peak_flops[fp8]": (0.02e15, 2e15)}
    limits = ("fits", "tpot <= 0.015", "ttft <= 0.5", "batch >= 4", *PACKAGE[:2])
    return _problem(question, over, "watts", limits)


def long_context(fit: str = "none") -> Problem:
    """Our own: the most tokens per dollar with contexts of 128 Ki, on 16 accelerators."""
    question = _case(DENSE, _platform(16, fit), 8, 131072, 1024)
    over = CHIP | LINKS | {SCALE_OUT: (10e9, 400e9)} | MORE | {"batch": (1, 256)}
    more = {"dollars": QUANTITIES["dollars"] + " + 1e-8 * network[1].bandwidth"}
    limits = ("fits", "tpot <= 0.05", "ttft <= 60", *PACKAGE)
    return _problem(question, over, "throughput / rate", limits, _plans(16, 8), True, more)


PROBLEMS = (
    Named("chat4", chat4, True),
    Named("mix70b", mix70b, True),
    Named("dsv3", dsv3, hardness=3),
    Named("dsv3 fitted", partial(dsv3, "vllm"), starts=16, within=95, hardness=3, rivals=False),
    Named("shoreline", shoreline, hardness=3),
    Named("disagg", disagg, starts=16, most=1.5),
    Named("robust", robust),
    Named("edge", edge, True),
    Named("long_context", long_context),
)
