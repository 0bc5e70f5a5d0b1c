"""Readers of aiconfigurator's attention tables."""

import numpy as np
import pytest
from fit_cases import H100

from diffgenz.calibrating.cleaning import cleaned
from diffgenz.calibrating.readers.aiconfigurator import attention
from diffgenz.core.errors import InputError
from diffgenz.kernels.forms.attention_prefill import Prefill

COLUMNS = {
    "framework": "VLLM",
    "version": "0.24.0",
    "kernel_source": "fa3",
    "num_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "attn_dtype": "bfloat16",
}


def _table(tmp_path, name: str, **columns):
    pandas = pytest.importorskip("pandas")
    path = tmp_path / f"{name}__vllm-0.24.0.csv"
    pandas.DataFrame(COLUMNS | columns).to_csv(path, index=False)
    return path


def test_context_tables_are_read(tmp_path) -> None:
    path = _table(
        tmp_path,
        "context_attention_perf",
        batch_size=[4, 2, 4],
        isl=[512, 256, 512],
        step=[0, 64, 0],
        window_size=[0, 128, 512],
        kv_cache_dtype=["bfloat16", "fp8", "bfloat16"],
        latency=[0.5, 0.25, 0.75],
    )
    (samples,) = attention.prefill(path)
    assert (samples.form, samples.family, samples.format, samples.source, samples.kernel) == (
        Prefill,
        "prefill",
        "bf16",
        "vllm-0.24.0",
        "fa3",
    )
    assert [tuple(map(float, row)) for row in zip(*samples.shape, strict=True)] == [
        (4, 512, 0, 8, 2, 128, np.inf, 2),
        (2, 256, 64, 8, 2, 128, 128, 1),
        (4, 512, 0, 8, 2, 128, 512, 2),
    ]
    np.testing.assert_allclose(samples.seconds, [5e-4, 2.5e-4, 7.5e-4])


def test_a_windowed_kernel_is_one_of_its_own_where_the_window_does_not_reach(tmp_path) -> None:
    """It is no repeat of the kernel without, and is held out where that is."""
    path = _table(
        tmp_path,
        "generation_attention_perf",
        batch_size=np.repeat(np.arange(1, 41), 3),
        isl=1,
        step=1023,
        window_size=[0, 1024, 4096] * 40,
        kv_cache_dtype="bfloat16",
        latency=[0.01, 0.05, 0.06] * 40,
    )
    (samples,) = attention.decode(path)
    clean = cleaned(samples, H100, path)
    assert (len(clean), clean.dropped) == (120, {})
    folds = {}
    for sequences, held in zip(clean.shape.sequences, clean.held_out, strict=True):
        folds.setdefault(float(sequences), set()).add(bool(held))
    assert all(len(fold) == 1 for fold in folds.values())
    assert 0 < clean.held_out.sum() < 60


def test_generation_tables_are_read_by_format_and_without_windows(tmp_path) -> None:
    path = _table(
        tmp_path,
        "generation_attention_perf",
        batch_size=[4, 2],
        isl=1,
        step=[1023, 7],
        kv_cache_dtype="fp8",
        latency=[0.5, 0.25],
        attn_dtype=["bfloat16", "fp8"],
    )
    bf16, fp8 = attention.decode(path)
    assert (bf16.format, fp8.format) == ("bf16", "fp8")
    assert tuple(float(column[0]) for column in bf16.shape) == (4, 1, 1024, 8, 2, 128, np.inf, 1)
    assert tuple(float(column[0]) for column in fp8.shape) == (2, 1, 8, 8, 2, 128, np.inf, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kv_cache_dtype": "int3"}, "kv_cache_dtype: 'int3'"),
        ({"attn_dtype": "fp9"}, "attn_dtype: 'fp9'"),
        ({"num_key_value_heads": 16}, "num_key_value_heads: 16"),
        ({"latency": None}, "column 'latency' is missing"),
    ],
)
def test_bad_columns_are_refused(tmp_path, changes, message: str) -> None:
    columns = {
        "batch_size": [4],
        "isl": 1,
        "step": 7,
        "kv_cache_dtype": "fp8",
        "latency": 0.5,
    } | changes
    path = _table(
        tmp_path,
        "generation_attention_perf",
        **{name: value for name, value in columns.items() if value is not None},
    )
    with pytest.raises(InputError, match=message):
        attention.decode(path)


def test_both_formats_of_the_cache_are_held_out_together(tmp_path) -> None:
    path = _table(
        tmp_path,
        "generation_attention_perf",
        batch_size=list(range(1, 41)) * 2,
        isl=1,
        step=7,
        kv_cache_dtype=["bfloat16"] * 40 + ["fp8"] * 40,
        latency=1.0,
    )
    (samples,) = attention.decode(path)
    np.testing.assert_array_equal(samples.held_out[:40], samples.held_out[40:])
