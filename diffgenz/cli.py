"""The command line. JAX is imported by `commands`, and only by the commands that compute: `--help` and `list` are quick."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from diffgenz.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `diffgenz`; returns the exit code: 0, or 2 for input that cannot be used."""
    try:
        options = _parser().parse_args(arguments)
        text, data = _run(options)
        print(json.dumps(data, indent=2, allow_nan=False) if options.json else text)
        sys.stdout.flush()
    except InputError as error:
        print(f"diffgenz: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _run(options: argparse.Namespace) -> tuple[str, Any]:
    if options.command == "list":
        from diffgenz import listing

        return listing.models() if options.what == "models" else listing.systems()
    from diffgenz import commands

    return commands.estimate(options) if options.command == "estimate" else commands.sensitivity(options)


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see `{self.prog} --help`")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="diffgenz", description="What serving a large language model takes: latency, throughput, memory, energy, cost.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="the models or systems that are shipped")
    listing.add_argument("what", choices=("models", "systems"))
    _add_json(listing)

    estimate = commands.add_parser("estimate", help="latency, throughput, memory, energy and cost of a deployment", epilog=_EPILOG)
    _add_deployment(estimate, several_batches=True)
    _add_json(estimate)

    sensitivity = commands.add_parser("sensitivity", help="what a metric depends on: its elasticity to every hardware number")
    _add_deployment(sensitivity, several_batches=False)
    sensitivity.add_argument("--metric", default="tpot", help="ttft, tpot, throughput, energy_per_output_token, memory.total, ... (default: tpot)")
    _add_json(sensitivity)
    return parser


_EPILOG = "Example: diffgenz estimate meta-llama/Llama-3.1-70B --system h100_sxm --gpus 8 --tp 8 --isl 2048 --osl 256 --batch 1 8 64"


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, in SI units")


def _add_deployment(parser: argparse.ArgumentParser, several_batches: bool) -> None:
    parser.add_argument("model", metavar="MODEL", help="a Hugging Face id (see `diffgenz list models`), or a config.json or its folder")
    parser.add_argument("--system", required=True, help="an accelerator (see `diffgenz list systems`), or a TOML file")
    parser.add_argument("--gpus", type=int, help="accelerators (default: what tp, pp and dp use)")
    parser.add_argument("--tp", type=int, help="tensor-parallel ranks (default: the accelerators that pp and dp leave)")
    parser.add_argument("--pp", type=int, default=1, help="pipeline stages (default: 1)")
    parser.add_argument("--dp", type=int, default=1, help="replicas that share the batch (default: 1)")
    parser.add_argument("--ep", type=int, default=1, help="expert-parallel ranks among the tensor-parallel ones (default: 1)")
    parser.add_argument("--isl", type=int, default=1024, help="input sequence length, tokens (default: 1024)")
    parser.add_argument("--osl", type=int, default=128, help="output sequence length, tokens (default: 128)")
    if several_batches:
        parser.add_argument(
            "--batch", type=int, nargs="+", default=[1], help="requests in flight, which arrive and are served together; one or several (default: 1)"
        )
    else:
        parser.add_argument("--batch", type=int, default=1, help="requests in flight (default: 1)")
    formats = "fp32, bf16, fp16, fp8, fp8_block, int8, mxfp4, nvfp4, int4, ..."
    parser.add_argument("--dtype", default="bf16", help=f"format of hidden states and attention (default: bf16); one of {formats}")
    parser.add_argument("--weights", help="format of the linear layers' weights (default: dtype)")
    parser.add_argument("--activations", help="format of the linear layers' inputs, which sets their arithmetic (default: dtype)")
    parser.add_argument("--kv-cache", help="format of keys and values (default: dtype)")
    parser.add_argument("--overlap", type=float, default=0.0, help="share of communication hidden behind computing, 0 to 1 (default: 0)")
    parser.add_argument("--chunk", type=int, help="chunked prefill: prompt tokens of one iteration (default: whole prompts)")
    parser.add_argument("--prefix-hit", type=float, help="prefix caching: share of each prompt that is in the KV cache already, 0 to 1 (default: 0)")
    parser.add_argument("--drafts", type=float, help="speculative decoding: tokens proposed for each verification (default: none)")
    parser.add_argument("--acceptance", type=float, help="probability that a proposed token is accepted, 0 to 1; required with --drafts")
    parser.add_argument("--draft-model", metavar="MODEL", help="the model that proposes, on the same accelerators (default: n-grams, free)")
    parser.add_argument("--beams", type=int, help="beam search: sequences decoded for each request (default: 1)")
    parser.add_argument(
        "--sharpness", default="8", help="overlap of compute and memory: 1 (none), 2, 4, 8, or hard (the exact roofline) (default: 8)"
    )


if __name__ == "__main__":
    sys.exit(main())
