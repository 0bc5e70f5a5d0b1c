"""The reader of vidur's profiles."""

import pytest
from reader_cases import VIDUR_HEADER, columns, read, said, write

from diffgenz.core.errors import InputError


def test_vidur(tmp_path):
    path = write(tmp_path, "mlp.csv", VIDUR_HEADER, "1,2,3,4,5,6,64,8,8192,28672,32768,True,100,4")
    linear, act, add = read(path)
    assert said(linear) == ("gemm", "fp16", "vidur", "linear")
    shape = columns(linear)
    assert shape["m"] == [100] * 4
    assert shape["n"] == [(8192 + 2 * 1024) / 4, 8192, 2 * 28672 / 4, 8192]
    assert shape["k"] == [8192, 8192 / 4, 8192, 28672 / 4]
    assert shape["moved"][1] == 2 * (100 * 2048 + 2048 * 8192 + 100 * 8192)
    assert linear.seconds == pytest.approx([1e-3, 2e-3, 3e-3, 4e-3])
    assert said(act) == ("elementwise", "fp16", "vidur", "mlp_act")
    assert (columns(act)["moved"], act.seconds.tolist()) == (
        [2 * 3 * 100 * 28672 / 4],
        pytest.approx([5e-3]),
    )
    assert (add.kernel, columns(add)["moved"]) == ("add", [2 * 3 * 100 * 8192])
    header = ",time_stats.all_reduce.median,rank,num_workers,size,collective,devices_per_node,max_devices_per_node"
    (reduce,) = read(
        write(
            tmp_path,
            "net.csv",
            header,
            "0,0.5,0,8,2048,all_reduce,8,8",
            "1,0.25,0,16,4096,all_reduce,8,8",
        )
    )
    assert said(reduce) == ("all_reduce", "fp16", "vidur", "nccl")
    assert columns(reduce) == {"ranks": [8], "volume": [2048]}
    assert (reduce.seconds.tolist(), reduce.dropped) == ([5e-4], {"between nodes": 1})
    with pytest.raises(InputError, match="it holds no measurements of a kernel family"):
        read(
            write(
                tmp_path,
                "send.csv",
                header.replace("all_reduce", "send_recv"),
                "0,0.5,0,2,2048,send_recv,1,8",
            )
        )
