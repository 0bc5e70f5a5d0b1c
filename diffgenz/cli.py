"""The command line. JAX is imported by `commands`, and only by the commands that compute: `--help` and `list` are quick."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from diffgenz.errors import InputError, NoSolution


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `diffgenz`; returns the exit code: 0, 2 for input that cannot be used, 3 where nothing qualifies."""
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
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _run(options: argparse.Namespace) -> tuple[str, Any]:
    if options.command == "list":
        from diffgenz import listing

        return {"models": listing.models, "systems": listing.systems, "use-cases": listing.use_cases, "formats": listing.formats}[options.what]()
    if options.command in ("search", "export"):
        from diffgenz import search_command

        return search_command.find(options) if options.command == "search" else search_command.export(options)
    if options.command == "requirements":
        from diffgenz import requirements_command

        return requirements_command.requirements_of(options)
    from diffgenz import commands

    return commands.estimate(options) if options.command == "estimate" else commands.sensitivity(options)


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see `{self.prog} --help`")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="diffgenz", description="What serving a large language model takes: latency, throughput, memory, energy, cost.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="the models, systems or use cases that are shipped, or the number formats")
    listing.add_argument("what", choices=("models", "systems", "use-cases", "formats"))
    _add_json(listing)

    estimate = commands.add_parser("estimate", help="latency, throughput, memory, energy and cost of a deployment", epilog=_EPILOG)
    _add_deployment(estimate, several_batches=True)
    _add_json(estimate)

    sensitivity = commands.add_parser("sensitivity", help="what a metric depends on: its elasticity to every hardware number")
    _add_deployment(sensitivity, several_batches=False)
    sensitivity.add_argument("--metric", default="tpot", help="ttft, tpot, throughput, energy_per_output_token, memory.total, ... (default: tpot)")
    _add_json(sensitivity)

    search = commands.add_parser("search", help="the best deployments on so many accelerators: all plans, batch sizes and formats")
    _add_search(search)
    _add_json(search)

    export = commands.add_parser("export", help="the launch command of a deployment that a search found")
    export.add_argument("engine", choices=("vllm", "sglang"))
    export.add_argument("results", metavar="FILE", help="what `diffgenz search ... --out FILE.json` saved")
    export.add_argument("--row", type=int, default=1, help="which of its rows (default: 1, the best)")
    _add_json(export)

    requirements = commands.add_parser("requirements", help="the least compute, memory and network that meet a use case's objectives")
    requirements.add_argument("--use-case", required=True, help="see `diffgenz list use-cases`")
    requirements.add_argument("--batch", type=int, help="requests in flight (default: the use case's)")
    requirements.add_argument("--ttft", type=float, help="objective for the time to the first token, ms (default: the use case's)")
    requirements.add_argument("--tpot", type=float, help="objective for the time between tokens, ms (default: the use case's)")
    _add_layout(requirements, system="what the numbers not sought are: an accelerator or a TOML file (default: unlimited)")
    _add_json(requirements)
    return parser


_GEAR = "gear-CORE[:OUTLIERS[:RANK]], GEAR with a share of outliers and a rank (gear-int4: 0.02 and 4)"
_EPILOG = "Example: diffgenz estimate meta-llama/Llama-3.1-70B --system h100_sxm --gpus 8 --tp 8 --isl 2048 --osl 256 --batch 1 8 64"


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, in SI units")


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a Hugging Face id (see `diffgenz list models`), or a config.json or its folder")
    parser.add_argument("--system", required=True, help="an accelerator (see `diffgenz list systems`), or a TOML file")
    parser.add_argument("--gpus", type=int, required=True, help="accelerators; every plan uses all of them")
    parser.add_argument("--isl", type=int, default=1024, help="input sequence length, tokens (default: 1024)")
    parser.add_argument("--osl", type=int, default=128, help="output sequence length, tokens (default: 128)")
    parser.add_argument("--ttft", type=float, metavar="MS", help="time to first token, at most")
    parser.add_argument("--tpot", type=float, metavar="MS", help="time per output token, at most")
    parser.add_argument("--batch", type=int, nargs="+", help="requests in flight to try (default: powers of two to 4096)")
    parser.add_argument("--weights", choices=("checkpoint",), help="serve it as its config.json says (default: formats that fit the system)")
    parser.add_argument("--kv-cache", nargs="+", help=f"formats of keys and values to try, among them {_GEAR} (default: dtype and fp8)")
    parser.add_argument("--messages", help="format of what all-reduces, pipeline stages and combining experts send (default: dtype)")
    parser.add_argument(
        "--chunk",
        type=_chunk,
        nargs="+",
        default=[None],
        metavar="TOKENS",
        help="chunked prefill: prompt tokens of one iteration to try, or whole; --tpot then holds while iterations carry chunks (default: whole)",
    )
    _add_serving(parser)
    parser.add_argument("--top", type=int, default=10, help="rows to show (default: 10)")
    parser.add_argument("--out", metavar="FILE", help="save the rows as .json or .csv")
    parser.add_argument("--plot", metavar="FILE", help="draw the Pareto front as .png, .svg or .pdf (needs diffgenz[plots])")


