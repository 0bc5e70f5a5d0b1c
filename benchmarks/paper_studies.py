"""The platform studies of GenZ's paper (arXiv 2406.01698), and whether we agree.

    python benchmarks/paper_studies.py [--quick] [--json OUT] [--plots FOLDER]

Four scaling sweeps by the paper's assumptions (`paper_scaling`) and by DiffGenZ (the files of
examples/genz), each with elasticities; archetypes of platforms; the size of the scale-up domain;
the model of 10T parameters. `paper_requirements.py` has the 75 requirements.
"""

from pathlib import Path

import numpy as np
from paper_requirements import Paper
from paper_scaling import CURVES, Reproduced, reproduce
from report import Report, parser_of

import diffgenz as dgz
from diffgenz.ui.plots.axes import plain_ticks
from diffgenz.ui.plots.figure import figure_for, save_figure
from diffgenz.ui.tables import number, table

EXAMPLES = Path(__file__).parents[1] / "examples" / "genz"
WHOLE = dgz.Serving(chunk=None, memory_utilization=1)
SWEPT = {
    "compute": ("GPT3", "accelerator.peak_flops[fp8]", "ttft"),
    "memory": ("GPT3", "accelerator.memory_bandwidth", "tpot"),
    "link_bandwidth": ("GPT3", "network[0].bandwidth", "ttft"),
    "link_latency": ("GPT4", "network[0].latency", "tpot"),
}
"""Of each file of a sweep: the paper's model, the number that varies, and the metric."""

ARCHETYPES = {
    "GPU": ("h200_sxm", 1, dgz.Parallelism()),
    "transformer ASIC": (str(EXAMPLES / "transformer_asic.toml"), 1, dgz.Parallelism()),
    "SRAM streaming": ("groq_lpu", 512, dgz.Parallelism(tensor=16, pipeline=32)),
    "wafer scale": ("cerebras_wse3", 1, dgz.Parallelism()),
    "CPU": ("cpu_xeon_6980p", 1, dgz.Parallelism()),
}
"""System, how many hold Llama-3.1-8B in fp16, and their layout."""

DOMAINS, SCALE_OUT = (8, 16, 32, 64, 128, 256), (50e9, 100e9, 400e9)
CONTEXTS = ((100_000, 8.0), (2_000_000, 40.0))
"""Input tokens of the assistant, and the paper's TB/s at 5 tokens/s."""
TEN_TRILLION = Paper(128, 13824, 13824, 55296, 3, 32, 4, "", "", "", None)
"""GenZ's SuperLLM-10T with as many KV heads as heads, as the paper's bandwidths imply."""
AS_SHIPPED = TEN_TRILLION._replace(kv_width=12 * 128)
CHUNKS = dgz.Serving(chunk=1024, memory_utilization=1)
"""Of the archetypes: whole prompts do not fit into the memory of SRAM chips."""


def scaling(report: Report) -> list[Reproduced]:
    """The four sweeps: the paper's times, the same again, and DiffGenZ's."""
    found, lines, worst = reproduce(), [], 0.0
    for curve, again in zip(CURVES, found, strict=True):
        own_model, name, metric = SWEPT[curve.study]
        cases = {}
        if own_model == curve.model:
            space, _ = dgz.load_space(EXAMPLES / f"{curve.study}.toml")
            own = [space.configuration(index) for index in range(space.size)]
            cases = dict(zip(sorted(curve.factors), own, strict=True))
        points = zip(curve.factors, curve.published, *again, strict=True)
        for factor, published, milliseconds, slope in points:
            ours = elasticity = None
            case = cases.get(factor)
            if isinstance(case, dgz.Scenario):
                ours = 1e3 * float(getattr(dgz.estimate(case), metric))
                elasticity = float(dgz.elasticities(case, metric)[name])
            worst = max(worst, abs(milliseconds / published - 1))
            row = {
                "study": curve.study,
                "model": curve.model,
                "factor": factor,
                "paper_ms": published,
                "reproduced_ms": milliseconds,
                "elasticity": slope,
                "diffgenz_ms": ours,
                "diffgenz_elasticity": elasticity,
            }
            report.rows.append(row)
            cells = (published, milliseconds, slope, ours, elasticity)
            lines.append(
                (curve.study, curve.model, number(factor), *(number(cell, 3) for cell in cells))
            )
    header = ("study", "model", "x", "paper, ms", "again", "elasticity", "DiffGenZ", "elasticity")
    print(table(header, lines, "llr") + "\n")
    report.check("scaling sweeps: largest relative error of 40 times", worst, "", 0.02)
    return found


def archetypes(report: Report) -> None:
    """Llama-3.1-8B in fp16 on five kinds of platforms: a long prefill, and decode."""
    model, lines = dgz.load_model("meta-llama/Llama-3.1-8B"), []
    for name, (system, count, plan) in ARCHETYPES.items():
        platform = dgz.load_platform(system, count, fit="none")
        for batch, tokens, generated in ((1, 8192, 2), (1, 1024, 512), (64, 1024, 512)):
            work = dgz.Workload(batch=batch, input_tokens=tokens, output_tokens=generated)
            case = dgz.Scenario(model, platform, work, plan, dgz.Precision("fp16"), CHUNKS)
            now = dgz.estimate(case)
            fits = bool(now.memory.fits)
            values = (1e3 * now.ttft, 1e3 * now.tpot, now.energy_per_output_token)
            times = [float(value) if fits else None for value in values]
            keys = ("ttft_ms", "tpot_ms", "joule_per_output_token")
            said = {"study": "archetypes", "platform": name, "count": count, "batch": batch}
            report.rows.append(said | {"tokens": tokens} | dict(zip(keys, times, strict=True)))
            sizes = (str(count), str(batch), str(tokens))
            lines.append((name, *sizes, *(number(value, 3) for value in times)))
    header = ("platform", "chips", "batch", "tokens in", "TTFT ms", "TPOT ms", "J/token")
    print(table(header, lines, "l") + "\n")


