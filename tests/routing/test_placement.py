"""Placements: what is refused, how slots lie, files and exports, packing."""

import json

import numpy as np
import pytest

from diffgenz.core.errors import InputError
from diffgenz.routing.baselines import linear, random, round_robin
from diffgenz.routing.packing import pack, packed_copies
from diffgenz.routing.placement import Placement
from diffgenz.routing.placement_files import (
    export_sglang,
    export_vllm_ascend,
    load_placement,
    save_placement,
)

SMALL = Placement([[3, 0, 1, 2, 0, 3], [0, 1, 2, 3, 1, 2]], 4, 2, 1)


def test_slots_lie_by_node_and_rank():
    uneven = linear(1, 10, 2, 3, 10)  # 5 slots of a node on 3 ranks
    np.testing.assert_array_equal(uneven.rank_of_slot, [0, 0, 1, 1, 2, 3, 3, 4, 4, 5])
    np.testing.assert_array_equal(uneven.node_of_slot, [0] * 5 + [1] * 5)
    assert not uneven.even
    np.testing.assert_array_equal(SMALL.copies[0], [[1, 1, 0, 1], [1, 0, 1, 1]])


@pytest.mark.parametrize(
    ("slots", "experts", "nodes", "ranks", "match"),
    [
        ([[0, 1, 2]], 4, 1, 1, "slots: 3 cannot hold 4 experts"),
        ([[0, 1, 2, 3]], 4, 2, 4, "4 slots of 4 experts leave some of the 8 ranks empty"),
        ([[0, 1, 2, 3, 0]], 4, 2, 1, "slots: 5 do not divide by the 2 nodes"),
        ([[0, 1, 2, 2]], 4, 2, 1, "expert 3 has no slot in the layer at position 0"),
        ([[0, 1, 2, 4]], 4, 2, 1, "expert 4 is out of range"),
        ([[0, 1, 2, -1]], 4, 2, 1, "expert -1 is out of range"),
        ([0, 1, 2, 3], 4, 2, 1, "layers, slots"),
        ([[0.0, 1.0, 2.0, 3.0]], 4, 2, 1, "whole numbers"),
        ([[0, 1, 2, 3]], 4, 0, 1, "nodes: 0 is not allowed"),
    ],
)
def test_what_is_no_placement(slots, experts, nodes, ranks, match):
    with pytest.raises(InputError, match=match):
        Placement(slots, experts, nodes, ranks)


@pytest.mark.parametrize("name", ["a.json", "a.npz"])
def test_a_file_gives_back_what_was_saved(tmp_path, name):
    save_placement(SMALL, tmp_path / name)
    again = load_placement(tmp_path / name)
    np.testing.assert_array_equal(again.slots, SMALL.slots)
    assert (again.experts, again.nodes, again.ranks_per_node) == (4, 2, 1)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"slots": 1}', '{"slots": [[0]], "experts": "x", "nodes": 1}', "\xff"]
)
@pytest.mark.parametrize("name", ["a.json", "a.npz"])
def test_what_is_no_file_of_a_placement(tmp_path, text, name):
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="is no placement"):
        load_placement(tmp_path / name)


def test_a_pickle_is_not_opened(tmp_path):
    np.savez(tmp_path / "a.npz", slots=np.array([[object()]], dtype=object))
    with pytest.raises(InputError, match="is no placement"):
        load_placement(tmp_path / "a.npz")


def test_sglang_gets_a_row_for_every_layer(tmp_path):
    export_sglang(SMALL, tmp_path / "a.json", (1, 3), 5)
    content = json.loads((tmp_path / "a.json").read_text())
    assert list(content) == ["physical_to_logical_map"]
    rows = content["physical_to_logical_map"]
    in_order = [0, 1, 2, 3, 0, 1]
    assert rows == [in_order, SMALL.slots[0].tolist(), in_order, SMALL.slots[1].tolist(), in_order]


def test_vllm_ascend_gets_the_experts_of_each_device(tmp_path):
    export_vllm_ascend(SMALL, tmp_path / "a.json", (1, 3))
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["moe_layer_count"] == 2
    layer = content["layer_list"][1]
    assert (layer["layer_id"], layer["device_count"]) == (3, 2)
    assert [device["device_expert"] for device in layer["device_list"]] == [[0, 1, 2], [3, 1, 2]]


def test_engines_demand_equal_ranks(tmp_path):
    uneven = linear(1, 10, 2, 3, 10)
    with pytest.raises(InputError, match="place with 12 slots"):
        export_sglang(uneven, tmp_path / "a.json", (0,), 1)
    with pytest.raises(InputError, match="do not name the 1 layers"):
        export_vllm_ascend(linear(1, 4, 2, 1, 4), tmp_path / "a.json", (0, 1))
    with pytest.raises(InputError, match="3 is not a layer"):
        export_sglang(SMALL, tmp_path / "a.json", (1, 3), 3)


def test_packing_by_hand():
    # 5 4 3 3 3 onto bins of 3 and 2 places: 5 and 4 part, 3 joins 4, 3 joins 5, 3 the one with room
    load = np.array([3.0, 5.0, 3.0, 4.0, 3.0])
    bins = pack(load, np.array([3, 2]))
    assert sorted(np.bincount(bins)) == [2, 3]
    assert bins[1] != bins[3]
    assert np.bincount(bins, load, 2).max() == 10


def test_copies_of_an_expert_go_to_different_ranks():
    copies = np.zeros((1, 2, 6), int)
    copies[0, 0, :3], copies[0, 1, 3:] = 2, 1
    copies[0, 1, :2] = 2, 1
    counts = np.ones((1, 2, 6))
    counts[0, :, [0, 2]] = 30
    placement = packed_copies(copies, counts, 2)
    np.testing.assert_array_equal(placement.copies, copies)
    for rank in range(4):
        held = placement.slots[0, placement.rank_of_slot == rank]
        assert len(set(held)) == len(held)


def test_baselines_hold_what_they_say():
    np.testing.assert_array_equal(linear(1, 4, 2, 1, 6).slots, [[0, 1, 2, 3, 0, 1]])
    np.testing.assert_array_equal(round_robin(1, 8, 2, 2).slots, [[0, 4, 1, 5, 2, 6, 3, 7]])
    shuffled = random(3, 8, 2, 2, 8, seed=1)
    np.testing.assert_array_equal(np.sort(shuffled.slots, axis=1), np.tile(np.arange(8), (3, 1)))
    assert (shuffled.slots[0] != shuffled.slots[1]).any()
