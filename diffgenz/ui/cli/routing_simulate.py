"""`diffgenz routing simulate`: the traffic and the load that a placement gives a trace."""

import argparse
from pathlib import Path
from typing import Any

from diffgenz.ui.cli.flags import add_plot
from diffgenz.ui.cli.routing_case import case_flags, served

MOST = 32768
"""Tokens of an iteration that are drawn, at most: more are as even."""


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    case_flags(parser)
    parser.add_argument(
        "--placement",
        metavar="FILE",
        help="where experts are, as `diffgenz routing place` writes it (default: in order)",
    )
    parser.add_argument(
        "--rule",
        choices=("local-first", "even"),
        default="local-first",
        help="how a token chooses among replicas (default: local-first)",
    )
    add_plot(parser, "draw who sends to whom")


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """The traffic of the trace, beside that of experts in order: text and JSON."""
    from diffgenz.routing.baselines import linear
    from diffgenz.routing.batches import batches_of
    from diffgenz.routing.case_time import CaseTime
    from diffgenz.routing.deployment import layout_of, recorded
    from diffgenz.routing.placement_files import load_placement
    from diffgenz.routing.replicas import Rule
    from diffgenz.routing.routed import of_phase, traffic_of
    from diffgenz.routing.trace import Trace
    from diffgenz.ui.cli.progress import progress_line
    from diffgenz.ui.plots.figure import check_picture
    from diffgenz.ui.plots.routing_traffic import matrices_plot
    from diffgenz.ui.text.routing_simulate import Simulated, simulated_json, simulated_text

    if options.plot is not None:
        check_picture(Path(options.plot))
    asked = served(options)
    nodes, ranks = layout_of(asked.case)
    experts, layers = asked.source.experts, len(asked.layers)
    least = -(-max(experts, nodes * ranks) // nodes) * nodes
    placements = {"linear": linear(layers, experts, nodes, ranks, least)}
    if options.placement is not None:
        loaded = load_placement(options.placement)
        placements[Path(options.placement).name] = recorded(loaded, asked.layers, asked.case)
    source, _ = of_phase(asked.source, asked.phase)
    time, rule = CaseTime(asked.case, asked.phase, asked.kinds), Rule(options.rule)
    found = {}
    with progress_line() as line:
        for name, placement in placements.items():
            if line is not None:
                line.write(f"simulating {name}")
            batches = None
            if isinstance(source, Trace):
                tokens = min(max(round(time.tokens), 1), MOST)
                batches = batches_of(source, placement, tokens, rule=rule, seed=options.seed)
            both = traffic_of(source, placement, None, rule)
            found[name] = Simulated(both, batches, time.token_bytes, time.tokens)
    text = simulated_text(asked, found, time.deduplicated)
    if options.plot is not None:
        shown = {
            name: (each.both.once if time.deduplicated else None) or each.both.each
            for name, each in found.items()
        }
        pairs = {name: each.to_nodes.mean(0) / each.tokens for name, each in shown.items()}
        scale = next(iter(pairs.values())).mean()
        drawn = {name: each / scale for name, each in pairs.items()}
        matrices_plot(drawn, Path(options.plot), asked.case.model.name)
        text += f"\nwrote {options.plot}"
    return text, simulated_json(asked, found, time.deduplicated)
