"""The flags that say what is estimated: a model, where it runs, how, and the requests it serves. No JAX here: `--help` must be quick."""

import argparse
from typing import NoReturn

from diffgenz.core.errors import InputError
from diffgenz.kernels.software import DEFAULT

GEAR = (
    "gear-CORE[:OUTLIERS[:RANK]], GEAR with a share of outliers and a rank (gear-int4: 0.02 and 4)"
)


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see `{self.prog} --help`")


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON, in SI units")


def add_layout(parser: argparse.ArgumentParser, system: str | None = None) -> None:
    """A model, where it runs and how; `system` explains an optional `--system`."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a Hugging Face id (see `diffgenz list models`), or a config.json or its folder",
    )
    parser.add_argument(
        "--system",
        required=system is None,
        help=system or "an accelerator (see `diffgenz list systems`), or a TOML file",
    )
    parser.add_argument(
        "--gpus", type=int, help="accelerators (default: what tp, cp, attention-dp, pp and dp use)"
    )
    parser.add_argument(
        "--tp",
        type=int,
        help="tensor-parallel ranks (default: the accelerators that the others leave)",
    )
    parser.add_argument("--pp", type=int, default=1, help="pipeline stages (default: 1)")
    parser.add_argument(
        "--dp", type=int, default=1, help="replicas that share the batch (default: 1)"
    )
    parser.add_argument(
        "--ep",
        type=int,
        default=1,
        help="groups that hold different experts, of the tp x cp x attention-dp ranks (default: 1)",
    )
    parser.add_argument(
        "--cp",
        type=int,
        default=1,
        help="context-parallel ranks, which share each sequence and its KV cache (default: 1)",
    )
    parser.add_argument(
        "--sp",
        action="store_true",
        help="sequence parallelism: the tp ranks share norms and the residual stream, too",
    )
    parser.add_argument(
        "--attention-dp",
        type=int,
        default=1,
        help="groups that share requests but for the experts: DP attention (default: 1)",
    )
    formats = "fp32, bf16, fp16, fp8, fp8_block, int8, mxfp4, nvfp4, int4, ..."
    parser.add_argument(
        "--dtype",
        default="bf16",
        help=f"format of hidden states and attention (default: bf16); one of {formats}",
    )
    parser.add_argument(
        "--weights",
        help="format of the linear layers' weights, or checkpoint: as its config.json says, and activations (default: dtype)",
    )
    parser.add_argument(
        "--activations",
        help="format of the linear layers' inputs, which sets their arithmetic (default: dtype)",
    )
    parser.add_argument("--kv-cache", help=f"format of keys and values, or {GEAR} (default: dtype)")
    parser.add_argument(
        "--messages",
        help="format of what all-reduces, pipeline stages and combining experts send (default: dtype)",
    )
    parser.add_argument(
        "--overlap",
        type=float,
        default=0.0,
        help="share of communication hidden behind computing, 0 to 1 (default: 0)",
    )
    parser.add_argument(
        "--chunk",
        type=int,
        help="chunked prefill: prompt tokens of one iteration (default: whole prompts)",
    )
    add_serving(parser)
    parser.add_argument(
        "--sharpness",
        default="8",
        help="overlap of compute and memory: 1 (none), 2, 4, 8, or hard (the exact roofline) (default: 8)",
    )


def add_fit(parser: argparse.ArgumentParser) -> None:
    """`--fit`."""
    parser.add_argument(
        "--fit",
        default=DEFAULT,
        help="what times kernels: those measured of trtllm, vllm or sglang, a file that `diffgenz calibrate` wrote, or none: the roofline, a bound "
        f"(default: {DEFAULT})",
    )


def add_serving(parser: argparse.ArgumentParser) -> None:
    """What a server does beside batching and chunking."""
    parser.add_argument(
        "--prefix-hit",
        type=float,
        help="prefix caching: share of each prompt that is in the KV cache already, 0 to 1 (default: 0)",
    )
    parser.add_argument(
        "--drafts",
        type=float,
        help="speculative decoding: tokens proposed for each verification (default: none)",
    )
    parser.add_argument(
        "--acceptance",
        type=float,
        help="probability that a proposed token is accepted, 0 to 1; required with --drafts",
    )
    parser.add_argument(
        "--draft-model",
        metavar="MODEL",
        help='the model that proposes, on the same accelerators, or "mtp", its own multi-token-prediction module (default: n-grams, free)',
    )
    parser.add_argument(
        "--draft-system",
        help="accelerators of its own for the draft model, one for each attention group (default: the model's)",
    )
    parser.add_argument(
        "--beams",
        type=int,
        help="beam search: sequences decoded for each request (default: 1, or the use case's)",
    )
    parser.add_argument(
        "--offload",
        choices=("weights", "kv-cache"),
        help="what lives in slower memory where the main one is full (default: nothing)",
    )


def add_deployment(parser: argparse.ArgumentParser, several_batches: bool) -> None:
    """A layout and the requests it serves."""
    add_layout(parser)
    add_fit(parser)
    if several_batches:
        parser.add_argument(
            "--uncertainty",
            action="store_true",
            help="show times +- a standard deviation, from the fits of the kernels",
        )
    parser.add_argument(
        "--isl", type=int, default=1024, help="input sequence length, tokens (default: 1024)"
    )
    parser.add_argument(
        "--osl", type=int, default=128, help="output sequence length, tokens (default: 128)"
    )
    parser.add_argument(
        "--images",
        type=int,
        default=0,
        help="images in each prompt, on top of isl; for models with a vision tower (default: 0)",
    )
    if several_batches:
        parser.add_argument(
            "--batch",
            type=int,
            nargs="+",
            default=[1],
            help="requests in flight, which arrive and are served together; one or several (default: 1)",
        )
    else:
        parser.add_argument("--batch", type=int, default=1, help="requests in flight (default: 1)")
