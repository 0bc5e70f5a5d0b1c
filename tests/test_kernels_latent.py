"""Latent attention, absorbed products, recurrences and convolutions: forms against hand-worked values and limits, readers against small tables."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from diffgenz.calibrating.readers.aiconfigurator.latent import (
    absorbed,
    latent_decode,
    latent_prefill,
)
from diffgenz.calibrating.readers.aiconfigurator.scans import delta, mamba2
from diffgenz.core.errors import InputError
from diffgenz.kernels.forms.batched_gemm import BatchedGemm
from diffgenz.kernels.forms.causal_conv import CausalConv
from diffgenz.kernels.forms.latent_attention import LatentDecode, LatentPrefill
from diffgenz.kernels.forms.recurrence import DeltaDecode, DeltaPrefill, Mamba2Decode, Mamba2Prefill
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.shapes import (
    BatchedShape,
    ConvShape,
    DeltaShape,
    LatentDecodeShape,
    LatentPrefillShape,
    Mamba2Shape,
)

CHIP = Chip(1e15, 3e12, 2e-6, 100.0)

SMALLEST = {
    LatentPrefill: LatentPrefillShape(1.0, 1.0, 0.0, 1.0, 192.0, 128.0),
    LatentDecode: LatentDecodeShape(1.0, 1.0, 1.0, 1.0, 512.0, 64.0, 2.0),
    BatchedGemm: BatchedShape(1.0, 128.0, 512.0, 1.0, 131072.0),
    DeltaPrefill: DeltaShape(1.0, 1.0, 1.0, 128.0, 1.0, 128.0, 64.0),
    DeltaDecode: DeltaShape(1.0, 1.0, 1.0, 128.0, 1.0, 128.0, 64.0),
    Mamba2Prefill: Mamba2Shape(1.0, 1.0, 1.0, 64.0, 128.0, 1.0, 256.0),
    Mamba2Decode: Mamba2Shape(1.0, 1.0, 1.0, 64.0, 128.0, 1.0, 256.0),
    CausalConv: ConvShape(1.0, 1.0, 128.0, 4.0),
}


def seconds(form, shape):
    return float(form.seconds(type(shape)(*(jnp.asarray(x) for x in shape)), CHIP))


@pytest.mark.parametrize("form", SMALLEST, ids=lambda form: form.__name__)
def test_the_smallest_shape_takes_launches_and_has_finite_gradients(form):
    shape = SMALLEST[form]

    def timed(chip, shape):
        return form().seconds(shape, chip)

    arguments = jax.tree.map(lambda x: jnp.full(2, x, jnp.float32), (CHIP, shape))
    times, gradients = jax.jit(jax.vmap(jax.value_and_grad(timed, (0, 1))))(*arguments)
    assert CHIP.launch < float(times[0]) < 100 * CHIP.launch
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))
    assert float(form.work(shape).bound(CHIP)) < float(times[0])


def test_a_long_prompt_is_bound_by_its_products():
    form, shape = (
        LatentPrefill(compute=0.5),
        LatentPrefillShape(8.0, 65536.0, 0.0, 128.0, 192.0, 128.0),
    )
    assert seconds(form, shape) == pytest.approx(
        float(form.work(shape).flops) / (0.5 * CHIP.flops), rel=0.02
    )


def test_a_cached_prefix_costs_what_the_rest_of_a_whole_prompt_does():
    whole, first, rest = (
        LatentPrefillShape(8.0, queries, context, 128.0, 192.0, 128.0)
        for queries, context in ((8192, 0), (4096, 0), (4096, 4096))
    )
    form = LatentPrefill()
    assert seconds(form, first) < seconds(form, rest)
    assert seconds(form, first) + seconds(form, rest) == pytest.approx(
        seconds(form, whole), rel=0.1
    )


def test_decode_of_many_long_sequences_is_bound_by_the_cache():
    form, shape = (
        LatentDecode(memory=0.8, step=0.01),
        LatentDecodeShape(128.0, 1.0, 131072.0, 16.0, 512.0, 64.0, 2.0),
    )
    cached = 2 * 128 * 131072 * 576
    assert seconds(form, shape) == pytest.approx(cached / (0.8 * CHIP.bandwidth), rel=0.15)


def test_decode_by_hand():
    """One tile of one block, which cannot split: a = 2e-6 s, x = 0.01, b = 0: the tile, one launch, and nothing else that counts."""
    tile = 2 * 64 * 64 * 1088 * CHIP.units / CHIP.flops
    tiny = dict.fromkeys(("fixed", "merge", "merging", "rows", "sequence", "convert"), 1e-12)
    form = LatentDecode(
        compute=1 - 1e-7,
        memory=1 - 1e-7,
        launch=1.0,
        slots=1.0,
        step=1 - tile / CHIP.launch,
        **tiny,
    )
    moved = 64 * 576 * 2 / CHIP.bandwidth
    expected = math.hypot(CHIP.launch * math.hypot(0.01, 1), moved) + CHIP.launch
    assert seconds(form, LatentDecodeShape(1.0, 1.0, 64.0, 1.0, 512.0, 64.0, 2.0)) == pytest.approx(
        expected, rel=1e-5
    )


def test_only_a_narrow_cache_is_converted():
    shape = LatentDecodeShape(16.0, 1.0, 4096.0, 16.0, 512.0, 64.0, 2.0)
    some, none = LatentDecode(convert=10.0), LatentDecode(convert=1e-9)
    assert seconds(some, shape) == seconds(none, shape)
    narrow = shape._replace(cache_size=1.0)
    assert seconds(some, narrow) - seconds(none, narrow) == pytest.approx(
        10 * 16 * 4096 * 576 / CHIP.bandwidth, rel=1e-3
    )


def test_batched_products_add_up():
    form = BatchedGemm(rows=1e-9, columns=1e-9, passed=1e-9, quantise=1e-9, compute=0.5)
    shape = BatchedShape(8192.0, 512.0, 128.0, 128.0, 1.0)
    assert seconds(form.replace(prologue=1e-9), shape) == pytest.approx(
        2 * 8192 * 512 * 128 * 128 / (0.5 * CHIP.flops), rel=0.01
    )


def test_chains_of_chunks_wait_for_each_other_and_share_units():
    form = DeltaPrefill(step=100.0, slots=1.0, start=1e-9, token=1e-9, again=1e-9, launch=1e-9)
    one, long = (
        DeltaShape(1.0, 64.0, 16.0, 128.0, 32.0, 128.0, 64.0),
        DeltaShape(1.0, 64000.0, 16.0, 128.0, 32.0, 128.0, 64.0),
    )
    assert seconds(form, long) > 1000 * 100 * CHIP.launch > seconds(form, one)
    wide = DeltaShape(64.0, 64000.0, 16.0, 128.0, 32.0, 128.0, 64.0)
    assert seconds(form, wide) == pytest.approx(64 * 32 / 100 * seconds(form, long), rel=0.1)


def test_decode_reads_and_writes_every_state():
    form, shape = (
        Mamba2Decode(memory=0.5, blocks=1e-9),
        Mamba2Shape(4096.0, 1.0, 128.0, 64.0, 128.0, 8.0, 256.0),
    )
    state = 4096 * 128 * 64 * 128 * 4 * 2.0
    assert seconds(form, shape) == pytest.approx(state / (0.5 * CHIP.bandwidth), rel=0.03)


def test_a_long_convolution_reads_and_writes_once():
    form, shape = CausalConv(memory=0.5, blocks=1e-9), ConvShape(8.0, 32768.0, 8192.0, 4.0)
    assert seconds(form, shape) == pytest.approx(
        4 * 8 * 32768 * 8192 / (0.5 * CHIP.bandwidth), rel=0.01
    )


def saved(tmp_path, **columns):
    path = tmp_path / "table.parquet"
    base = {
        "framework": ["TRTLLM"] * len(columns["latency"]),
        "version": "1.0.0",
        "kernel_source": "default",
    }
    pd.DataFrame(base | columns).to_parquet(path)
    return path


MLA = {"mla_dtype": "bfloat16", "num_heads": [16, 16], "batch_size": [4, 4], "latency": [0.1, 0.2]}


def test_the_prompt_table(tmp_path):
    path = saved(tmp_path, **MLA, kv_cache_dtype=["bfloat16", "fp8"], isl=[512, 512], step=[0, 0])
    bf16, fp8 = latent_prefill(path)
    assert (bf16.format, fp8.format, bf16.source, bf16.kernel) == (
        "bf16",
        "fp8",
        "trtllm-1.0.0",
        "default",
    )
    assert [float(x[0]) for x in bf16.shape] == [4, 512, 0, 16, 192, 128]
    assert bf16.seconds[0] == pytest.approx(1e-4)
    path = saved(
        tmp_path,
        **MLA | {"kernel_source": "flash_attention"},
        kv_cache_dtype="bfloat16",
        isl=[512, 64],
        step=[0, 0],
    )
    (samples,) = latent_prefill(path)
    assert samples.shape.query_dim.tolist() == [576, 576]
    assert samples.shape.value_dim.tolist() == [512, 512]


def test_the_decode_table_counts_the_new_token(tmp_path):
    path = saved(tmp_path, **MLA, kv_cache_dtype=["bfloat16", "fp8"], isl=[1, 1], step=[1023, 1023])
    bf16, fp8 = latent_decode(path)
    assert [float(x[0]) for x in bf16.shape] == [4, 1, 1024, 16, 512, 64, 2]
    assert float(fp8.shape.cache_size[0]) == 1


def test_the_table_of_absorbed_products(tmp_path):
    columns = {
        "bmm_dtype": "bfloat16",
        "num_tokens": [8, 8],
        "num_heads": [16, 16],
        "latency": [0.1, 0.1],
    }
    (samples,) = absorbed(saved(tmp_path, **columns, op_name=["mla_gen_pre", "mla_gen_post"]))
    assert samples.shape.n.tolist() == [512, 128]
    assert samples.shape.k.tolist() == [128, 512]
    assert samples.shape.moved.tolist() == [2 * 16 * 512 * 128] * 2
    with pytest.raises(InputError, match=r"op_name: 'mla_other' is not known"):
        absorbed(saved(tmp_path, **columns, op_name="mla_other"))


def test_bad_tables_are_refused_by_column(tmp_path):
    with pytest.raises(InputError, match="column 'kv_cache_dtype' is missing"):
        latent_decode(saved(tmp_path, **MLA, isl=[1, 1], step=[1, 1]))
    with pytest.raises(InputError, match=r"kv_cache_dtype: 'fp5' is not known; it is one of"):
        latent_prefill(saved(tmp_path, **MLA, isl=[1, 1], step=[0, 0], kv_cache_dtype="fp5"))


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