def _chunk(text: str) -> int | None:
    try:
        return None if text == "whole" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of tokens nor whole") from None


def _add_layout(parser: argparse.ArgumentParser, system: str | None = None) -> None:
    """A model, where it runs and how; `system` explains an optional `--system`."""
    parser.add_argument("model", metavar="MODEL", help="a Hugging Face id (see `diffgenz list models`), or a config.json or its folder")
    parser.add_argument("--system", required=system is None, help=system or "an accelerator (see `diffgenz list systems`), or a TOML file")
    parser.add_argument("--gpus", type=int, help="accelerators (default: what tp, cp, attention-dp, pp and dp use)")
    parser.add_argument("--tp", type=int, help="tensor-parallel ranks (default: the accelerators that the others leave)")
    parser.add_argument("--pp", type=int, default=1, help="pipeline stages (default: 1)")
    parser.add_argument("--dp", type=int, default=1, help="replicas that share the batch (default: 1)")
    parser.add_argument("--ep", type=int, default=1, help="groups that hold different experts, of the tp x cp x attention-dp ranks (default: 1)")
    parser.add_argument("--cp", type=int, default=1, help="context-parallel ranks, which share each sequence and its KV cache (default: 1)")
    parser.add_argument("--sp", action="store_true", help="sequence parallelism: the tp ranks share norms and the residual stream, too")
    parser.add_argument("--attention-dp", type=int, default=1, help="groups that share requests but for the experts: DP attention (default: 1)")
    formats = "fp32, bf16, fp16, fp8, fp8_block, int8, mxfp4, nvfp4, int4, ..."
    parser.add_argument("--dtype", default="bf16", help=f"format of hidden states and attention (default: bf16); one of {formats}")
    parser.add_argument(
        "--weights", help="format of the linear layers' weights, or checkpoint: as its config.json says, and activations (default: dtype)"
    )
    parser.add_argument("--activations", help="format of the linear layers' inputs, which sets their arithmetic (default: dtype)")
    parser.add_argument("--kv-cache", help=f"format of keys and values, or {_GEAR} (default: dtype)")
    parser.add_argument("--messages", help="format of what all-reduces, pipeline stages and combining experts send (default: dtype)")
    parser.add_argument("--overlap", type=float, default=0.0, help="share of communication hidden behind computing, 0 to 1 (default: 0)")
    parser.add_argument("--chunk", type=int, help="chunked prefill: prompt tokens of one iteration (default: whole prompts)")
    _add_serving(parser)
    parser.add_argument(
        "--sharpness", default="8", help="overlap of compute and memory: 1 (none), 2, 4, 8, or hard (the exact roofline) (default: 8)"
    )


def _add_serving(parser: argparse.ArgumentParser) -> None:
    """What a server does beside batching and chunking."""
    parser.add_argument("--prefix-hit", type=float, help="prefix caching: share of each prompt that is in the KV cache already, 0 to 1 (default: 0)")
    parser.add_argument("--drafts", type=float, help="speculative decoding: tokens proposed for each verification (default: none)")
    parser.add_argument("--acceptance", type=float, help="probability that a proposed token is accepted, 0 to 1; required with --drafts")
    parser.add_argument(
        "--draft-model",
        metavar="MODEL",
        help='the model that proposes, on the same accelerators, or "mtp", its own multi-token-prediction module (default: n-grams, free)',
    )
    parser.add_argument("--beams", type=int, help="beam search: sequences decoded for each request (default: 1, or the use case's)")
    parser.add_argument(
        "--offload", choices=("weights", "kv-cache"), help="what lives in slower memory where the main one is full (default: nothing)"
    )


def _add_deployment(parser: argparse.ArgumentParser, several_batches: bool) -> None:
    """A layout and the requests it serves."""
    _add_layout(parser)
    parser.add_argument("--isl", type=int, default=1024, help="input sequence length, tokens (default: 1024)")
    parser.add_argument("--osl", type=int, default=128, help="output sequence length, tokens (default: 128)")
    parser.add_argument("--images", type=int, default=0, help="images in each prompt, on top of isl; for models with a vision tower (default: 0)")
    if several_batches:
        parser.add_argument(
            "--batch", type=int, nargs="+", default=[1], help="requests in flight, which arrive and are served together; one or several (default: 1)"
        )
    else:
        parser.add_argument("--batch", type=int, default=1, help="requests in flight (default: 1)")


if __name__ == "__main__":
    sys.exit(main())
