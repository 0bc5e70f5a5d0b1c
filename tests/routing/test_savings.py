"""What placements save, by nodes and slots."""

import pytest
from support import make_cluster

from diffgenz import InputError, Parallelism, Scenario, Workload, load_model
from diffgenz.routing.expected import visited
from diffgenz.routing.savings import node_counts, saved_by_size
from diffgenz.routing.synthetic import Synthetic, synthesize

LITE = load_model("deepseek-ai/DeepSeek-V2-Lite")


def case_of(ranks, expert):
    plan = Parallelism(1, expert=expert, attention_data=ranks)
    return Scenario(LITE, make_cluster(ranks), Workload(64 * ranks, 200, 20), plan)


def test_numbers_of_nodes_are_those_that_divide_ranks_and_experts():
    assert node_counts(case_of(16, 16)) == [2, 4, 8, 16]
    assert node_counts(case_of(16, 4)) == [2, 4]
    assert node_counts(case_of(12, 4)) == [2, 4]
    assert node_counts(case_of(16, 1)) == []


def test_blocks_and_replicas_save_and_slots_that_do_not_add_up_are_left_out():
    """Blocks that are chosen together save copies.

    72 slots are 9 on each of 8 ranks, and so on 2, 4 and 8 nodes; 66 add up on 2 alone.
    """
    router = Synthetic(
        64,
        6,
        (4,),
        popularity=0.8,
        partitions=1,
        blocks=8,
        block_choices=1,
        block_bonus=8.0,
        popularity_spread=0.0,
    )
    past, coming = synthesize(router, 60, 0, 30, seed=1).halves()
    found = saved_by_size(case_of(8, 8), past, coming, "decode", (0,), slots=(64, 72, 66))
    assert list(found) == [2, 4, 8]
    assert [list(each) for each in found.values()] == [[64, 66, 72], [64, 72], [64, 72]]
    for nodes, by_slots in found.items():
        whole = 1 - 1 / visited(nodes, 64, 6)  # all experts of a token on one node
        assert by_slots[64].bytes == pytest.approx(whole, abs=0.02)
        assert by_slots[64].time > 0.02
        assert whole / 2 < by_slots[72].bytes < 1


def test_one_node_has_nothing_to_compare():
    trace = synthesize(Synthetic(64, 6, (4,)), 4, 0, 10, seed=0)
    with pytest.raises(InputError, match="nodes: 16 accelerators .* lie on one node only"):
        saved_by_size(case_of(16, 1), trace, trace, "decode", (0,))
