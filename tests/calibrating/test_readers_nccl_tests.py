"""The reader of what nccl-tests print."""

import re

import pytest
from reader_cases import REPORTS, columns, nccl, read, said

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


LABELS = {
    "srun --label": lambda line: f" 0: {line}",
    "srun --label of many ranks": lambda line: f"000: {line}",
    "mpirun --tag-output": lambda line: f"[1,0]<stdout>:{line}",
    "prterun": lambda line: f"[prterun-node-77@1,0]<stdout>: {line}",
    "mpirun -l": lambda line: f"[0] {line}",
    "mpirun --timestamp-output": lambda line: (
        f"Mon May  5 12:00:0{len(line) % 10} 2025<stdout>:{line}"
    ),
    "kubectl logs --timestamps": lambda line: f"2025-05-05T12:00:{len(line):03d}.5Z {line}",
    "kubectl logs --prefix": lambda line: f"[pod/nccl-0/worker] {line}",
    "a container's log": lambda line: f"2025-05-05T12:00:00.123456789Z stdout F {line}",
    "docker compose logs": lambda line: f"worker-1  | {line}",
    "ts and a label": lambda line: f"May 05 12:00:{len(line) % 60:02d} 0: {line}",
    "a clock in brackets": lambda line: f"[12:00:{len(line) % 60:02d}] {line}",
    "seconds": lambda line: f"{len(line)}.25 {line}",
    "a log's level": lambda line: f"12:00:{len(line) % 60:02d} | INFO | {line}",
    "colours": lambda line: f"\x1b[32m 0:\x1b[0m \x1b[1m{line}\x1b[0m",
    "windows": lambda line: f"{line}\r",
}


def labelled(path, label):
    """The file of nccl-tests with something before each line."""
    text = "\n".join(label(line) for line in path.read_text().splitlines())
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("label", LABELS.values(), ids=list(LABELS))
def test_what_stands_before_each_line_is_passed_over(label, tmp_path):
    bare = [(said(each), columns(each), each.seconds.tolist()) for each in read(nccl(tmp_path))]
    found = read(labelled(nccl(tmp_path), label))
    assert [(said(each), columns(each), each.seconds.tolist()) for each in found] == bare
    assert len(bare) == 2


@pytest.mark.parametrize("label", LABELS.values(), ids=list(LABELS))
@pytest.mark.parametrize("kept", range(4, 100, 12))
def test_a_row_that_breaks_off_is_refused(label, kept, tmp_path):
    path = nccl(tmp_path)
    lines = path.read_text().splitlines()
    (last,) = [at for at, line in enumerate(lines) if line.split()[:1] == ["1024"]]
    broken = lines[last][:kept]
    path.write_text("\n".join([*lines[:last], broken]))
    labelled(path, label)
    if not broken.strip():
        assert len(read(path)[0].seconds) == 1
        return
    with pytest.raises(InputError, match="is the file complete"):
        read(path)


def test_runs_that_share_a_file_are_refused(tmp_path):
    one, other = (LABELS["srun --label"], lambda line: f" 1: {line}")
    text = nccl(tmp_path).read_text()
    path = tmp_path / "run.txt"
    path.write_text(text + text)
    with pytest.raises(InputError, match="2 table headers; give each run a file of its own"):
        read(path)

    lines = text.splitlines()  # each process ran a test of its own, and one header is lost
    rows = [line for line in lines if line.endswith(" 0") and "bfloat16" in line]
    path.write_text("\n".join([one(line) for line in lines] + [other(line) for line in rows]))
    with pytest.raises(InputError, match=r"its rows are of several processes \(0:, 1:\)"):
        read(path)

    mixed = text.replace("0.04      0    11.00", "0.04   1024  512  bfloat16  sum  -1  14.50")
    path.write_text(mixed)
    with pytest.raises(InputError, match="of one process"):
        read(path)


def test_wrong_results_that_no_row_admits_are_refused(tmp_path):
    text = nccl(tmp_path).read_text().replace("values : 0 OK", "values : 3 FAILED")
    path = tmp_path / "run.txt"
    path.write_text(text)
    assert read(path)[0].dropped["wrong results"] == 1  # a row says which

    path.write_text(text.replace("#wrong", " error"))
    with pytest.raises(InputError, match="'Out of bounds values : 3 FAILED'"):
        read(path)


def test_versions_that_leave_redop_and_root_blank(tmp_path):
    path = nccl(tmp_path, "all_gather_perf", old="  sum      -1", new="            ")
    assert [each.seconds.tolist() for each in read(path)] == [
        pytest.approx([12.5e-6]),
        pytest.approx([11e-6, 13e-6]),
    ]
    text = re.sub("  redop    root", "", path.read_text())
    path.write_text(text)
    assert len(read(path)[1].seconds) == 2


@pytest.mark.skipif(not REPORTS.exists(), reason="no reports here")
@pytest.mark.parametrize("name", ["srun_label", "mpirun_tag"])
def test_published_logs_with_labels(name):
    out, within = read(REPORTS / f"all_reduce_{name}.log")
    assert columns(out) == {"ranks": [4] * 5, "volume": [2.0**power for power in range(16, 21)]}
    assert out.seconds.tolist() == pytest.approx([18.95e-6, 19.25e-6, 19.54e-6, 20.39e-6, 27.76e-6])
    assert within.seconds.tolist() == pytest.approx(
        [18.25e-6, 18.43e-6, 19.27e-6, 20.48e-6, 27.49e-6]
    )
