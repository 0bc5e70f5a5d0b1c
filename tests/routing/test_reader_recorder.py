"""Dumps of SGLang's recorder, and damaged or harmful twins of them."""

import pickle
import zipfile

import numpy as np
import pytest
from routing_cases import IDS, TensorLike, drawn, refused, torch_save

from diffgenz.routing.source import load_counts, load_trace


def record(ids, positions, lengths, mode, step, rank=0, **more):
    padded = np.full((ids.shape[1] + 1, len(ids), 8), -1, np.int32)  # layer 0 is dense
    padded[1:, :, : ids.shape[2]] = np.moveaxis(ids, 1, 0)
    return {
        "forward_pass_id": step,
        "rank": rank,
        "gatherer_key": "primary",
        "input_ids": [0] * len(ids),
        "positions": positions,
        "extend_seq_lens": lengths,
        "forward_mode": mode,
        "topk_ids_of_layer": TensorLike(padded),
        "misc_objects": [],
        **more,
    }


def dump(tmp_path, monkeypatch, records, copies=8):
    mapping = np.tile(np.arange(copies) % 8, (4, 1))
    content = {"records": records, "last_physical_to_logical_map": TensorLike(mapping)}
    return torch_save(tmp_path / "t.pt", content, monkeypatch)


def test_a_dump_of_tokens(tmp_path, monkeypatch):
    one, two = drawn(5, 3, 8, 2, 1), drawn(4, 3, 8, 2, 2)
    records = [
        record(np.concatenate([one[:3], two[:2]]), [0, 1, 2, 0, 1], [3, 2], 1, 10),
        record(np.stack([one[3], two[2]]), TensorLike(np.array([3, 2])), None, 2, 11),
        record(np.stack([one[4], two[3]]), [4, 3], None, 2, 12),
    ]
    trace = load_trace(dump(tmp_path, monkeypatch, records))
    assert trace.layers == (1, 2, 3)
    np.testing.assert_array_equal(trace.chosen, [*one, *two])
    assert list(trace.request) == [0] * 5 + [1] * 4
    assert list(trace.phase) == [0, 0, 0, 1, 1, 0, 0, 1, 1]
    assert trace.step is not None
    assert list(trace.step) == [10, 10, 10, 11, 12, 10, 10, 11, 12]


def test_a_prompt_in_chunks_and_requests_that_end(tmp_path, monkeypatch):
    one, two = drawn(6, 3, 8, 2, 1), drawn(3, 3, 8, 2, 2)
    records = [
        record(one[:2], [0, 1], [2], 1, 0),
        record(one[2:4], [2, 3], [2], 1, 1),  # the same prompt goes on
        record(one[4:5], [4], None, 2, 2),
        record(two[:1], [0], [1], 1, 3),
        record(np.stack([one[5], two[1]]), [5, 1], None, 2, 4),
        record(two[2:3], [2], None, 2, 5),  # the first has ended
    ]
    trace = load_trace(dump(tmp_path, monkeypatch, records))
    np.testing.assert_array_equal(trace.chosen, [*one, *two])
    assert list(trace.phase) == [0] * 4 + [1] * 2 + [0, 1, 1]


def test_copies_are_counted_as_their_expert(tmp_path, monkeypatch):
    ids = IDS.copy()
    ids[:, :, 0] = ids[:, :, 0] + 8  # physical experts 8 to 15 are copies of 0 to 7
    trace = load_trace(dump(tmp_path, monkeypatch, [record(ids, [*range(5)], [5], 1, 0)], 16))
    np.testing.assert_array_equal(trace.chosen, IDS)
    assert trace.experts == 8


def test_padding_is_left_out(tmp_path, monkeypatch):
    ids = np.concatenate([IDS, np.full((2, 3, 2), -1)])
    trace = load_trace(dump(tmp_path, monkeypatch, [record(ids, [*range(7)], [7], 1, 0)]))
    np.testing.assert_array_equal(trace.chosen, IDS)


