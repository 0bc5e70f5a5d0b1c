"""GenZ's rules, worked by hand."""

import pytest
from genz.evaluation import Footprint, Timing, measure, run
from genz.graph import RESIDENCY, Graph, Heads, Kernel, Message, Pattern, attend, einsum_law, matmul
from genz.layers import Shape, Split
from genz.memory import place
from genz.phases import chunked, decode, expected_tokens, prefill
from genz.search_subjects import candidates
from genz.system import GIGA, Gear, System

SYSTEM = System(
    peak_flops=4e12,
    memory_bandwidth=1e9,
    on_chip_bandwidth=1e10,
    offload_bandwidth=1e8,
    memory_capacity=1e9,
    link_bandwidth=1e8,
    link_latency=1e-6,
    compute_efficiency=0.5,
    memory_efficiency=0.25,
    comm_efficiency=1.0,
    element_size=2.0,
)

LLAMA = Shape(
    hidden=64,
    vocabulary=1000,
    layers=6,
    heads=8,
    kv_heads=2,
    head_dim=8,
    intermediate=96,
    branches=2,
    experts=1,
    top_k=1,
    moe_intermediate=96,
    shared_experts=0,
    shared_intermediate=96,
    deepseek=False,
    mamba=False,
    state=0,
    conv=0,
    expand=1,
    dt_rank=0,
)

MIXTRAL = LLAMA._replace(experts=8, top_k=2)

LAYER_WEIGHTS = 64 * (64 + 2 * 16) + 64 * 64 + 3 * 64 * 96


def evaluate(*entries, system: System = SYSTEM) -> tuple[Footprint, Timing]:
    """What one graph holds, and its times."""
    measured = measure([Graph(system, tuple(entries))])
    (timing,) = run(measured, [system.memory_bandwidth])
    return measured.footprints[0], timing


@pytest.mark.parametrize(
    ("pattern", "seconds"),
    [
        (Pattern.ALL_REDUCE, 5e-6 + 2 * 3 * 1e-6 + 2 * 3 / 4 * 2000 / 1e8),
        (Pattern.ALL_GATHER, 5e-6 + 3 * 1e-6 + 3 / 4 * 2000 / 1e8),
        (Pattern.ALL_TO_ALL, 5e-6 + 3 * 1e-6 + 3 / 4 * 2000 / 1e8),
        (Pattern.PASS, 1e-6 + 2000 / 1e8),
    ],
)
def test_collectives(pattern, seconds):
    _, timing = evaluate(
        Message("", pattern, 4, 1000),
        Message("", pattern, 4, 0),
        Message("", pattern, 4, 1000, repeats=3),
    )
    assert timing.total == pytest.approx([seconds, 0, seconds], rel=1e-14)
    assert timing.latency == pytest.approx(4 * seconds, rel=1e-14)
    _, slow = evaluate(Message("", pattern, 4, 1000), system=SYSTEM._replace(comm_efficiency=0.5))
    assert slow.latency == pytest.approx(2 * seconds, rel=1e-14)


@pytest.mark.parametrize("pattern", [Pattern.ALL_REDUCE, Pattern.ALL_GATHER, Pattern.ALL_TO_ALL])
def test_one_rank_has_nobody_to_talk_to(pattern):
    assert evaluate(Message("", pattern, 1, 1000))[1].latency == 0


def test_matmul_bound_by_memory():
    footprint, timing = evaluate(matmul("", 3, 5, 7, 2))
    assert footprint == pytest.approx(
        (70, 0, 0, 2 * 2 * 105, 214, 214)
    )  # A, W and O are 42, 35 and 30 elements of 2 B
    assert timing.total == pytest.approx([(84 + 70 + 60) / 1e9 / 0.25])


def test_matmul_bound_by_compute():
    _, timing = evaluate(
        matmul("", 1e4, 1e4, 1e4, 1), system=SYSTEM._replace(memory_bandwidth=1e10)
    )
    assert timing.total == pytest.approx([2e12 / 4e12 / 0.5])
    assert timing.compute == pytest.approx(timing.total)
    assert timing.memory == pytest.approx([3 * 2e8 / 1e10 / 0.25])


@pytest.mark.parametrize(
    ("name", "off_chip"),
    [("All_offchip", 214), ("B_onchip", 144), ("AC_onchip", 70), ("All_onchip", 0)],
)
def test_residency(name, off_chip):
    _, timing = evaluate(matmul("", 3, 5, 7, 2, RESIDENCY[name]))
    assert timing.memory == pytest.approx([(off_chip / 1e9 + (214 - off_chip) / 1e10) / 0.25])


