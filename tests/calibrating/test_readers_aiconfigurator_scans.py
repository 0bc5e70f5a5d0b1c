"""Readers of aiconfigurator's tables of recurrences."""

import pytest
from aiconfigurator_cases import saved

from diffgenz.calibrating.readers.aiconfigurator.scans import delta, mamba2
from diffgenz.core.errors import InputError

GDN = {
    "batch_size": 2,
    "d_conv": 4,
    "num_k_heads": 16,
    "head_k_dim": 128,
    "num_v_heads": 32,
    "head_v_dim": 128,
}


def test_the_table_of_the_delta_rule_tells_convolutions_from_scans(tmp_path):
    kernels = [
        "causal_conv1d_fn",
        "chunk_gated_delta_rule",
        "fused_recurrent_gated_delta_rule_packed_decode",
    ]
    phases, lengths = ["context", "context", "generation"], [100, 100, 1]
    columns = GDN | {"phase": phases, "seq_len": lengths, "latency": [0.1, 0.2, 0.3]}
    convolution, prefill, decode = delta(saved(tmp_path, **columns | {"kernel_source": kernels}))
    assert [float(x[0]) for x in convolution.shape] == [2, 100, 2 * 2048 + 4096, 4]
    assert (prefill.family, [float(x[0]) for x in prefill.shape]) == (
        "delta_prefill",
        [2, 100, 16, 128, 32, 128, 64, 4],
    )
    assert (decode.family, decode.seconds[0]) == ("delta_decode", pytest.approx(3e-4))
    unpacked = [*kernels[:2], "fused_recurrent_gated_delta_rule"]
    convolution, _, decode = delta(saved(tmp_path, **columns | {"kernel_source": unpacked}))
    assert (float(convolution.shape.channels[0]), float(decode.shape.state_size[0])) == (2048, 3)
    with pytest.raises(
        InputError, match=r"phase: 'verify' is not known; it is context or generation"
    ):
        delta(saved(tmp_path, **columns | {"kernel_source": kernels, "phase": "verify"}))


def test_the_table_of_mamba2(tmp_path):
    columns = {
        "batch_size": 2,
        "seq_len": [64, 64],
        "d_conv": 4,
        "nheads": 64,
        "head_dim": 64,
        "d_state": 128,
        "n_groups": 8,
        "chunk_size": 256,
    }
    kernels = ["causal_conv1d_fn", "mamba_chunk_scan_combined"]
    convolution, scan = mamba2(
        saved(tmp_path, **columns, phase="context", latency=[0.1, 0.2], kernel_source=kernels)
    )
    assert float(convolution.shape.channels[0]) == 64 * 64 + 2 * 8 * 128
    assert (scan.family, [float(x[0]) for x in scan.shape]) == (
        "mamba2_prefill",
        [2, 64, 64, 64, 128, 8, 256, 4],
    )
