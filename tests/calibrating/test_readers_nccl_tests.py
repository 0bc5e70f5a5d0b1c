"""The reader of what nccl-tests print."""

import pytest
from reader_cases import columns, nccl, read, said

from diffgenz.core.errors import InputError


def test_nccl_tests(tmp_path):
    out, within = read(nccl(tmp_path))
    assert said(out) == ("all_reduce", "bf16", "nccl-2.28.6", "out-of-place")
    assert (columns(out), out.seconds.tolist(), out.dropped) == (
        {"ranks": [2], "volume": [512]},
        pytest.approx([12.5e-6]),
        {"wrong results": 1, "no bytes": 1},
    )
    assert (within.kernel, columns(within)["volume"], within.seconds.tolist()) == (
        "in-place",
        [512, 1024],
        pytest.approx([11e-6, 13e-6]),
    )
    assert {samples.family for samples in read(nccl(tmp_path, "reduce_scatter_perf_mpi"))} == {
        "reduce_scatter"
    }
    assert {samples.family for samples in read(nccl(tmp_path, "alltoall_perf"))} == {"all_to_all"}
    (tmp_path / "all_gather.log").write_text(
        nccl(tmp_path, old="# Collective test starting: ./build/all_reduce_perf\n").read_text()
    )
    assert {samples.family for samples in read(tmp_path / "all_gather.log")} == {"all_gather"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": "alltoallv_perf"}, "it holds no measurements of a kernel family"),
        ({"host": "beta"}, "its ranks are on 2 hosts; fits are of one node"),
        ({"type": "complex"}, "type: 'complex' is not known; it is one of half, float"),
        ({"old": "#  Rank", "new": "# rank"}, "it has no lines '#  Rank  0 ...'"),
        ({"old": "  time ", "new": "cputime"}, "run the test without -C"),
        (
            {"old": "#       size", "new": "#       size count type busbw\n#       size"},
            "it has 2 table headers; give each run a file of its own",
        ),
        ({"old": "12.50", "new": "-nan?"}, "has no out-of-place time; is the file complete"),
        (
            {"old": "  bfloat16 ", "new": "  1 "},
            "its table has no rows; did the test run to its end",
        ),
    ],
)
def test_a_log_of_nccl_tests_that_cannot_be_used_is_refused(change, message, tmp_path):
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        read(nccl(tmp_path, **change))
