"""The reader of APEX's measurements."""

import pytest
from reader_cases import APEX, columns, read, said, write

from diffgenz.core.errors import InputError


def test_apex(tmp_path):
    half, single = read(
        write(
            tmp_path,
            "H100_alltoall.csv",
            APEX,
            "H100,1,8,half,4,10",
            "H100,1,8,half,0,9",
            "H100,2,8,half,4,30",
            "H100,1,4,float,2,8",
        )
    )
    assert said(half) == ("all_to_all", "fp16", "apex", "nccl")
    assert (columns(half), half.seconds.tolist()) == (
        {"ranks": [8], "volume": [4096]},
        pytest.approx([1e-5]),
    )
    assert half.dropped == {"between nodes": 1, "less than 1 kB, rounded to nothing": 1}
    assert (single.format, columns(single)) == ("fp32", {"ranks": [4], "volume": [2048]})
    with pytest.raises(InputError, match="it holds no measurements of a kernel family"):
        read(write(tmp_path, "H100_sendrecv.csv", APEX, "H100,1,2,half,1,6"))
    with pytest.raises(
        InputError, match="column 'dtype': 'double' is not known; it is one of half, float"
    ):
        read(write(tmp_path, "H100_alltoall.csv", APEX, "H100,1,8,double,4,10"))
    with pytest.raises(
        InputError, match="it does not say which collective it holds; name the file after it"
    ):
        read(write(tmp_path, "H100.csv", APEX, "H100,1,8,half,4,10"))