def test_without_arithmetic_there_is_no_time():
    footprint, timing = evaluate(matmul("", 0, 5, 7, 2))
    assert timing.latency == 0
    assert footprint.idle_weights == footprint.weights == 70


def test_attention_reads_keys_once_per_kv_head():
    scores, values = attend("", 2, Heads(8, 2, 16), 3, 5, decoding=False)
    footprint, timing = evaluate(scores, values)
    assert footprint.flops == 2 * 2 * (2 * 8 * 3 * 5 * 16)
    assert footprint.cache == 2 * (2 * 2 * 5 * 16) * 2
    off, on = (2 * 8 * 3 * 16 + 2 * 2 * 5 * 16) * 2, 2 * 8 * 3 * 5 * 2
    assert timing.memory == pytest.approx(2 * [(off / 1e9 + on / 1e10) / 0.25])


def test_einsum_multiplies_distinct_letters():
    footprint, _ = evaluate(
        Kernel("", einsum_law("bdl,bls->bdls"), {"b": 2, "d": 3, "l": 5, "s": 7})
    )
    assert footprint.flops == 2 * 2 * 3 * 5 * 7
    assert footprint.traffic == 2 * (2 * 3 * 5 + 2 * 5 * 7 + 2 * 3 * 5 * 7)


def test_gear_compresses_the_cache_only():
    gear = Gear(core=0.5, outliers=2, rank=4)
    footprint, _ = evaluate(
        *attend("", 1, Heads(4, 1, 16), 1, 100, decoding=True), system=SYSTEM._replace(gear=gear)
    )
    size = 0.5 + 0.02 * 2 + (100 + 16) * 4 / (100 * 16) * 2
    assert footprint.cache == pytest.approx(2 * 1600 * size)
    assert footprint.traffic == pytest.approx(2 * (1600 * size + (64 + 400) * 2))


def test_decode_of_a_dense_model():
    footprint, timing = evaluate(*decode(LLAMA, Split(), 4, 1, 100, 20))
    assert footprint.weights == 2 * (6 * LAYER_WEIGHTS + 1000 * 64)  # no embedding
    assert footprint.cache == 2 * 6 * 4 * 120 * 2 * 16
    assert footprint.flops == 2 * 4 * (6 * LAYER_WEIGHTS + 1000 * 64) + 6 * 4 * 4 * 120 * 64
    layer_activations = 4 * (
        (64 + 96) + (64 + 64) + (64 + 192) + (96 + 64) + 2 * 2 * 64 + 2 * 8 * 120
    )
    classifier = 1000 * 64 + 4 * (64 + 1000)
    held = 6 * (LAYER_WEIGHTS + 4 * 120 * 2 * 16) + classifier
    assert timing.latency == pytest.approx(2 * (held / 1e9 + 6 * layer_activations / 1e10) / 0.25)


def test_prefill_of_a_dense_model():
    footprint, _ = evaluate(*prefill(LLAMA, Split(), 3, 50))
    assert footprint.weights == 2 * (6 * LAYER_WEIGHTS + 2 * 1000 * 64)
    assert (
        footprint.flops == 2 * 150 * (6 * LAYER_WEIGHTS + 2 * 1000 * 64) + 6 * 4 * 3 * 50 * 50 * 64
    )


def test_beams_share_the_prefix():
    footprint, _ = evaluate(*decode(LLAMA, Split(), 4, 3, 100, 20))
    assert footprint.cache == 2 * 6 * (4 * 100 + 12 * 20) * 2 * 16


def test_a_pipeline_adds_messages():
    _, one = evaluate(*decode(LLAMA, Split(), 2, 1, 100, 20))
    _, three = evaluate(*decode(LLAMA, Split(pipeline=3), 2, 1, 100, 20))
    assert three.latency == pytest.approx(one.latency + 2 * (1e-6 + 2 * 64 * 2 / 1e8))


def test_tensor_ranks_reduce_twice_a_layer_and_gather_once():
    _, timing = evaluate(*decode(LLAMA, Split(tensor=2), 2, 1, 100, 20))
    reduce, gather = 5e-6 + 2e-6 + 2 * 64 * 2 / 1e8, 5e-6 + 1e-6 + 2 * 1000 * 2 / 2 / 1e8
    assert timing.communication @ timing.repeats == pytest.approx(12 * reduce + gather)


