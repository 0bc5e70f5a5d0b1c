"""The reader of plain CSVs."""

import math
import subprocess
import sys

import pytest
from reader_cases import columns, read, said, write

from diffgenz.core.errors import InputError
from diffgenz.kernels.families import FAMILIES
from diffgenz.ui.cli.main import main


def test_a_plain_file(tmp_path):
    rows = (
        "gemm,bf16,mine-1,,8,16,32,,5",
        "elementwise,fp8,mine-1,quant,,,,1e6,7",
        "gemm,int4/bf16,mine-1,,8,16,32,,6",
    )
    elementwise, gemm, narrow = read(
        write(tmp_path, "a.csv", "family,format,source,kernel,m,n,k,moved,latency_us", *rows)
    )
    assert said(elementwise) == ("elementwise", "fp8", "mine-1", "quant")
    assert (columns(elementwise), elementwise.seconds.tolist()) == (
        {"moved": [1e6]},
        pytest.approx([7e-6]),
    )
    assert said(gemm) == ("gemm", "bf16", "mine-1", "")
    assert columns(gemm) == {
        "m": [8],
        "n": [16],
        "k": [32],
        "moved": [2 * (8 * 32 + 16 * 32 + 8 * 16)],
    }
    assert columns(narrow)["moved"] == [(0.5 + 2 / 128) * 16 * 32 + 2 * (8 * 32 + 8 * 16)]
    (batched,) = read(
        write(
            tmp_path,
            "b.csv",
            "family,format,source,m,n,k,groups,latency_ms",
            "batched,fp16,mine,1,2,3,4,0.5",
        )
    )
    assert (columns(batched)["moved"], batched.seconds.tolist()) == (
        [2 * 4 * 2 * 3],
        pytest.approx([5e-4]),
    )
    header = f"family,format,source,{','.join(FAMILIES['mamba2_decode'].form.Shape._fields[:-1])},latency_s"
    (scan,) = read(
        write(tmp_path, "c.csv", header, "mamba2_decode,bf16,mine,8,1,32,64,128,1,256,1e-5")
    )
    assert (columns(scan)["state_size"], scan.seconds.tolist()) == ([4], [1e-5])


def test_blank_lines_short_rows_a_byte_order_mark_and_blanks_are_read(tmp_path):
    path = tmp_path / "mine.csv"
    text = (
        "family, format ,source,m,n,k,latency_us,kernel\r\n\r\ngemm, bf16,mine,8,16,32,5\r\n,,,\r\n"
    )
    path.write_bytes(text.encode("utf-8-sig"))
    (gemm,) = read(path)
    assert said(gemm) == ("gemm", "bf16", "mine", "")
    assert gemm.seconds.tolist() == pytest.approx([5e-6])


def test_commas_between_thousands_in_quotes(tmp_path):
    header = "family,format,source,m,n,k,latency_us"
    (gemm,) = read(write(tmp_path, "mine.csv", header, 'gemm,bf16,a,"1,024",16,32,5'))
    assert columns(gemm)["m"] == [1024]


def test_rows_are_counted_as_in_the_file(tmp_path):
    rows = ("gemm,bf16,a,1,2,3,4", "", "gemm,bf16,a,1,2,x,4")
    with pytest.raises(InputError, match="column 'k', row 3: 'x' is no number"):
        read(write(tmp_path, "mine.csv", "family,format,source,m,n,k,latency_s", *rows))