def domains(report: Report) -> None:
    """DeepSeek-V3 over 256 accelerators: TPOT by size of the scale-up domain and scale-out rate."""
    model, ranks = dgz.load_model("deepseek-ai/DeepSeek-V3"), 256
    platform = dgz.load_platform("h200_sxm", ranks, fit="none")
    inner, outer = platform.network
    plan = dgz.Parallelism(attention_data=ranks, expert=ranks)
    work = dgz.Workload(batch=64 * ranks, input_tokens=2048, output_tokens=256)
    lines = []
    for size in DOMAINS:
        cells = []
        for bandwidth in SCALE_OUT:
            network = (inner.replace(size=size), outer.replace(bandwidth=bandwidth))
            there = platform.replace(network=network)
            precision = dgz.Precision(weights="fp8_block", activations="fp8")
            case = dgz.Scenario(model, there, work, plan, precision)
            cells.append(1e3 * float(dgz.estimate(case).tpot))
            said = {"study": "domains", "domain": size, "scale_out": bandwidth}
            report.rows.append(said | {"tpot_ms": cells[-1]})
        lines.append((str(size), *(number(cell, 3) for cell in cells)))
    header = ("domain", *(f"{bandwidth / 1e9:.0f} GB/s" for bandwidth in SCALE_OUT))
    print(table(header, lines) + "\n")


def ten_trillion(report: Report) -> None:
    """Memory bandwidth of a 10T-parameter assistant at 5 tokens/s: as the paper, and ours."""
    precision, plan = dgz.Precision("bf16", "int8", "int8", "int8"), dgz.Parallelism()
    platform, model = dgz.ideal_platform(plan, precision), dgz.load_model("diffgenz/super-10t")
    lines = []
    for tokens, published in CONTEXTS:
        use = assistant(tokens)
        forms = [sizes.closed_forms(use)[0] for sizes in (TEN_TRILLION, AS_SHIPPED)]
        cells = []
        for beams in (use.beams, 1):
            serving = use.replace(beams=beams).served(WHOLE)
            case = dgz.Scenario(model, platform, use.workload, plan, precision, serving)
            need = dgz.requirements(case, tpot=use.tpot)
            cells.append(float(need.decode.memory_bandwidth) / 1e12)
        keys = ("again", "12_kv_heads", "diffgenz", "diffgenz_one_beam")
        said = {"study": "10T", "tokens": tokens, "paper": published}
        report.rows.append(said | dict(zip(keys, (*forms, *cells), strict=True)))
        shown = (published, *forms, *cells)
        lines.append((f"{tokens:,}", *(number(cell, 3) for cell in shown)))
        report.check(f"10T at {tokens:,} tokens: error", abs(forms[0] / published - 1), "", 0.05)
    header = ("context", "paper, TB/s", "again", "12 KV heads", "DiffGenZ", "with one beam")
    print(table(header, lines))


def assistant(tokens: int) -> dgz.UseCase:
    """The paper's assistant with prompts of so many tokens."""
    return dgz.load_use_case("assistant").replace(input_tokens=tokens)


def draw(found: list[Reproduced], folder: Path) -> None:
    """Save the picture of the four sweeps: published points on the curves that we compute."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "paper_scaling.png"
    figure = figure_for(path)
    figure.set_size_inches(9, 6.5)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(2, 2).ravel()
    for axes, study in zip(panels, SWEPT, strict=True):
        for curve, again in zip(CURVES, found, strict=True):
            if curve.study != study:
                continue
            (line,) = axes.plot(curve.factors, again.milliseconds, label=curve.model)
            axes.plot(curve.factors, curve.published, "o", color=line.get_color())
        axes.set_xscale("log")
        axes.set_yscale("log")
        here = [curve for curve in CURVES if curve.study == study]
        plain_ticks(axes.xaxis, np.array(here[0].factors))
        plain_ticks(axes.yaxis, np.array([ms for curve in here for ms in curve.published]))
        axes.set_xlabel(f"{study.replace('_', ' ')}, times the node's")
        axes.set_ylabel("decode, ms" if SWEPT[study][2] == "tpot" else "prefill, ms")
        axes.legend()
    figure.suptitle("GenZ's scaling studies: points as published, lines as computed")
    save_figure(figure, path)


def main() -> None:
    """Compute, print, draw, write."""
    parser = parser_of(__doc__, "the scaling sweeps and the 10T model only")
    parser.add_argument("--plots", metavar="FOLDER", type=Path, help="draw the sweeps there")
    options = parser.parse_args()
    report = Report()
    found = scaling(report)
    if not options.quick:
        archetypes(report)
        domains(report)
    ten_trillion(report)
    if options.plots:
        draw(found, options.plots)
    report.finish(options.json)


if __name__ == "__main__":
    main()