def test_a_dump_of_counts(tmp_path, monkeypatch):
    counts = np.random.default_rng(0).integers(1, 9, (6, 4, 8)).astype(np.int32)
    counts[:, 0] = 0  # dense
    counts[4:] = 0  # the buffer's rest
    content = {
        "rank": 0,
        "logical_count": TensorLike(counts),
        "average_utilization_rate_over_window": None,
    }
    found = load_counts(torch_save(tmp_path / "t.pt", content, monkeypatch))
    np.testing.assert_array_equal(found.counts, counts[:4, 1:])
    assert (found.by, found.layers) == ("step", (1, 2, 3))
    refused(tmp_path / "t.pt", "holds counts, not tokens")


def test_a_dump_of_passes(tmp_path, monkeypatch):
    counts = np.random.default_rng(0).integers(1, 9, (3, 4, 16)).astype(np.int32)
    records = [
        {"forward_pass_id": i, "rank": 0, "global_physical_count": TensorLike(c)}
        for i, c in enumerate(counts)
    ]
    found = load_counts(dump(tmp_path, monkeypatch, records, copies=16))
    np.testing.assert_array_equal(found.counts, counts[..., :8] + counts[..., 8:])


@pytest.mark.parametrize("order", ["little", "big"])
def test_a_tensor_alone_is_a_load_matrix(tmp_path, monkeypatch, order):
    weight = np.arange(1.0, 25.0).reshape(3, 8)
    path = torch_save(tmp_path / "t.pt", TensorLike(weight), monkeypatch, order)
    np.testing.assert_array_equal(load_counts(path).counts[0], weight)
    view = TensorLike(weight, offset=1, size=(3, 4), stride=(8, 2))
    path = torch_save(tmp_path / "v.pt", view, monkeypatch, order)
    np.testing.assert_array_equal(load_counts(path).counts[0], weight[:, 1::2])


class Harmful:
    """Runs a command where it is unpickled."""

    def __reduce__(self):
        return eval, ("print('harm')",)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch, capsys):
    for content in (Harmful(), {"records": [Harmful()]}, {"logical_count": Harmful()}):
        path = torch_save(tmp_path / "t.pt", content, monkeypatch)
        refused(path, "its pickle names (builtins|__builtin__).eval, which a trace does not need")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Harmful()))
    refused(tmp_path / "bare.pt", "is no whole zip archive")
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps([1, 2, 3]))
    refused(tmp_path / "bare.pkl", "no reader knows this file")
    assert "harm" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": TensorLike(np.ones(3))}, "holds weights; a dump of SGLang's recorder has"),
        ([1, 2], "holds list"),
        ({"records": []}, "has no records"),
        ({"records": [{"rank": 0}]}, "neither topk_ids_of_layer nor"),
        ({"logical_count": TensorLike(np.zeros((2, 3, 4)))}, "are all zero"),
        ({"logical_count": TensorLike(np.ones(4))}, r"have shape \[4\]"),
        (TensorLike(np.ones((2, 3)), size=(2, 4)), "reaches beyond its storage"),
        (TensorLike(np.ones((2, 3)), offset=-1), "reaches beyond its storage"),
        ({"records": [record(IDS, [0, 1], [2], 1, 0)]}, "5 tokens and the positions of 2"),
    ],
)
def test_dumps_that_are_none(tmp_path, monkeypatch, content, message):
    refused(torch_save(tmp_path / "t.pt", content, monkeypatch), message)


def test_damaged_dumps(tmp_path, monkeypatch):
    ids = IDS.copy()
    ids[0, 1, 0] = 9
    path = dump(tmp_path, monkeypatch, [record(ids, [*range(5)], [5], 1, 0)])
    refused(path, "physical expert 9 is out of range; last_physical_to_logical_map has 8")
    ids[0, 1, 0] = -1
    path = dump(tmp_path, monkeypatch, [record(ids, [*range(5)], [5], 1, 0)])
    refused(path, "token 0 has fewer experts than others in layer 2")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    refused(path, "is no whole zip archive")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", data[:50])
    refused(path, "is damaged or ends too early")
