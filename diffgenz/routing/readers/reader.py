"""What a reader is: how it knows a file, and how it reads one in pieces."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.routing.trace import Counts, Trace

BLOCK = 1 << 22
"""Choices (tokens x layers x k) that a piece of a trace holds, about."""


class Asked(NamedTuple):
    """What people say of a file that the file itself may not.

    Arguments:
        experts: routed experts per layer; None: as the file says, or its largest id plus 1.
        k: experts that a token chooses in a layer; needed by files that keep no shapes.
        model: the name of the model; chooses among those of a file.
    """

    experts: int | None = None
    k: int | None = None
    model: str | None = None


class Reader(NamedTuple):
    """A reader of one kind of file.

    Arguments:
        name: what it reads, for people.
        knows: whether it reads the file at a path.
        read: yields the pieces of a file, each some tokens as a `Trace`, or counts. Requests are
            numbered as the file has them; the tokens of one stand together.
        declares: whether the first piece has the experts and domains of the whole file.
    """

    name: str
    knows: Callable[[Path], bool]
    read: Callable[[Path, Asked], Iterator[Trace | Counts]]
    declares: bool = False


def experts_of(chosen: np.ndarray, asked: Asked, declared: int | None = None) -> int:
    """How many experts a layer has: as asked, as the file declares, or the largest id plus 1.

    Arguments:
        chosen: [tokens, layers, k]; the chosen experts.
        asked: what people say.
        declared: what the file says.

    Raises:
        InputError: people and the file disagree.
    """
    if declared is not None and asked.experts is not None and declared != asked.experts:
        raise InputError(
            f"experts: {asked.experts} are asked for, the file has {declared}; "
            "give the trace of that model"
        )
    known = asked.experts or declared
    return known if known else max(int(chosen.max(initial=0)) + 1, chosen.shape[2], 1)


def routed(
    chosen: np.ndarray, layers: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leaves out what engines write where nothing was chosen.

    That is -1 for slots beyond the model's k, for layers without experts and for padding tokens; a
    layer without experts may have zeros, too.

    Arguments:
        chosen: [tokens, layers, k]; expert ids, -1 for none.
        layers: the model's indices of the layers. Default: 0, 1, ...

    Returns:
        The chosen experts; the indices of the layers kept; a mask of the tokens kept.

    Raises:
        InputError: a token has experts in some layers only, or different numbers of them.
    """
    known = np.arange(chosen.shape[1]) if layers is None else layers
    some = chosen >= 0
    kept = some.any(axis=(0, 2))
    if chosen.shape[2] > 1:  # nobody chooses an expert twice
        kept &= ~np.all(chosen == 0, axis=(0, 2))
    slots = some.any(axis=(0, 1))
    chosen, known = chosen[:, kept][:, :, slots], known[kept]
    some = chosen >= 0
    tokens: np.ndarray = np.any(some, axis=(1, 2))
    chosen = chosen[tokens]
    bad = np.argwhere(chosen < 0)
    if len(bad):
        token, layer, _slot = (int(i) for i in bad[0])
        raise InputError(
            f"chosen: token {token} has fewer experts than others in layer {int(known[layer])}; "
            "record all layers of all tokens, with the same top-k"
        )
    return chosen, known, tokens
