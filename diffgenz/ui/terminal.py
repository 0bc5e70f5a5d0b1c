"""How wide text may be, and sentences that are broken to fit."""

import os
import shutil
import sys
import textwrap

PIPED = 100
"""Columns where no terminal says how many: as wide as a line of code."""

_LEAST = 40
"""Columns below which text is not broken any further."""


def columns() -> int:
    """The columns of the screen: what COLUMNS says, else the terminal's, else `PIPED`."""
    if "COLUMNS" not in os.environ and not sys.stdout.isatty():
        return PIPED
    return max(_LEAST, shutil.get_terminal_size((PIPED, 24)).columns)


def wrapped(text: str) -> str:
    """`text` with every line that is wider than the screen broken at words.

    What goes on in a further line is indented by two more columns; a remark of a shell command
    goes on as a remark. What is to be copied stays whole: a word that is wider than the screen,
    such as a path, and the lines of a shell command that goes on (" \\" at the end) or ends there.
    """
    within = columns()
    lines = text.split("\n")
    command = [line.endswith("\\") for line in lines]
    pairs = zip(lines, command, [False, *command], strict=False)
    return "\n".join(
        line if own or before else _broken(line, within) for line, own, before in pairs
    )


def _broken(line: str, within: int) -> str:
    if len(line) <= within:
        return line
    indent = " " * (len(line) - len(line.lstrip()))
    further = "# " if line.startswith("# ") else f"{indent}  "
    return "\n".join(
        textwrap.wrap(
            line.strip(),
            within,
            initial_indent=indent,
            subsequent_indent=further,
            break_long_words=False,
            break_on_hyphens=False,
        )
    )
