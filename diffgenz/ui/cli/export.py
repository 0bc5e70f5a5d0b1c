"""`diffgenz export`: the launch command of a row that `diffgenz search --out` saved."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.ui.cli.flags import COUNT

_ENGINES = ("vllm", "sglang")
_RANKS = {
    "tp": "tensor",
    "cp": "context",
    "attention-dp": "attention_data",
    "pp": "pipeline",
    "dp": "data",
    "ep": "expert",
}


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("engine", choices=_ENGINES)
    parser.add_argument(
        "results", metavar="FILE", help="what `diffgenz search ... --out FILE.json` saved"
    )
    parser.add_argument(
        "--row", type=COUNT, default=1, help="which of its rows (default: 1, the best)"
    )


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """The launch command of a row of a saved search: text and JSON."""
    from diffgenz.scenario.from_words import from_words
    from diffgenz.studies.launch.launch_command import launch_command

    path, how = Path(options.results), "diffgenz search ... --out FILE.json"
    try:
        data = json.loads(path.read_text())
        rows = data["best"]
        if not 1 <= options.row <= len(rows):
            raise InputError(
                f"--row: {options.row} is not there; the file has rows 1 to {len(rows)}"
            )
        words = _words(data["words"], rows[options.row - 1])
    except OSError as error:
        raise InputError(
            f"results: {path} cannot be read: {error.strerror}; save them with: {how}"
        ) from None
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"results: {path} is not what `{how}` saves") from None
    command = launch_command(options.engine, from_words(words).scenario)
    return command, {"engine": options.engine, "row": options.row, "command": command}


def _words(asked: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """The words that say a row: those of the search, its ranks, batch, chunk and formats.

    Engines are not told which experts tokens go to, so that traces need not be there any more.
    Formats that the checkpoint has are taken from there, those of single modules included.
    """
    from diffgenz.models.huggingface import load_model
    from diffgenz.scenario.engines.formats import offered
    from diffgenz.scenario.words import CHECKPOINT

    known = offered(load_model(asked["model"], asked.get("generic", False)))
    formats = {"kv-cache": row["kv_cache"], "weights": row["weights"]}
    if known is not None and row["weights"] in known.checkpoint:
        formats["weights"] = CHECKPOINT
    else:
        formats["activations"] = row["activations"]
    ranks = {word: row[name] for word, name in _RANKS.items()}
    whole = row["chunk"] is None
    chunk = {"chunk": "whole", "mixed": False} if whole else {"chunk": row["chunk"]}
    return {**asked, **ranks, **formats, "batch": row["batch"], **chunk, "routing": None}
