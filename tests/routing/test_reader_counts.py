"""Counts in CSV, .npy, .npz and JSON."""

import json

import numpy as np
import pytest
from routing_cases import IDS, csv_of, refused

from diffgenz.core.errors import InputError
from diffgenz.routing.source import load_counts, load_trace

COUNTED = np.arange(1.0, 25.0).reshape(3, 8)


def test_matrices_of_counts(tmp_path):
    np.savetxt(tmp_path / "m.csv", COUNTED, delimiter=",", fmt="%d")
    np.save(tmp_path / "m.npy", COUNTED.astype(np.int64))
    np.savez(tmp_path / "m.npz", counts=COUNTED)
    (tmp_path / "m.json").write_text(json.dumps(COUNTED.tolist()))
    (tmp_path / "s.json").write_text(json.dumps({"logical_count": COUNTED.tolist()}))
    rows = [(i, j, COUNTED[i, j]) for i in range(3) for j in range(8)]
    (tmp_path / "long.csv").write_text(csv_of("layer_id,expert_id,count", rows))
    for path in sorted(tmp_path.iterdir()):
        found = load_counts(path)
        np.testing.assert_array_equal(found.counts, COUNTED[None], err_msg=str(path))
        assert found.by == "all"
    (tmp_path / "far.csv").write_text(csv_of("layer,expert,count", [(1000000, 0, 5), (3, 2, 7)]))
    far = load_counts(tmp_path / "far.csv")
    assert (far.layers, far.counts.tolist()) == ((3, 1000000), [[[0, 0, 7], [5, 0, 0]]])
    names = [f"expert_{i}" for i in range(8)]
    for header, first in ((names, 0), (["layer", *names], 1), (["", *map(str, range(8))], 1)):
        rows = [[4 * i, *row][1 - first :] for i, row in enumerate(COUNTED.tolist())]
        (tmp_path / "named.csv").write_text(csv_of(",".join(header), rows))
        named = load_counts(tmp_path / "named.csv")
        np.testing.assert_array_equal(named.counts, COUNTED[None])
        assert named.layers == ((0, 4, 8) if first else (0, 1, 2))
    (tmp_path / "named.csv").write_text("layer,0,1\n1,5,6\n1,7,8\n")
    refused(tmp_path / "named.csv", "layers 1, 1 are no ascending indices")
    (tmp_path / "named.csv").write_text("layer,0,1\n")
    refused(tmp_path / "named.csv", "has no rows")
    with pytest.raises(InputError, match="16 are asked for, the file counts 8"):
        load_counts(tmp_path / "m.npy", experts=16)


def test_an_array_of_steps_and_one_of_ids(tmp_path):
    counts = np.zeros((5, 3, 8), np.int64)
    np.add.at(counts, (np.arange(5)[:, None, None], np.arange(3)[:, None], IDS), 7)
    np.save(tmp_path / "counts.npy", counts)
    np.save(tmp_path / "ids.npy", IDS)
    np.testing.assert_array_equal(load_counts(tmp_path / "counts.npy").counts, counts)
    np.testing.assert_array_equal(load_trace(tmp_path / "ids.npy").chosen, IDS)
    np.save(tmp_path / "flat.npy", np.ones(3))
    refused(tmp_path / "flat.npy", r"has shape \[3\]")
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object))
    refused(tmp_path / "pickled.npy", "holds pickled objects")
    data = (tmp_path / "ids.npy").read_bytes()
    (tmp_path / "ids.npy").write_bytes(data[:-8])
    refused(tmp_path / "ids.npy", "is damaged or ends too early")


def test_counts_by_domain(tmp_path):
    by_domain = {"code": COUNTED.tolist(), "chat": (2 * COUNTED).tolist()}
    model = {"experts": 8, "top_k": 2, "domains": by_domain}
    (tmp_path / "c.json").write_text(json.dumps({"models": {"a": model, "b": model}}))
    found = load_counts(tmp_path / "c.json", model="b")
    assert (found.groups, found.by, found.k, found.model) == (("code", "chat"), "domain", 2, "b")
    with pytest.raises(InputError, match="the file has a, b; say which with --model"):
        load_counts(tmp_path / "c.json")
    by_domain["chat"] = np.zeros((3, 8)).tolist()
    (tmp_path / "c.json").write_text(json.dumps({"models": {"a": model}}))
    with pytest.raises(InputError, match="chat has no counts; leave out empty domains"):
        load_counts(tmp_path / "c.json")
    by_domain["chat"] = [[1.0, 2.0]]
    (tmp_path / "c.json").write_text(json.dumps({"models": {"a": model}}))
    with pytest.raises(InputError, match="domains differ in layers or experts"):
        load_counts(tmp_path / "c.json")