def test_idle_experts_weigh_but_take_no_time():
    footprint, timing = evaluate(*decode(MIXTRAL, Split(expert=4), 2, 1, 100, 20))
    expert = 3 * 64 * 96
    assert footprint.idle_weights == 2 * 6 * expert  # 2 experts a device, 1 of them active
    dense, _ = evaluate(*decode(LLAMA, Split(tensor=4), 2, 1, 100, 20))
    assert footprint.weights - dense.weights == 2 * 6 * (2 * expert - expert / 4 + 64 * 8)
    assert [
        t
        for e, t in zip(decode(MIXTRAL, Split(expert=4), 2, 1, 100, 20), timing.total, strict=True)
        if e.name == "up+gate"
    ][1] == 0


def test_experts_without_tokens_cost_nothing():
    entries = prefill(MIXTRAL, Split(), 1, 3)
    _, timing = evaluate(*entries)
    assert all(
        timing.total[i] == 0 for i, entry in enumerate(entries) if entry.name in ("up+gate", "down")
    )


def test_chunk_of_everything():
    entries = chunked(LLAMA, Split(), 1, [(10, 5)], [7, [3, 11], [1, 4, 20, 2]])
    assert entries[0] == matmul("embeddings", 5, 64, 1000, 1)
    footprint, _ = evaluate(*entries)
    assert footprint.cache == 2 * 6 * (15 + 7 + 3 * 11 + 20 + 2) * 2 * 16
    tokens = 5 + 1 + 3 + 4
    scores = 5 * 15 + 7 + 3 * 11 + 20 + 4 * 2
    assert (
        footprint.flops
        == 2 * tokens * (6 * LAYER_WEIGHTS + 64000) + 2 * 5 * 64000 + 6 * 4 * scores * 64
    )


def test_deepseek_uses_shared_experts_in_chunks_only():
    shape = MIXTRAL._replace(
        deepseek=True, moe_intermediate=12, shared_experts=2, shared_intermediate=12
    )
    footprint, _ = evaluate(*chunked(shape, Split(), 1, [(0, 2)], []))
    expert, attention = 3 * 64 * 12, LAYER_WEIGHTS - 3 * 64 * 96
    assert footprint.weights == 2 * (6 * (attention + 64 * 8 + 10 * expert) + 2 * 64000)
    assert footprint.idle_weights == 2 * 6 * 4 * expert  # 2 tokens x 2 of 8
    assert decode(shape, Split(), 1, 1, 9, 9) == decode(MIXTRAL, Split(), 1, 1, 9, 9)


def test_mamba_layer():
    shape = LLAMA._replace(mamba=True, state=4, conv=3, expand=2, dt_rank=5)
    footprint, _ = evaluate(*prefill(shape, Split(), 2, 10))
    mixer = 64 * 256 + 128 * 13 + 5 * 128 + 128 * 64
    assert footprint.weights == 2 * (6 * (mixer + 3 * 64 * 96) + 2 * 64000)
    assert footprint.cache == pytest.approx(2 * 6 * (128 * 3 + 2 * 128 * 4))
    scan = 2 * 10 * (5 * 128 * 4 + 2 * 128)
    assert footprint.flops == 2 * (
        20 * (6 * (mixer + 3 * 64 * 96) + 2 * 64000) + 6 * (20 * 128 * 3 + scan)
    )


def test_placement():
    assert place(3e9, SYSTEM, 3, offload=False) == (True, False, 1e9)
    assert place(3.1e9, SYSTEM, 3, offload=False) == (False, False, 1e9)
    assert place(6e9, SYSTEM, 3, offload=True) == (
        True,
        True,
        2e9 / 10,
    )  # 1 s from HBM, 10 s from the host
    assert place(6e9, SYSTEM, 3, offload=True, offloaded_together=True) == (True, True, 6e9 / 50)
    assert place(float("nan"), SYSTEM, 1, offload=False).fits


def test_expected_tokens():
    assert expected_tokens(4, 0.7) == pytest.approx((1 - 0.7**5) / (1 - 0.7))
    assert expected_tokens(4, 1.0) == 4
    assert expected_tokens(2, 0.7) == 2  # 2.19, capped
    assert expected_tokens(3, 0.0) == 1


def test_candidates_never_use_all_accelerators():
    assert candidates(LLAMA, 1) == candidates(LLAMA, 2) == [(1, 1)]
    assert candidates(LLAMA, 8) == [(1, 6), (2, 2), (2, 3), (4, 1)]


def test_a_gigabyte_per_second_is_binary():
    row = {"Flops": 100, "Memory_size": 80, "Memory_BW": 3, "ICN": 2}
    system = System.of_search_row(row, "fp8")
    assert (system.peak_flops, system.memory_bandwidth, system.link_latency) == (
        2e14,
        3 * GIGA,
        1e-6,
    )
