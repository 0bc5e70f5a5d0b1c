"""What it costs to move from one placement to another: the experts that ranks have to fetch."""

import dataclasses

import numpy as np
from scipy.optimize import linear_sum_assignment

from diffgenz.core.checks import check
from diffgenz.core.errors import InputError
from diffgenz.routing.placement import Placement


@dataclasses.dataclass(frozen=True)
class Migration:
    """The time of fetching experts, spread over the steps that a placement serves.

    Arguments:
        expert_seconds: s in which a rank fetches one expert of one layer: its bytes over the
            bandwidth of the rank, at least 0.
        steps: iterations until experts are placed anew, at least 1.
    """

    expert_seconds: float
    steps: float

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check("expert_seconds", self.expert_seconds)
        check("steps", self.steps, minimum=1)

    def seconds(self, new: Placement, present: Placement) -> np.ndarray:
        """Seconds of each layer and step, [layers]: ranks fetch at the same time.

        Arguments:
            new: where experts go.
            present: where they are.
        """
        return fetched(new, present).max(1) * self.expert_seconds / self.steps


def fetched(new: Placement, present: Placement) -> np.ndarray:
    """How many slots of each rank hold an expert that the rank lacked: [layers, ranks].

    Arguments:
        new: where experts go.
        present: where they are.
    """
    _check(new, present)
    return (
        _missing(new, present)
        .transpose(0, 1, 3, 2)
        .diagonal(axis1=2, axis2=3)
        .reshape(new.layers, new.ranks)
    )


def aligned(new: Placement, present: Placement) -> Placement:
    """The same placement, the ranks of each node renamed so that they fetch fewest experts.

    Ranks of a node are alike where all have equally many slots; elsewhere nothing is renamed.

    Arguments:
        new: where experts go.
        present: where they are.
    """
    _check(new, present)
    if not new.even:
        return new
    shape = (new.layers, new.nodes, new.ranks_per_node, -1)
    slots = new.slots.reshape(shape).copy()
    missing = _missing(new, present)
    for layer, node in np.ndindex(new.layers, new.nodes):
        rank, place = linear_sum_assignment(missing[layer, node])
        slots[layer, node, place] = slots[layer, node, rank]
    return dataclasses.replace(new, slots=slots.reshape(new.slots.shape))


def _missing(new: Placement, present: Placement) -> np.ndarray:
    """[layers, nodes, ranks, ranks]: slots of a node's new rank that a present rank of it lacks."""
    held, wanted = _held(present), _held(new)
    return np.maximum(wanted[:, :, :, None] - held[:, :, None], 0).sum(-1)


def _held(placement: Placement) -> np.ndarray:
    """[layers, nodes, ranks of a node, experts]; how many slots of each rank hold each expert."""
    layers, experts = placement.layers, placement.experts
    start = np.arange(layers)[:, None] * placement.ranks + placement.rank_of_slot
    flat = np.bincount(
        (start * experts + placement.slots).ravel(), minlength=layers * placement.ranks * experts
    )
    return flat.reshape(layers, placement.nodes, placement.ranks_per_node, experts)


def _check(new: Placement, present: Placement) -> None:
    for name in ("layers", "experts", "nodes", "ranks_per_node"):
        if getattr(new, name) != getattr(present, name):
            raise InputError(
                f"present: has {getattr(present, name)} {name}, not {getattr(new, name)}; give the "
                "present placement of the same model on the same ranks"
            )
