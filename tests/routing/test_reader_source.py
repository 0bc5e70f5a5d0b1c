"""Files that are read together, files that are no traces, and real traces."""

from pathlib import Path

import numpy as np
import pytest
from routing_cases import IDS, refused, whole

from diffgenz.routing.source import load_counts, load_trace
from diffgenz.routing.trace import Trace

SHARED = Path(__file__).parents[2].parent / "shared" / "measurements" / "routing"


def test_files_of_different_models_do_not_go_together(tmp_path):
    whole().save(tmp_path / "a.npz")
    other = Trace(8, (3, 4), IDS[:, :2], request=np.zeros(5))
    other.save(tmp_path / "b.npz")
    refused([tmp_path / "a.npz", tmp_path / "b.npz"], "give traces of one model")
    Trace(16, (3, 4, 9), IDS, request=np.zeros(5)).save(tmp_path / "c.npz")
    refused([tmp_path / "a.npz", tmp_path / "c.npz"], "has 16 experts, the others 8")
    refused(tmp_path / "a.npz", "64 are asked for, the file has 8", experts=64)
    refused(tmp_path / "a.npz", "k: 4 is asked for, the trace has 2", k=4)


def test_files_that_are_no_traces(tmp_path):
    refused(tmp_path / "none.npz", "cannot read .*none.npz")
    (tmp_path / "text.md").write_text("# hello")
    refused(tmp_path / "text.md", "no reader knows this file")
    (tmp_path / "empty.json").write_text("")
    refused(tmp_path / "empty.json", "is empty")
    (tmp_path / "other.json").write_text('{"hello": 1}')
    refused(tmp_path / "other.json", "holds hello; known are")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    refused(tmp_path / "deep.json", "is not JSON")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "no file in this folder is a trace")


@pytest.mark.skipif(not SHARED.exists(), reason="the measurements are not here")
def test_real_traces():
    trace = load_trace(SHARED / "deepseek_v2_lite_puffin.npz")
    assert (trace.tokens, len(trace.layers), trace.k, trace.experts) == (114354, 26, 6, 64)
    assert len(trace.requests) == 1200
    counts = load_counts(SHARED / "expert_counts_by_domain.json", model="allenai/OLMoE-1B-7B-0924")
    assert counts.counts.shape[1:] == (3, 64)
