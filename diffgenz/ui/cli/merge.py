"""`diffgenz merge`: one sweep of its shards."""

import argparse
from pathlib import Path
from typing import Any

from diffgenz.ui.cli.cache import cache_compilations


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("folders", metavar="DIR", nargs="+", help="the folders of all its shards")
    parser.add_argument("--out", metavar="DIR", required=True, help="where the whole goes")


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """Merge the shards of a sweep: text and JSON."""
    from diffgenz.studies.sweep.sweep import merge
    from diffgenz.ui.sweep_folder import copy_origin, space_in
    from diffgenz.ui.text.sweep import summary

    cache_compilations()
    first, out = Path(options.folders[0]), Path(options.out)
    space, reductions = space_in(first)
    findings = merge(space, reductions, options.folders, out)
    copy_origin(first, out)
    return summary(findings, options.out, whole=True)
