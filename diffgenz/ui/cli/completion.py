"""Completion by the shell: what argcomplete asks for when Tab is pressed.

Nothing here imports JAX. It runs in a process of its own, in which the shell has set `_ARGCOMPLETE`
(docs/command_line.md says how to switch it on).
"""

import argparse
from collections.abc import Callable, Iterable
from typing import Any

from diffgenz.core.formats import FORMATS
from diffgenz.hardware.specs import list_systems
from diffgenz.kernels.software import NONE, SOFTWARE
from diffgenz.models.files import list_models
from diffgenz.scenario.use_case_figures import USE_CASES
from diffgenz.scenario.words import CHECKPOINT

ASKED = "_ARGCOMPLETE"
"""The variable of the environment by which a shell asks for completion."""

VALUES: dict[str, Callable[[], Iterable[str]]] = {
    "model": list_models,
    "draft_model": lambda: [*list_models(), "mtp"],
    "system": list_systems,
    "draft_system": list_systems,
    "use_case": lambda: USE_CASES,
    "fit": lambda: [*SOFTWARE, NONE],
    **{name: (lambda: FORMATS) for name in ("dtype", "activations", "kv_cache", "messages")},
    "weights": lambda: [*FORMATS, CHECKPOINT],
    "sharpness": lambda: ("1", "2", "4", "8", "hard"),
}
"""What the value of an argument may be, by its name; files are completed besides."""


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell and end the process; without argcomplete, do nothing."""
    try:
        import argcomplete
    except ImportError:
        return
    for each in _parsers(parser):
        for action in each._actions:
            if action.dest in VALUES:
                _let(action, VALUES[action.dest], argcomplete.FilesCompleter())
    argcomplete.autocomplete(parser)


def _parsers(parser: argparse.ArgumentParser) -> Iterable[argparse.ArgumentParser]:
    """A parser and those of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def _let(action: Any, values: Callable[[], Iterable[str]], files: Callable[..., Any]) -> None:
    """Complete an argument by its values, and by files."""

    def completed(prefix: str, **given: Any) -> list[str]:
        known = [value for value in values() if value.startswith(prefix)]
        return known or list(files(prefix, **given))

    action.completer = completed
