"""Readers of aiconfigurator's tables of latent attention."""

import pytest
from aiconfigurator_cases import saved

from diffgenz.calibrating.readers.aiconfigurator.latent import (
    absorbed,
    latent_decode,
    latent_prefill,
)
from diffgenz.core.errors import InputError

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
