"""`diffgenz routing group`: requests in groups by the experts that they use, one for each node."""

import argparse
from typing import Any

from diffgenz.ui.cli.routing_case import case_flags, halves, served, train_share


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    case_flags(parser)
    parser.add_argument(
        "--placement",
        metavar="FILE",
        help="where experts are (default: placed for the groups)",
    )
    train_share(parser, "learned from")
    parser.add_argument(
        "--band",
        type=float,
        default=0.1,
        metavar="X",
        help="how many more requests than the mean a node may have when they are sent one by one "
        "(default: 0.1)",
    )
    parser.add_argument(
        "--out", metavar="FILE", help="save the node of each request held out as .json"
    )


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """Group, place, and say what is kept on nodes of requests held out: text and JSON."""
    import json
    from pathlib import Path

    from diffgenz.core.checks import check
    from diffgenz.core.errors import InputError
    from diffgenz.core.files import written_aside
    from diffgenz.routing.case_time import CaseTime
    from diffgenz.routing.deployment import layout_of, recorded
    from diffgenz.routing.effects import Trial, effect, gains
    from diffgenz.routing.grouped import group_requests, grouping_of, sent, with_both_phases
    from diffgenz.routing.place import place
    from diffgenz.routing.placement_files import load_placement
    from diffgenz.routing.routed import of_phase
    from diffgenz.routing.trace import Trace
    from diffgenz.ui.cli.progress import progress_line
    from diffgenz.ui.text.routing_group import grouped_json, grouped_text

    check("band", options.band)
    if options.out is not None and Path(options.out).suffix != ".json":
        raise InputError(f"--out: {Path(options.out).name!r} does not end in .json")
    asked = served(options)
    if asked.phase != "decode":
        raise InputError("--phase: requests are grouped by their decode; record both phases")
    if not isinstance(asked.source, Trace):
        raise InputError("trace: counts do not tell requests, which are grouped; give tokens")
    nodes, ranks = layout_of(asked.case)
    if nodes < 2:
        raise InputError("nodes: there is one; requests are grouped over two or more")
    time = CaseTime(asked.case, "decode", asked.kinds)
    whole = with_both_phases(asked.source)
    train, test = halves(whole, options.train_share, options.seed)
    with progress_line() as line:
        told = (lambda text: None) if line is None else line.write
        told("grouping requests")
        group = group_requests(train, nodes, options.seed)
        if options.placement is not None:
            where = recorded(load_placement(options.placement), asked.layers, asked.case)
        else:
            told("placing experts")
            part, own = of_phase(train, "decode", group)
            where = (
                place(
                    part,
                    nodes,
                    ranks,
                    node=own,
                    layer_time=time,
                    tokens_per_rank=time.tokens / (nodes * ranks),
                    deduplicated=time.deduplicated,
                    groups=asked.limit[0] if asked.limit[0] > 1 else None,
                    seed=options.seed,
                )
                .candidates["ours"]
                .placement
            )
        told("testing")
        node = sent(train, test, where)
        answers, own = of_phase(test, "decode", node)
        spread, grouped = Trial(where), Trial(where, own)
        effects = {
            "requests at random": effect(asked.case, answers, spread, time, "decode"),
            "by their prompts": effect(asked.case, answers, grouped, time, "decode"),
        }
        saved = gains(answers, spread, grouped, time, limit=asked.limit)
        found = grouping_of(train, test, where, band=options.band, seed=options.seed)
    text = grouped_text(asked, found, effects, len(train.requests), len(test.requests))
    if options.out is not None:
        of_request = dict(zip(map(str, test.requests.tolist()), node.tolist(), strict=True))
        with written_aside(Path(options.out), "--out") as aside:
            aside.write_text(json.dumps(of_request) + "\n", encoding="utf-8")
        text += f"\nwrote {options.out}"
    return text, grouped_json(asked, found, effects, saved)
