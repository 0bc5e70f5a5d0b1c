"""The collective that a text names, as NCCL's tests and their like call them."""

import re
from pathlib import Path

from diffgenz.core.errors import InputError

FAMILIES = {
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "alltoall": "all_to_all",
}
"""Families by the names of their collectives."""

OTHERS = ("alltoallv", "sendrecv", "broadcast", "gather", "scatter", "hypercube", "reduce")
"""Collectives that no family describes."""

NAME = re.compile("|".join(sorted((*FAMILIES, *OTHERS), key=len, reverse=True)))
"""Finds the longest name of a collective that stands in a text."""


def family_of(text: str, path: Path) -> str | None:
    """The family of the collective that `text` names; None where no family describes it.

    Raises:
        InputError: it names none.
    """
    match = NAME.search(text)
    if match is None:
        raise InputError(
            f"{path}: it does not say which collective it holds; "
            f"name the file after it: {', '.join(FAMILIES)}"
        )
    return FAMILIES.get(match[0])
