"""The package's own .npz files of traces, arrays of similar names, and damaged twins of them."""

import numpy as np
import pytest
from routing_cases import IDS, drawn, refused, whole

from diffgenz.routing.source import load_trace, open_trace
from diffgenz.routing.trace import Counts, Trace


def test_a_saved_trace_comes_back(tmp_path):
    whole().save(tmp_path / "t.npz")
    back = load_trace(tmp_path / "t.npz")
    for name in ("chosen", "phase", "domain", "rank", "step", "weights"):
        np.testing.assert_array_equal(getattr(back, name), getattr(whole(), name))
    assert list(back.request) == [0, 0, 0, 1, 1]
    assert (back.experts, back.layers, back.model) == (8, (3, 4, 9), "a/model")
    assert back.domains == ("code", "chat")


def test_requests_are_brought_together_and_keep_their_time(tmp_path):
    trace = Trace(8, (0, 1, 2), IDS, request=np.array([1, 0, 1, 0, 1]))
    trace.save(tmp_path / "t.npz")
    back = load_trace(tmp_path / "t.npz")
    np.testing.assert_array_equal(back.chosen, IDS[[0, 2, 4, 1, 3]])
    assert list(back.request) == [0, 0, 0, 1, 1]
    assert back.step is not None
    assert list(back.step) == [0, 2, 4, 1, 3]


def test_chunks_are_the_whole(tmp_path, monkeypatch):
    ids = drawn(100, 3, 8, 2, seed=1)
    trace = Trace(8, (0, 1, 2), ids, request=np.repeat(np.arange(10), 10))
    trace.save(tmp_path / "t.npz")
    monkeypatch.setattr("diffgenz.routing.readers.npz.BLOCK", 90)
    monkeypatch.setattr("diffgenz.routing.source.BLOCK", 150)
    source = open_trace(tmp_path / "t.npz")
    assert not isinstance(source, Counts)
    chunks = list(source.chunks())
    assert len(chunks) > 3
    np.testing.assert_array_equal(np.concatenate([c.chosen for c in chunks]), ids)
    np.testing.assert_array_equal(np.concatenate([c.request for c in chunks]), trace.request)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_archive_is_refused(tmp_path, share):
    whole().save(tmp_path / "t.npz")
    data = (tmp_path / "t.npz").read_bytes()
    (tmp_path / "t.npz").write_bytes(data[: int(share * len(data))])
    refused(tmp_path / "t.npz", "is damaged or ends too early")


def test_a_pickled_array_is_not_read(tmp_path):
    np.savez(tmp_path / "t.npz", chosen=np.array([{"a": 1}], dtype=object))
    refused(tmp_path / "t.npz", "'chosen' holds pickled objects")


def test_arrays_of_other_names(tmp_path):
    np.savez_compressed(
        tmp_path / "t.npz", expert=IDS.astype(np.uint8), request=np.array([1, 1, 1, 2, 2])
    )
    trace = load_trace(tmp_path / "t.npz", experts=64)
    assert (trace.experts, trace.k, list(trace.requests)) == (64, 2, [0, 1])
    np.testing.assert_array_equal(trace.chosen, IDS)
    assert load_trace(tmp_path / "t.npz").experts == IDS.max() + 1
    refused(tmp_path / "t.npz", "expert 7 is out of range; 4 experts", experts=4)
    np.savez(tmp_path / "u.npz", other=np.ones(3))
    refused(tmp_path / "u.npz", "has other; a trace has 'chosen'")
    np.savez(tmp_path / "v.npz", expert=IDS, request=np.zeros(4, int))
    refused(tmp_path / "v.npz", "'request' has 4 rows, 'expert' has 5")


def test_padding_and_layers_without_experts_in_arrays(tmp_path, monkeypatch):
    ids = drawn(40, 3, 8, 2, 5)
    padded = np.full((42, 4, 3), -1)
    padded[:40, 1:, :2] = ids  # a dense layer, a third slot and two tokens of padding
    np.savez(tmp_path / "t.npz", topk_ids=padded, request=np.arange(42) // 10)
    monkeypatch.setattr("diffgenz.routing.readers.npz.BLOCK", 100)
    trace = load_trace(tmp_path / "t.npz")
    np.testing.assert_array_equal(trace.chosen, ids)
    assert trace.layers == (1, 2, 3)
    np.testing.assert_array_equal(trace.request, np.arange(40) // 10)
    np.savez(tmp_path / "w.npz", topk_ids=padded, weights=np.ones((42, 4, 3)))
    refused(tmp_path / "w.npz", "'topk_ids' has -1 beside weights")
