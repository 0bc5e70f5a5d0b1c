"""`diffgenz routing synthesize`: a trace drawn from a generative model of routing."""

import argparse
from pathlib import Path
from typing import Any


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "model",
        metavar="PRESET|PARAMS.toml|TRACE",
        help="a preset, a file of parameters, or a trace that they are fitted to first",
    )
    parser.add_argument("--requests", type=int, default=256, metavar="N", help="how many requests")
    parser.add_argument(
        "--isl", type=int, default=64, metavar="N", help="prompt tokens of a request"
    )
    parser.add_argument(
        "--osl", type=int, default=128, metavar="N", help="generated tokens of a request"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random numbers")
    parser.add_argument("--out", metavar="FILE.npz", help="where the trace goes")
    parser.add_argument(
        "--params-out", metavar="FILE.toml", help="where the parameters go, to be changed or kept"
    )


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """Draw a trace, and write it: text and JSON."""
    from diffgenz.core.errors import InputError
    from diffgenz.core.files import written_aside
    from diffgenz.routing.moments import NAMES, moments
    from diffgenz.routing.synthetic import synthesize
    from diffgenz.routing.synthetic_files import text_of
    from diffgenz.ui.cli.progress import progress_line
    from diffgenz.ui.tables import number, table

    for flag, name, ending in (
        ("--out", options.out, ".npz"),
        ("--params-out", options.params_out, ".toml"),
    ):
        if name is not None and not name.endswith(ending):
            raise InputError(f"{flag}: {name} does not end in {ending}; write {name}{ending}")
    with progress_line() as line:
        model = _model(options.model, options.seed, line)
        trace = synthesize(
            model,
            options.requests,
            options.isl,
            options.osl,
            seed=options.seed,
            progress=line
            and (lambda done: line.write(f"drawing: layer {done} of {len(model.layers)}")),
        )
    have = moments(trace)
    if options.out is not None:
        trace.save(Path(options.out))
    if options.params_out is not None:
        path = Path(options.params_out)
        with written_aside(path, "--params-out") as aside:
            aside.write_text(text_of(model), encoding="utf-8")
    found = {name: value for name in NAMES if (value := getattr(have, name)) == value}
    size = (
        f"{trace.tokens:,} tokens of {options.requests:,} requests, {len(trace.layers)} layers, "
        f"{trace.k} of {trace.experts} experts"
    )
    lines = [f"{model.model or options.model}: {model.source}", "", size, ""]
    lines.append(
        table(
            ("statistic of the trace", "value"),
            [(name.replace("_", " "), number(value)) for name, value in found.items()],
            "lr",
        )
    )
    lines += [f"\nwritten to {name}" for name in (options.out, options.params_out) if name]
    data = {
        "model": model.model,
        "source": model.source,
        "basis": model.basis,
        "tokens": trace.tokens,
        "requests": options.requests,
        "layers": len(trace.layers),
        "moments": found,
        "out": options.out,
    }
    return "\n".join(lines), data


def _model(name: str, seed: int, line: Any) -> Any:
    """The generative model that is asked for: shipped, in a file, or fitted to a trace."""
    import dataclasses

    from diffgenz.routing.fit_synthetic import fit_synthetic
    from diffgenz.routing.source import load_trace
    from diffgenz.routing.synthetic_files import load_synthetic

    if not Path(name).is_file() or name.endswith(".toml"):
        return load_synthetic(name)
    trace = load_trace(Path(name))
    fitted = fit_synthetic(
        trace, seed=seed, progress=line and (lambda drawn: line.write(f"fitting: draw {drawn}"))
    )
    return dataclasses.replace(
        fitted, source=f"Fitted to {Path(name).name}, {trace.tokens:,} tokens"
    )
