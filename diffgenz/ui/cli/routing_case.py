"""What `routing place`, `group` and `simulate` ask: a trace, and how its model is served."""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from diffgenz.scenario.words import WORDS
from diffgenz.ui.cli.flags import COUNT, REQUESTS, add_set, add_words, words_in

_NOT = ("model", "routing", "imbalance", *REQUESTS)
_PLAN = tuple(name for name in WORDS if name not in (*_NOT, "batch"))
PER_GPU = 64
"""Requests in flight on each accelerator, where --batch does not say."""


def trace_flags(parser: argparse.ArgumentParser, what: str) -> None:
    """The arguments that say which trace, what its files do not say, and how draws are made.

    Arguments:
        parser: of the command.
        what: may be given, for `--help`.
    """
    parser.add_argument("trace", nargs="+", metavar="TRACE", help=what)
    parser.add_argument(
        "--experts",
        type=COUNT,
        metavar="N",
        help="routed experts per layer, where the files do not say (default: largest id plus 1)",
    )
    parser.add_argument(
        "--top-k",
        type=COUNT,
        metavar="K",
        help="experts that a token chooses, for files that keep no shapes (SGLang's responses)",
    )
    parser.add_argument(
        "--seed", type=COUNT, default=0, metavar="N", help="of the random draws (default: 0)"
    )


def check_trace(options: argparse.Namespace) -> None:
    """Raise `InputError` where a number of `trace_flags` is too small."""
    from diffgenz.core.errors import InputError

    for name, least in (("experts", 1), ("top_k", 1), ("seed", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise InputError(
                f"--{name.replace('_', '-')}: {value} is not allowed; it must be at least {least}"
            )


def train_share(parser: argparse.ArgumentParser, what: str) -> None:
    """`--train-share`, of commands that test on requests held out (`halves`).

    Arguments:
        parser: of the command.
        what: is done with the part of the requests that is not held out.
    """
    parser.add_argument(
        "--train-share",
        type=float,
        default=0.5,
        metavar="X",
        help=f"part of the requests that is {what}; the others are held out (default: 0.5)",
    )


def case_flags(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which trace, and how its model is served."""
    trace_flags(
        parser,
        "a trace: files, or folders, whose folders are domains (docs/routing.md); or a preset",
    )
    parser.add_argument("--model", required=True, metavar="MODEL", help=WORDS["model"].help)
    changed: dict[str, dict[str, Any]] = {
        "gpus": {"required": True, "help": "accelerators"},
        "tp": {"help": "tensor-parallel ranks (default: 1)"},
        "ep": {
            "default": None,
            "help": "groups that hold different experts (default: all ranks of a stage)",
        },
        "attention-dp": {
            "default": None,
            "help": "groups with requests of their own (default: what tp, cp, pp and dp leave)",
        },
        "batch": {
            "default": None,
            "help": f"requests in flight (default: {PER_GPU} on each accelerator)",
        },
    }
    add_words(parser, (*_PLAN, *REQUESTS), changed)
    parser.add_argument(
        "--nodes",
        type=COUNT,
        metavar="N",
        help="nodes of equally many accelerators (default: as the system's file says)",
    )
    add_set(parser)
    parser.add_argument(
        "--phase",
        choices=("prefill", "decode"),
        help="whose tokens count (default: decode, where the trace has such)",
    )


class Served(NamedTuple):
    """A trace, and the scenario that it is served in.

    Arguments:
        case: the scenario.
        source: the trace, or counts.
        layers: the model's indices of its layers.
        kinds: the kind of each of these layers.
        phase: "prefill" or "decode".
        limit: groups of neighbouring experts, and those that a token's are in; 1, 1: not limited.
        name: the trace's name, for people.
    """

    case: Any
    source: Any
    layers: tuple[int, ...]
    kinds: tuple[int, ...]
    phase: str
    limit: tuple[int, int]
    name: str


def served(options: argparse.Namespace) -> Served:
    """The trace and the scenario that options ask for."""
    from diffgenz.core.errors import InputError
    from diffgenz.routing.asked import read_trace
    from diffgenz.routing.deployment import expert_block, expert_layers, layout_of, model_layers
    from diffgenz.routing.trace import PHASES, Trace
    from diffgenz.scenario.from_words import from_words

    check_trace(options)
    words = words_in(options, (*_PLAN, *REQUESTS)) | {"model": options.model}
    words["tp"] = tensor = words["tp"] or 1
    others = tensor * words["cp"] * words["pp"] * words["dp"]
    if words["attention-dp"] is None:
        if others < 1 or options.gpus % others:
            raise InputError(
                f"--gpus: {options.gpus} accelerators do not divide over the {others} of tp, cp, "
                "pp and dp; give --attention-dp"
            )
        words["attention-dp"] = options.gpus // others
    words["ep"] = words["ep"] or tensor * words["cp"] * words["attention-dp"]
    words["batch"] = words["batch"] or PER_GPU * options.gpus
    settings = list(options.set)
    if options.nodes is not None:
        if options.gpus % options.nodes:
            raise InputError(
                f"--nodes: {options.gpus} accelerators do not divide over {options.nodes} nodes; "
                "give a number that divides them"
            )
        settings.append(f"network.0.size={options.gpus // options.nodes}")
    case = from_words(words, settings=settings).scenario
    layout_of(case)
    source = read_trace(
        options.trace, experts=options.experts, k=options.top_k, model=None, seed=options.seed
    )
    layers = model_layers(source, case.model)
    known = expert_layers(case.model)
    block = expert_block(case.model, known[layers[0]])
    limit = (1, 1)
    if block.groups is not None and block.groups_used is not None:
        limit = (int(block.groups), int(block.groups_used))
    phase = options.phase
    if phase is None:
        decodes = not isinstance(source, Trace) or (source.phase == PHASES.index("decode")).any()
        phase = "decode" if decodes else "prefill"
    name = ", ".join(Path(each).name for each in options.trace)
    kinds = tuple(known[layer] for layer in layers)
    return Served(case, source, layers, kinds, phase, limit, name)


def halves(source: Any, share: float, seed: int) -> tuple[Any, Any]:
    """A part of the requests for training, and the others, which are held out.

    Arguments:
        source: a trace.
        share: of the requests that are for training, above 0 and below 1.
        seed: of the random numbers.

    Raises:
        InputError: a share that is not allowed, or too few requests.
    """
    import numpy as np

    from diffgenz.core.errors import InputError

    if not 0 < share < 1:
        raise InputError(f"--train-share: {share:g} is not allowed; give one above 0 and below 1")
    requests = np.random.default_rng(seed).permutation(source.requests)
    first = min(max(round(share * len(requests)), 1), len(requests) - 1)
    if len(requests) < 2:
        raise InputError(
            f"trace: has {len(requests)} requests, none of which can be held out; record two or "
            "more"
        )
    return source.split(requests[:first])


def title(served: Served) -> str:
    """What is served on what, for people."""
    from diffgenz.routing.deployment import layout_of

    case = served.case
    nodes, ranks = layout_of(case)
    plan = case.plan
    return (
        f"{case.model.name} on {int(plan.ranks)} x {case.platform.accelerator.name}: "
        f"{nodes} nodes of {ranks} expert-parallel ranks; batch {float(case.workload.batch):g}, "
        f"{float(case.workload.input_tokens):g} tokens in, "
        f"{float(case.workload.output_tokens):g} out"
    )
