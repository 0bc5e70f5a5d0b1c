"""Records as text: values with units, and nothing that is as by default."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
from support import make_cluster

from diffgenz import (
    Parallelism,
    Precision,
    Scenario,
    Workload,
    estimate,
    load_model,
    load_platform,
)


def test_numbers_have_their_units_and_defaults_are_left_out():
    assert repr(Workload(64, 2048)) == "Workload(batch=64, input_tokens=2048)"
    text = repr(make_cluster())
    assert "memory_bandwidth=4 TB/s" in text
    assert "np.float32" not in text
    assert len(repr(load_platform("h100_sxm", 8))) < 1500


def test_batches_say_their_range():
    batch = jax.vmap(lambda b: Workload(b, 2048))(jnp.array([1.0, 8.0, 64.0]))
    assert "batch=<3 numbers, 1 to 64>" in repr(batch)
    assert "input_tokens=<3 times 2048>" in repr(batch)


def scenario(batch):
    model = load_model("meta-llama/Llama-3.1-8B")
    return Scenario(model, make_cluster(), Workload(batch, 256, 32), Parallelism(8))


def test_an_estimate_prints_its_metrics_and_whether_it_fits():
    text = repr(estimate(scenario(8)))
    assert all(part in text for part in (" ms", " tokens/s", "fits=True"))
    assert "fits=True" not in repr(estimate(scenario(1e6)))


def test_traced_records_print_too():
    seen = []
    jax.jit(lambda b: seen.append(repr(estimate(scenario(b)))) or b)(8.0)
    assert "traced float32[]" in seen[0]


def test_estimates_become_dicts_and_tables():
    found = jax.vmap(lambda b: estimate(scenario(b)))(jnp.array([1.0, 8.0, 1e6]))
    table, columns = found.to_pandas(), found.to_dict()
    assert list(table) == list(columns)
    assert table["fits"].tolist() == [True, True, False]
    np.testing.assert_array_equal(table["tpot"], np.asarray(found.tpot))
    assert estimate(scenario(8)).to_pandas().shape == (1, len(columns))


WRONG = """
from diffgenz import *
model, platform = load_model("meta-llama/Llama-3.1-8B"), load_platform("h100_sxm", fit="none")
for parts in (("ORG/NAME", platform), (platform, platform), (model, "h100_sxm"), (None, platform),
              (model, platform, 64), (model, platform, None, 8),
              (model, platform, None, None, "fp8")):
    try:
        Scenario(*parts)
    except InputError as error:
        print(error)
"""
REFUSALS = [
    "model: 'ORG/NAME' is no Model; write load_model(\"ORG/NAME\")",
    'model: a Platform is no Model; write load_model("ORG/NAME")',
    "platform: 'h100_sxm' is no Platform; write load_platform(\"SYSTEM\", accelerators)",
    'model: a NoneType is no Model; write load_model("ORG/NAME")',
    "workload: a int is no Workload; write Workload(batch, input_tokens, output_tokens)",
    "plan: a int is no Parallelism; write Parallelism(tensor=8)",
    'precision: \'fp8\' is no Precision; write Precision(weights="fp8", activations="fp8")',
]


def test_a_part_that_is_no_record_is_refused():
    """In a process without the type checks of tests, which would come first."""
    run = subprocess.run([sys.executable, "-c", WRONG], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == REFUSALS


def test_precision_is_told_in_words():
    assert repr(Precision()) == (
        "Precision(weights bf16, activations bf16, KV cache bf16, else bf16)"
    )
