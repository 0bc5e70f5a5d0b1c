"""The command line. JAX is imported by `commands`, and only by the commands that compute: `--help` and `list` are quick."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from diffgenz.core.errors import InputError, NoSolution
from diffgenz.ui.cli.flags import GEAR, Parser, add_deployment, add_json, add_layout, add_serving


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `diffgenz`; returns the exit code: 0, 2 for input that cannot be used, 3 where nothing qualifies, 130 if interrupted."""
    try:
        options = _parser().parse_args(arguments)
        text, data = _run(options)
        print(json.dumps(data, indent=2, allow_nan=False) if options.json else text)
        sys.stdout.flush()
    except InputError as error:
        print(f"diffgenz: error: {error}", file=sys.stderr)
        return 2
    except NoSolution as answer:
        print(f"diffgenz: {answer}", file=sys.stderr)
        return 3
    except KeyboardInterrupt as stop:
        print(f"diffgenz: interrupted{stop}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _run(options: argparse.Namespace) -> tuple[str, Any]:
    if options.command == "list":
        from diffgenz.ui.cli import listing

        return {
            "models": listing.models,
            "systems": listing.systems,
            "use-cases": listing.use_cases,
            "formats": listing.formats,
        }[options.what]()
    if options.command in ("search", "export"):
        from diffgenz.ui.cli import search as search_command

        return (
            search_command.find(options)
            if options.command == "search"
            else search_command.export(options)
        )
    if options.command == "requirements":
        from diffgenz.ui.cli import requirements as requirements_command

        return requirements_command.requirements_of(options)
    if options.command in ("sweep", "merge"):
        from diffgenz.ui.cli import sweep as sweep_command

        return (
            sweep_command.run_sweep(options)
            if options.command == "sweep"
            else sweep_command.run_merge(options)
        )
    if options.command == "pareto":
        from diffgenz.ui.cli import pareto as pareto_command

        return pareto_command.pareto(options)
    if options.command == "calibrate":
        from diffgenz.ui.cli import calibrate as calibrate_command

        return (
            calibrate_command.calibrate_files(options)
            if options.suggest is None
            else calibrate_command.suggest_points(options)
        )
    from diffgenz.ui.cli import estimate as commands

    return (
        commands.estimate(options)
        if options.command == "estimate"
        else commands.sensitivity(options)
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="diffgenz",
        description="What serving a large language model takes: latency, throughput, memory, energy, cost.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    listing = commands.add_parser(
        "list", help="the models, systems or use cases that are shipped, or the number formats"
    )
    listing.add_argument("what", choices=("models", "systems", "use-cases", "formats"))
    add_json(listing)

    estimate = commands.add_parser(
        "estimate",
        help="latency, throughput, memory, energy and cost of a deployment",
        epilog=_EPILOG,
    )
    add_deployment(estimate, several_batches=True)
    add_json(estimate)

    sensitivity = commands.add_parser(
        "sensitivity", help="what a metric depends on: its elasticity to every hardware number"
    )
    add_deployment(sensitivity, several_batches=False)
    sensitivity.add_argument(
        "--metric",
        default="tpot",
        help="ttft, tpot, throughput, energy_per_output_token, memory.total, ... (default: tpot)",
    )
    add_json(sensitivity)

    search = commands.add_parser(
        "search",
        help="the best deployments on so many accelerators: all plans, batch sizes and formats",
    )
    _add_search(search)
    add_json(search)

    export = commands.add_parser(
        "export", help="the launch command of a deployment that a search found"
    )
    export.add_argument("engine", choices=("vllm", "sglang"))
    export.add_argument(
        "results", metavar="FILE", help="what `diffgenz search ... --out FILE.json` saved"
    )
    export.add_argument(
        "--row", type=int, default=1, help="which of its rows (default: 1, the best)"
    )
    add_json(export)

    requirements = commands.add_parser(
        "requirements",
        help="the least compute, memory and network that meet a use case's objectives",
    )
    requirements.add_argument("--use-case", required=True, help="see `diffgenz list use-cases`")
    requirements.add_argument(
        "--batch", type=int, help="requests in flight (default: the use case's)"
    )
    requirements.add_argument(
        "--ttft",
        type=float,
        help="objective for the time to the first token, ms (default: the use case's)",
    )
    requirements.add_argument(
        "--tpot",
        type=float,
        help="objective for the time between tokens, ms (default: the use case's)",
    )
    add_layout(
        requirements,
        system="what the numbers not sought are: an accelerator or a TOML file (default: unlimited)",
    )
    add_json(requirements)

    sweep = commands.add_parser(
        "sweep",
        help="every configuration of a design space, reduced to what a file asks for (docs/sweeps.md)",
    )
    _add_sweep(sweep)
    add_json(sweep)

    pareto = commands.add_parser(
        "pareto",
        help="what a sweep kept: its Pareto front, best configurations, maps; as table, file or picture",
    )
    pareto.add_argument("folder", metavar="DIR", help="what `diffgenz sweep ... --out DIR` saved")
    pareto.add_argument(
        "--keep", metavar="NAME", help="which [keep.NAME] of the file (default: the first front)"
    )
    pareto.add_argument("--top", type=int, default=20, help="rows to show (default: 20)")
    pareto.add_argument(
        "--value",
        metavar="AXIS",
        help="of a map: draw what the best of each cell has at this axis (default: the goal's value)",
    )
    pareto.add_argument(
        "--out", metavar="FILE", help="save all rows as .csv or .parquet (needs diffgenz[tables])"
    )
    pareto.add_argument(
        "--plot", metavar="FILE", help="draw it as .png, .svg or .pdf (needs diffgenz[plots])"
    )
    pareto.add_argument("--parallel", metavar="FILE", help="draw it in parallel coordinates")
    add_json(pareto)

    calibrate = commands.add_parser(
        "calibrate",
        help="kernel models from measurements: parameters with standard errors, held-out errors",
    )
    _add_calibrate(calibrate)
    add_json(calibrate)

    merge = commands.add_parser("merge", help="one sweep of its shards")
    merge.add_argument("folders", metavar="DIR", nargs="+", help="the folders of all its shards")
    merge.add_argument("--out", metavar="DIR", required=True, help="where the whole goes")
    add_json(merge)
    return parser


_EPILOG = "Example: diffgenz estimate meta-llama/Llama-3.1-70B --system h100_sxm --gpus 8 --tp 8 --isl 2048 --osl 256 --batch 1 8 64"


def _add_sweep(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "space", metavar="SPACE.toml", help="the axes, constraints and what to keep"
    )
    parser.add_argument(
        "--out", metavar="DIR", required=True, help="where checkpoints and results go"
    )
    parser.add_argument(
        "--n",
        type=float,
        help="configurations, at least, where axes are sampled; 1e9 is a number (default: the file's samples)",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the sweep in DIR")
    parser.add_argument(
        "--shard",
        default="1/1",
        metavar="i/n",
        help="only the i-th of n parts, for `diffgenz merge`",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="where it runs (ray needs diffgenz[ray]; default: local)",
    )
    parser.add_argument(
        "--address",
        help="of a Ray cluster, such as auto or ray://host:10001 (default: Ray on this machine)",
    )
    parser.add_argument(
        "--sharpness", default="8", help="of the roofline: 1, 2, 4, 8 or hard (default: 8)"
    )
    parser.add_argument(
        "--progress",
        action="store_true",
        help="report progress on stderr even where that is no terminal",
    )


def _add_calibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        help="measured kernels: tables, or folders of them (docs/calibration.md lists the layouts)",
    )
    parser.add_argument(
        "--system",
        required=True,
        help="the accelerator that was measured (see `diffgenz list systems`), or a TOML file",
    )
    parser.add_argument(
        "--fit",
        metavar="KINDS",
        help="some of gemm,attention,recurrence,experts,network (default: all that the files hold)",
    )
    parser.add_argument(
        "--out",
        metavar="FIT.toml",
        help="save the fits there, for `--fit FIT.toml` of the other commands",
    )
    parser.add_argument(
        "--starts", type=int, default=256, help="points that each fit starts from (default: 256)"
    )
    parser.add_argument(
        "--posterior",
        action="store_true",
        help="sample each fit's posterior for means and errors (needs diffgenz[posterior])",
    )
    parser.add_argument(
        "--suggest",
        type=int,
        metavar="N",
        help="no fit, but the N measurements that would narrow a metric most; FILE is then a fit",
    )
    parser.add_argument("--model", metavar="MODEL", help="with --suggest: what is served")
    parser.add_argument(
        "--tp", type=int, default=1, help="with --suggest: tensor-parallel ranks (default: 1)"
    )
    parser.add_argument(
        "--isl",
        type=int,
        default=1024,
        help="with --suggest: input sequence length, tokens (default: 1024)",
    )
    parser.add_argument(
        "--osl",
        type=int,
        default=128,
        help="with --suggest: output sequence length, tokens (default: 128)",
    )
    parser.add_argument(
        "--batch", type=int, default=16, help="with --suggest: requests in flight (default: 16)"
    )
    parser.add_argument(
        "--metric",
        default="tpot",
        help="with --suggest: what shall be known better (default: tpot)",
    )
    parser.add_argument(
        "--progress",
        action="store_true",
        help="report each fit on stderr even where that is no terminal",
    )


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a Hugging Face id (see `diffgenz list models`), or a config.json or its folder",
    )
    parser.add_argument(
        "--system",
        required=True,
        help="an accelerator (see `diffgenz list systems`), or a TOML file",
    )
    parser.add_argument(
        "--gpus", type=int, required=True, help="accelerators; every plan uses all of them"
    )
    parser.add_argument(
        "--isl", type=int, default=1024, help="input sequence length, tokens (default: 1024)"
    )
    parser.add_argument(
        "--osl", type=int, default=128, help="output sequence length, tokens (default: 128)"
    )
    parser.add_argument("--ttft", type=float, metavar="MS", help="time to first token, at most")
    parser.add_argument("--tpot", type=float, metavar="MS", help="time per output token, at most")
    parser.add_argument(
        "--batch",
        type=int,
        nargs="+",
        help="requests in flight to try (default: powers of two to 4096)",
    )
    parser.add_argument(
        "--weights",
        choices=("checkpoint",),
        help="serve it as its config.json says (default: formats that fit the system)",
    )
    parser.add_argument(
        "--kv-cache",
        nargs="+",
        help=f"formats of keys and values to try, among them {GEAR} (default: dtype and fp8)",
    )
    parser.add_argument(
        "--messages",
        help="format of what all-reduces, pipeline stages and combining experts send (default: dtype)",
    )
    parser.add_argument(
        "--chunk",
        type=_chunk,
        nargs="+",
        default=[None],
        metavar="TOKENS",
        help="chunked prefill: prompt tokens of one iteration to try, or whole; --tpot then holds while iterations carry chunks (default: whole)",
    )
    add_serving(parser)
    parser.add_argument("--top", type=int, default=10, help="rows to show (default: 10)")
    parser.add_argument("--out", metavar="FILE", help="save the rows as .json or .csv")
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="draw the Pareto front as .png, .svg or .pdf (needs diffgenz[plots])",
    )


def _chunk(text: str) -> int | None:
    try:
        return None if text == "whole" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number of tokens nor whole"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
