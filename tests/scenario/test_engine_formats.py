"""Formats that an engine can load a model in: those of its checkpoint, of variants, and fp8."""

import json
from pathlib import Path

import pytest

import diffgenz as dgz
from diffgenz.core.formats import FORMATS
from diffgenz.models.files import list_models
from diffgenz.models.names import architecture
from diffgenz.models.variants import _by_architecture, variants_of
from diffgenz.scenario.engines.formats import offered

CONFIGS = Path(dgz.__file__).parent / "models" / "configs"


def known(model):
    return offered(dgz.load_model(model))


@pytest.mark.parametrize(
    ("model", "weights", "loads"),
    [
        ("Qwen/Qwen3-32B", "bf16", True),
        ("Qwen/Qwen3-32B", "fp8", True),  # made as it is loaded
        ("Qwen/Qwen3-32B", "fp8_block", True),  # Qwen3-32B-FP8
        ("Qwen/Qwen3-32B", "int4", True),  # Qwen3-32B-AWQ
        ("Qwen/Qwen3-32B", "mxfp4", False),
        ("meta-llama/Llama-2-7b-hf", "int4", False),
        ("openai/gpt-oss-120b", "mxfp4", True),
        ("openai/gpt-oss-120b", "fp8", False),  # vLLM issue 19050
        ("deepseek-ai/DeepSeek-V3", "fp8_block", True),
        ("deepseek-ai/DeepSeek-V3", "fp8", False),
        ("deepseek-ai/DeepSeek-V3", "bf16", False),
        ("deepseek-ai/DeepSeek-V3", "nvfp4", True),
    ],
)
def test_formats(model, weights, loads):
    reason = known(model).refusal(dgz.Precision(weights=weights))
    assert (reason is None) == loads
    if not loads:
        assert reason.startswith(f"weights {weights}: ")
        assert "use one of " in reason


def test_fp8_is_made_only_of_a_checkpoint_that_is_not_quantised():
    fp8 = dgz.Precision("bf16", "fp8", "fp8")
    assert known("Qwen/Qwen3-32B").made_on_the_fly(fp8)
    for model in ("openai/gpt-oss-120b", "deepseek-ai/DeepSeek-V3"):
        assert not known(model).made_on_the_fly(fp8)


def test_a_variant_serves_what_the_checkpoint_does_not():
    int4 = dgz.Precision("bf16", "int4", "bf16")
    assert known("Qwen/Qwen3-32B").variant(int4) == "Qwen/Qwen3-32B-AWQ"
    assert known("Qwen/Qwen3-32B").variant(dgz.Precision()) is None
    assert known("deepseek-ai/DeepSeek-V3").variant(dgz.Precision(weights="fp8_block")) is None


def test_variants_are_of_shipped_models_in_known_formats():
    shipped = {architecture(each) for each in list_models()}
    for name, variants in _by_architecture().items():
        assert name in shipped
        assert set(variants) <= set(FORMATS)
    assert variants_of("meta-llama/Llama-3.1-8B") == variants_of("Meta-Llama-3.1-8B-Instruct")
    assert variants_of("some/Other-7B") == {}


def test_nothing_is_said_of_checkpoints_that_nobody_knows(tmp_path):
    config = json.loads((CONFIGS / "Qwen/Qwen3-0.6B.json").read_text())
    assert offered(dgz.model_from_config(config, "by hand")) is None
    relative = dgz.load_model("someone/Qwen3-0.6B-w8a8")
    assert offered(relative) is None
    path = tmp_path / "mine" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(config | {"quantization_config": {"quant_method": "odd"}}))
    assert offered(dgz.load_model(path)) is None
    path.write_text(json.dumps(config))
    assert offered(dgz.load_model(path)).checkpoint == ()
