"""A trace and a placement against a scenario: whether they are of its model and plan, and where.

Layers of a trace are numbered as the model's own; a placement has the model's layers with experts
in their order. Expert-parallel groups of a plan are the ranks of a placement, and the accelerators
that the innermost level of the network joins are a node.
"""

from typing import NamedTuple

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.models.blocks.moe import MoE
from diffgenz.models.model import Model
from diffgenz.routing.placement import Placement
from diffgenz.routing.trace import Counts, Trace
from diffgenz.scenario.scenario import Scenario


class Layout(NamedTuple):
    """The expert-parallel ranks of a plan.

    Arguments:
        nodes: nodes.
        ranks_per_node: groups of ranks with experts of their own, on each node.
    """

    nodes: int
    ranks_per_node: int


def layout_of(case: Scenario) -> Layout:
    """The nodes of a scenario, and the expert-parallel groups of each.

    Arguments:
        case: a concrete scenario with a plan.

    Raises:
        InputError: expert-parallel groups do not lie evenly over nodes.
    """
    ranks, groups = int(case.plan.stage), int(case.plan.expert)
    network = case.platform.network
    nodes = -(-ranks // int(network[0].size)) if network else 1
    if groups % nodes:
        raise InputError(
            f"ep: {groups} groups of experts do not lie evenly over {nodes} nodes; give a multiple "
            f"of {nodes}, so that each node has some"
        )
    return Layout(nodes, groups // nodes)


def expert_layers(model: Model) -> dict[int, int]:
    """The kind of each layer that has experts, by its index in the model, ascending.

    Kinds are counted from 0 in the order of the model's blocks. Layers of a model that does not say
    where they are count from 0, kind after kind.

    Arguments:
        model: a model.

    Raises:
        InputError: it has no experts.
    """
    blocks = [each for each in model.blocks if isinstance(each.block, MoE)]
    if not blocks:
        raise InputError(f"trace: {model.name} has no experts to place; leave it out")
    found: dict[int, int] = {}
    for kind, each in enumerate(blocks):
        places = each.at or range(len(found), len(found) + int(each.count))
        found |= dict.fromkeys(places, kind)
    return dict(sorted(found.items()))


def expert_block(model: Model, kind: int) -> MoE:
    """The block of one kind of layers with experts.

    Arguments:
        model: a model.
        kind: which, counted from 0 in the order of the model's blocks.
    """
    return [each.block for each in model.blocks if isinstance(each.block, MoE)][kind]


def model_layers(source: Trace | Counts, model: Model) -> tuple[int, ...]:
    """The model's indices of the layers of a trace.

    Engines that count layers with experts only, from 0, are understood where all are recorded.

    Arguments:
        source: what was recorded.
        model: the model that it should be of.

    Raises:
        InputError: layers, experts or choices of a token are not the model's.
    """
    known = expert_layers(model)
    layers = tuple(source.layers)
    if layers == tuple(range(len(known))):
        layers = tuple(known)
    kinds = sorted({known[layer] for layer in layers if layer in known}) or [0]
    for block in (expert_block(model, kind) for kind in kinds):
        if int(block.routed) != source.experts:
            raise InputError(
                f"trace: has {source.experts} experts per layer, {model.name} {int(block.routed)}; "
                "the trace is of another model, or say --experts where its files do not"
            )
        if source.k is not None and int(block.used) != source.k:
            raise InputError(
                f"trace: its tokens choose {source.k} experts, those of {model.name} "
                f"{int(block.used)}; the trace is of another model"
            )
    for layer in layers:
        if layer not in known:
            raise InputError(
                f"trace: layer {layer} of {model.name} has no experts, which are in "
                f"{len(known)} layers, {min(known)} to {max(known)}; the trace is of another model"
            )
    return layers


def recorded(placement: Placement, layers: tuple[int, ...], case: Scenario) -> Placement:
    """The placement of the layers that a trace has.

    Arguments:
        placement: of all layers of the model that have experts, or of those of the trace.
        layers: the model's indices of the layers of the trace.
        case: the scenario that it is for.

    Raises:
        InputError: layers, experts, nodes or ranks are not those of the scenario.
    """
    known = expert_layers(case.model)
    layout = layout_of(case)
    experts = int(expert_block(case.model, known[layers[0]]).routed)
    if placement.experts != experts or placement.layers not in (len(known), len(layers)):
        raise InputError(
            f"placement: has {placement.layers} layers of {placement.experts} experts, "
            f"{case.model.name} {len(known)} of {experts}; give a placement of this model"
        )
    if (placement.nodes, placement.ranks_per_node) != layout:
        raise InputError(
            f"placement: is for {placement.nodes} nodes of {placement.ranks_per_node} ranks, the "
            f"plan has {layout.nodes} of {layout.ranks_per_node}; place for this plan "
            "(diffgenz routing place)"
        )
    if placement.layers == len(layers):
        return placement
    at = {layer: index for index, layer in enumerate(known)}
    return placement.select(np.array([at[layer] for layer in layers]))


def of_all_layers(placement: Placement, layers: tuple[int, ...], model: Model) -> Placement:
    """The placement of all layers with experts: those that no trace has get experts in order.

    Arguments:
        placement: of some layers.
        layers: the model's indices of these layers.
        model: the model.
    """
    known = list(expert_layers(model))
    return placement.among([known.index(layer) for layer in layers], len(known))
