"""`diffgenz routing place`: where experts should live, and what that is worth."""

import argparse
from pathlib import Path
from typing import Any

from diffgenz.ui.cli.flags import COUNT, add_plot
from diffgenz.ui.cli.routing_case import case_flags, halves, served, train_share

METHODS = ("best", "linear", "eplb", "balanced", "ours", "present")
ENGINES = ("sglang", "vllm")


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.epilog = (
        "Example: diffgenz routing place dump.pt --model deepseek-ai/DeepSeek-V2-Lite --system "
        "h100_sxm --gpus 16 --out placement.json"
    )
    case_flags(parser)
    parser.add_argument(
        "--slots",
        type=COUNT,
        nargs="+",
        metavar="S",
        help="physical slots of a layer over all ranks, replicas beyond the experts; of several "
        "the fastest is taken (default: the experts)",
    )
    parser.add_argument("--present", metavar="FILE", help="the placement that is in use")
    parser.add_argument(
        "--steps",
        type=COUNT,
        metavar="N",
        help="iterations until experts are placed anew, over which moving them from --present is "
        "spread (default: moving costs nothing)",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="best",
        help="whose placement is written (default: best, the fastest by the model of time)",
    )
    parser.add_argument(
        "--grouped",
        action="store_true",
        help="place for requests in groups, one for each node, that are sent by their prompts",
    )
    train_share(parser, "placed for")
    parser.add_argument("--out", metavar="FILE", help="where the placement goes: .json or .npz")
    parser.add_argument(
        "--export",
        nargs=2,
        action="append",
        default=[],
        metavar=("ENGINE", "FILE"),
        help="write the file that an engine starts from: sglang (--init-expert-location) or vllm "
        "(expert_map_path of its Ascend plug-in); may be given again",
    )
    add_plot(parser, "draw who sends to whom, before and after, and time against slots")
    parser.add_argument(
        "--plot-gain",
        metavar="FILE",
        help="draw what is saved against the number of nodes and --slots (.png, .svg, .pdf): the "
        "same accelerators on 2, 4, 8, ... nodes, placed anew on each",
    )


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """Place, and say what it is worth on requests held out: text and JSON."""
    from diffgenz.core.errors import InputError
    from diffgenz.routing.deployment import of_all_layers
    from diffgenz.routing.placement_files import save_placement
    from diffgenz.ui.cli.progress import progress_line
    from diffgenz.ui.plots.figure import check_picture
    from diffgenz.ui.plots.routing_traffic import matrices_plot, savings_plot
    from diffgenz.ui.text.routing_place import placed_json, placed_text

    for picture in (options.plot, options.plot_gain):
        if picture is not None:
            check_picture(Path(picture))
    if options.out is not None and Path(options.out).suffix not in (".json", ".npz"):
        raise InputError(f"--out: {Path(options.out).name!r} is neither .json nor .npz")
    for engine, file in options.export:
        if engine not in ENGINES:
            raise InputError(f"--export: {engine!r} is not known; choose from {', '.join(ENGINES)}")
        if Path(file).suffix != ".json":
            raise InputError(f"--export: {file} does not end in .json, as engines demand")
    if options.method == "present" and options.present is None:
        raise InputError("--method: present is asked for, and no --present placement is given")
    if options.steps is not None and options.present is None:
        raise InputError("--steps: there is no placement to move from; give it as --present")
    asked = served(options)
    with progress_line() as line:
        told = (lambda text: None) if line is None else line.write
        found = _placed(asked, options, told)
        saved = None if options.plot_gain is None else _saved(asked, options, told)
    placement = of_all_layers(found.chosen, asked.layers, asked.case.model)
    text = placed_text(asked, found)
    if options.out is not None:
        save_placement(placement, options.out)
        text += f"\nwrote {options.out}"
    for engine, file in options.export:
        _export(engine, file, placement, asked.case.model)
        text += f"\nwrote {file}, for {engine}"
    if options.plot is not None:
        drawn = Path(options.plot)
        matrices_plot(found.matrices, drawn, asked.case.model.name, found.by_slots)
        text += f"\nwrote {options.plot}"
    data = placed_json(asked, found) | {"out": options.out}
    if saved is not None:
        drawn = Path(str(options.plot_gain))
        savings_plot(saved, found.chosen.experts, drawn, asked.case.model.name)
        text += f"\nwrote {options.plot_gain}"
        data["saved_by_nodes_and_slots"] = {
            str(nodes): {str(slots): each._asdict() for slots, each in by_slots.items()}
            for nodes, by_slots in saved.items()
        }
    return text, data


def _export(engine: str, file: str, placement: Any, model: Any) -> None:
    """Write the file of an engine."""
    from diffgenz.routing.deployment import expert_layers
    from diffgenz.routing.placement_files import export_sglang, export_vllm_ascend

    layers = tuple(expert_layers(model))
    if engine == "vllm":
        export_vllm_ascend(placement, file, layers)
    else:
        export_sglang(placement, file, layers, max(int(model.layers), max(layers) + 1))


def _placed(asked: Any, options: argparse.Namespace, told: Any) -> Any:
    """Place for a part of the requests, and test on the others."""
    from diffgenz.routing.placing import Placing, placing

    train, test = _halves(asked, options)
    present = None
    if options.present is not None:
        from diffgenz.routing.deployment import recorded
        from diffgenz.routing.placement_files import load_placement

        present = recorded(load_placement(options.present), asked.layers, asked.case)
    found: Placing = placing(
        asked.case,
        train,
        test,
        asked.phase,
        asked.kinds,
        slots=options.slots,
        present=present,
        steps=options.steps,
        method=options.method,
        grouped=options.grouped,
        limit=asked.limit,
        seed=options.seed,
        told=told,
    )
    return found


def _halves(asked: Any, options: argparse.Namespace) -> tuple[Any, Any]:
    """What is placed for, and what it is tested on: the same, where no requests are told."""
    from diffgenz.routing.trace import Trace

    if not isinstance(asked.source, Trace):
        return asked.source, asked.source
    return halves(asked.source, options.train_share, options.seed)


def _saved(asked: Any, options: argparse.Namespace, told: Any) -> Any:
    """What is saved, by nodes and slots."""
    from diffgenz.routing.savings import saved_by_size

    train, test = _halves(asked, options)
    return saved_by_size(
        asked.case,
        train,
        test,
        asked.phase,
        asked.kinds,
        slots=options.slots,
        limit=asked.limit,
        seed=options.seed,
        told=told,
    )