def test_neither_pandas_nor_pyarrow_are_needed(tmp_path):
    path = write(
        tmp_path, "mine.csv", "family,format,source,m,n,k,latency_us", "gemm,bf16,a,8,8,8,5"
    )
    code = "\n".join(
        [
            "import sys",
            "sys.modules['pandas'] = sys.modules['pyarrow'] = None",
            "from diffgenz.calibrating.readers.registry import samples_of",
            f"assert len(samples_of([{str(path)!r}])) == 1",
        ]
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (
            "family,format,source,m,n,k",
            "gemm,bf16,a,1,2,3",
            "it has no latency; give exactly one of latency_s, latency_ms, latency_us",
        ),
        (
            "family,format,source,m,n,k,latency_s,latency_us",
            "gemm,bf16,a,1,2,3,4,5",
            "it has latency_s and latency_us; give exactly one of",
        ),
        (
            "family,format,m,n,k,latency_s",
            "gemm,bf16,1,2,3,4",
            "column 'source' is missing; a plain CSV has family, format, source",
        ),
        (
            "family,format,source,m,n,k,latency_s",
            "gem,bf16,a,1,2,3,4",
            "column 'family': 'gem' is not known; did you mean gemm",
        ),
        (
            "family,format,source,m,n,k,latency_s",
            "gemm,bf17,a,1,2,3,4",
            "column 'format': 'bf17' is not known; did you mean bf16",
        ),
        (
            "family,format,source,m,n,k,latency_s",
            "gemm,bf16,,1,2,3,4",
            "column 'source', row 1: it is empty; every row must say its source",
        ),
        (
            "family,format,source,m,n,latency_s",
            "gemm,bf16,a,1,2,4",
            "column 'k' is missing or empty; gemm has m, n, k, moved",
        ),
        (
            "family,format,source,ranks,volume,latency_s",
            "all_reduce,bf16,a,8,x,4",
            "column 'volume', row 1: 'x' is no number",
        ),
        (
            "family,format,source,m,n,k,latency_s",
            "gemm,bf16,a,1,2,3,",
            "column 'latency_s', row 1: it is empty; fill it in, or leave the row out",
        ),
        (
            "family,format,source,m,n,k,latency_s",
            "gemm,bf16,a,1,2,3,inf",
            "column 'latency_s', row 1: 'inf' is no number; fill it in, or leave the row out",
        ),
        (
            "family,format,source,m,m,k,latency_s",
            "gemm,bf16,a,1,2,3,4",
            "column 'm' is there twice; keep one of them",
        ),
        (
            "family,format,source,m,n,k,latency_s",
            "gemm,bf16,a,1,024,2,3,4",
            "row 1 has 8 cells under 7 columns; put quotes around a cell with a comma",
        ),
        (
            "family,format,source,m,n,k,latency_s,kernl",
            "gemm,bf16,a,1,2,3,4,x",
            "column: 'kernl' is not known; did you mean kernel",
        ),
        (
            "family,format,source,m,n,k,latency_s",
            "",
            "it has no rows; add measurements below the header",
        ),
    ],
)
def test_a_plain_file_that_cannot_be_used_is_refused(header, row, message, tmp_path):
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        read(write(tmp_path, "mine.csv", header, row))


def test_a_file_whose_rows_are_all_bound_by_the_host_is_left_out(tmp_path, capsys):
    rows = [f"elementwise,bf16,mine-1.0,{1000 + row},100" for row in range(50)]
    path = write(tmp_path, "mine.csv", "family,format,source,moved,latency_us", *rows)
    assert main(["calibrate", str(path), "--system", "h100_sxm", "--starts", "8"]) == 2
    assert (
        "mine.csv: elementwise bf16: 50 of 50 rows are bound by the host (a floor of 100 us)"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(("family", "cached"), [("decode", "length"), ("prefill", "context")])
def test_a_window_that_is_empty_or_not_positive_is_none(family, cached, tmp_path):
    """One that is longer than the keys there are is one: another kernel may run."""
    header = f"family,format,source,sequences,queries,{cached},heads,kv_heads,head_dim,cache_size"
    rows = [
        f"{family},bf16,mine,4,1,2048,32,8,128,2,{window},50"
        for window in ("", 0, -1, 1_000_000_000, 512)
    ]
    (found,) = read(write(tmp_path, "a.csv", f"{header},window,latency_us", *rows))
    assert columns(found)["window"] == [math.inf] * 3 + [1_000_000_000, 512]
    (without,) = read(
        write(
            tmp_path,
            "b.csv",
            f"{header},latency_us",
            f"{family},bf16,mine,4,1,2048,32,8,128,2,50",
        )
    )
    assert columns(without)["window"] == [math.inf]
    wrong = write(tmp_path, "c.csv", f"{header},window,latency_us", rows[0].replace(",,", ",all,"))
    with pytest.raises(InputError, match="column 'window', row 1: 'all' is no number"):
        read(wrong)
