"""`diffgenz export`: the launch command of a row that `diffgenz search --out` saved."""

import argparse
import json
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.studies.search.launch_command import ENGINES, launch_command
from diffgenz.ui.cli.flags import COUNT


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("engine", choices=tuple(ENGINES))
    parser.add_argument(
        "results", metavar="FILE", help="what `diffgenz search ... --out FILE.json` saved"
    )
    parser.add_argument(
        "--row", type=COUNT, default=1, help="which of its rows (default: 1, the best)"
    )


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """The launch command of a row of a saved search: text and JSON."""
    path, how = Path(options.results), "diffgenz search ... --out FILE.json"
    try:
        data = json.loads(path.read_text())
        rows = data["best"]
        model, tokens = data["model"], data["input_tokens"] + data["output_tokens"]
        if not 1 <= options.row <= len(rows):
            raise InputError(
                f"--row: {options.row} is not there; the file has rows 1 to {len(rows)}"
            )
        command = launch_command(options.engine, model, rows[options.row - 1], tokens)
    except OSError as error:
        raise InputError(
            f"results: {path} cannot be read: {error.strerror}; save them with: {how}"
        ) from None
    except InputError:
        raise
    except (ValueError, KeyError, TypeError):
        raise InputError(f"results: {path} is not what `{how}` saves") from None
    others = [f"{name} {value}" for name, value in (data.get("serving") or {}).items() if value]
    if others:
        remedy = "set the engine's own options for it"
        command = f"# the search was with {', '.join(others)}: {remedy}\n{command}"
    return command, {"engine": options.engine, "row": options.row, "command": command}
