"""The reader of aiconfigurator's tables of experts, and what its collectors draw."""

import numpy as np
import pandas as pd
import pytest

from diffgenz.calibrating.readers.aiconfigurator.collector_draws import balanced, power_law
from diffgenz.calibrating.readers.aiconfigurator.experts import experts
from diffgenz.core.errors import InputError
from diffgenz.kernels.forms.experts import Experts, rows_of_active
from diffgenz.kernels.shapes import ExpertsShape


def active(shape):
    rows, of_active = rows_of_active(ExpertsShape(*(np.float64(x) for x in shape)))
    return float(rows / of_active)


def table(tmp_path, **columns):
    path = tmp_path / "moe_perf.csv"
    common = {
        "framework": "TRTLLM",
        "version": "1.0",
        "kernel_source": "one",
        "moe_dtype": "fp8",
        "num_tokens": 4,
        "hidden_size": 64,
    }
    common |= {
        "inter_size": 32,
        "topk": 2,
        "num_experts": 8,
        "moe_tp_size": 2,
        "moe_ep_size": 1,
        "distribution": "balanced",
        "latency": 1.0,
    }
    pd.DataFrame(common | columns, index=range(1)).to_csv(path, index=False)
    return path


def test_a_table_is_read_in_seconds_and_shards(tmp_path):
    (samples,) = experts(table(tmp_path))
    assert samples.form is Experts
    assert samples.format == "fp8"
    assert samples.seconds.tolist() == [1e-3]
    numbers = {name: float(column[0]) for name, column in samples.shape._asdict().items()}
    assert numbers == {
        "tokens": 4, "used": 2, "experts": 8, "groups": 1, "hidden": 64, "width": 16, "up": 32,
        "excess": 1, "variation": 0,
        "weight_size": 1, "activation_size": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kernel", "numbers", "up"),
    [
        ("moe_torch_flow_nongated", {}, 16),
        ("vllm_unquantizedfusedmoe_triton_tritonexperts", {"topk": 22, "num_experts": 512}, 16),
        ("vllm_unquantizedfusedmoe_triton_tritonexperts", {}, 32),
        ("sglang_flashinfer_trtllm_moe", {"topk": 6, "num_experts": 128}, 16),
        ("sglang_fused_moe_triton", {"topk": 22, "num_experts": 512}, 32),
        ("vllm_fused_moe", {"topk": 22, "num_experts": 512}, 32),
    ],
)
def test_nemotron_is_not_gated_where_collectors_know_it(tmp_path, kernel, numbers, up):
    (samples,) = experts(table(tmp_path, kernel_source=kernel, **numbers))
    assert samples.shape.up.tolist() == [up]


def test_a_few_balanced_tokens_leave_the_first_group_more_than_its_share(tmp_path):
    """One token goes to experts 0 and 4 of 8: the first of 8 groups has four times the mean."""
    (samples,) = experts(table(tmp_path, num_tokens=1, moe_ep_size=8))
    assert samples.shape.excess.tolist() == [4]
    assert active(ExpertsShape(*(column[0] for column in samples.shape))) == pytest.approx(
        1, rel=5e-3
    )


def test_old_sglang_multiplies_all_rows_of_the_tokens_that_touch_the_group(tmp_path):
    """Four tokens go to experts t and t + 4: the first of two groups has 4 of the 8 rows."""
    found = {
        version: experts(table(tmp_path, framework="SGLang", version=version, moe_ep_size=2))[
            0
        ].shape.excess.tolist()
        for version in ("0.5.10", "0.5.14")
    }
    assert found == {"0.5.10": [2], "0.5.14": [1]}


def test_balanced_draws_worked_by_hand():
    assert balanced(2, 2, 8, 2) == (2, 2, 2)  # experts 0 and 4, 2 and 6
    assert balanced(3, 2, 8, 4) == (2, 2, 2)  # 0 and 4, 1 and 5, 2 and 6
    assert balanced(20, 2, 8, 4) == (10, 2, 10)  # dealt out: two rounds and a half


@pytest.mark.parametrize(
    ("tokens", "groups"), [(1, 1), (1, 8), (3, 4), (64, 1), (64, 16), (4096, 64)]
)
def test_power_laws_give_the_busiest_group_what_there_can_be(tokens, groups):
    rows, reached, touching = power_law(1.2, tokens, 8, 64, groups)
    local, mean = 64 / groups, 8 * tokens / groups
    assert mean * (1 - 1e-9) <= rows <= min(8 * tokens, local * tokens)
    assert 1 <= reached <= min(local, rows)
    assert rows / 8 * (1 - 1e-9) <= touching <= tokens or groups == 1
    if groups == 1:
        assert rows == 8 * tokens


def test_unknown_distributions_are_refused(tmp_path):
    with pytest.raises(InputError, match="column 'distribution' has 'zipf'"):
        experts(table(tmp_path, distribution="zipf"))
