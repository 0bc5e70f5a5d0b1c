"""From words to a scenario: the rules, and what people are told."""

import re

import jax
import pytest

import diffgenz as dgz
from diffgenz.scenario.from_words import from_words
from diffgenz.studies.requirements import ideal_platform

LLAMA = {"model": "meta-llama/Llama-3.1-8B", "system": "h100_sxm", "fit": "none"}
DRAFTS = {"drafts": 3, "acceptance": 0.5}


def asked(**words):
    return from_words(LLAMA | words)


def test_it_is_the_scenario_that_python_would_make(llama_8b):
    case = asked(gpus=2, isl=512, osl=64, batch=8, chunk=256).scenario
    platform = dgz.load_platform("h100_sxm", 2, "none")
    serving = dgz.Serving(chunk=256)
    by_hand = dgz.Scenario(llama_8b, platform, dgz.Workload(8, 512, 64), serving=serving)
    assert jax.tree.structure(case) == jax.tree.structure(by_hand)
    assert jax.tree.leaves(case) == jax.tree.leaves(by_hand)


def test_ranks_that_no_word_claims_are_tensor_parallel():
    assert int(asked(gpus=8, dp=2).scenario.plan.tensor) == 4
    assert int(asked().scenario.plan.tensor) == 1
    plan = asked(tp=2, pp=2).scenario
    assert int(plan.platform.accelerators) == int(plan.plan.ranks) == 4


def test_what_is_not_asked_for_leaves_no_trace():
    case = asked(cp=1, sp=False).scenario
    assert case.plan.context is None
    assert case.plan.sequence is None
    assert case.serving == dgz.Serving()


def test_sharpness():
    assert asked().scenario.sharpness == dgz.SHARPNESS
    assert asked(sharpness=2).scenario.sharpness == 2
    assert asked(sharpness="hard").scenario.sharpness == dgz.HARD


def test_a_draft_model_has_the_formats_and_ranks_of_the_model():
    model = "HuggingFaceTB/SmolLM2-1.7B"
    words = DRAFTS | {"gpus": 8, "draft-model": model, "kv-cache": "fp8"}
    draft = asked(**words).scenario.serving.draft
    assert int(draft.tensor) == 8
    assert draft.precision.kv_cache == "fp8"
    apart = asked(**words, **{"draft-system": "l40s"}).scenario.serving.draft
    assert int(apart.tensor) == 1
    assert apart.platform.accelerator.name == "NVIDIA L40S 48GB"
    assert apart.platform.accelerator.kernels is None
    mtp = from_words(LLAMA | DRAFTS | {"model": "deepseek-ai/DeepSeek-V3", "draft-model": "mtp"})
    assert isinstance(mtp.scenario.serving.draft, dgz.MTP)
    assert asked(**DRAFTS).scenario.serving.draft is None


def test_without_a_system():
    case = from_words({"model": LLAMA["model"], "tp": 4}, without_system=ideal_platform)
    assert case.system is None
    assert int(case.scenario.platform.accelerators) == 4
    assert asked().system == "h100_sxm"
    with pytest.raises(dgz.InputError, match="--system: is missing; see `diffgenz list systems`"):
        from_words({"model": LLAMA["model"]})
    with pytest.raises(dgz.InputError, match="--model: is missing; see `diffgenz list models`"):
        from_words({"system": "h100_sxm"})


WRONG = {
    "gpus": ({"gpus": 0}, "--gpus: 0 is not allowed; it must be at least 1"),
    "attention-dp": ({"attention_dp": 0}, "--attention-dp: 0 is not allowed"),
    "too few": ({"gpus": 4, "tp": 8}, "--gpus: tp 8 x cp 1 x attention-dp 1 x pp 1 x dp 1 = 8"),
    "uneven": ({"gpus": 8, "dp": 3}, "--gpus: 8 accelerators do not divide over the 3 of cp"),
    "sharpness": ({"sharpness": 3}, "--sharpness: '3' is not available; use 1, 2, 4, 8 or hard"),
    "no acceptance": ({"drafts": 3}, "--drafts: 3 drafts need --acceptance"),
    "no drafts": ({"acceptance": 0.5}, "--acceptance: 0.5 is of no use without --drafts"),
    "no draft model": (DRAFTS | {"draft-system": "l40s"}, "--draft-system: l40s is of no use"),
    "ngrams": ({"draft-model": "mtp"}, "--draft-model: mtp is of no use without --drafts"),
}


@pytest.mark.parametrize("what", WRONG)
def test_errors_name_the_word_as_its_flag(what):
    words, message = WRONG[what]
    with pytest.raises(dgz.InputError, match=message):
        from_words(LLAMA | words)


NOTES = {
    "as asked": ("deepseek-ai/DeepSeek-V3", "h100_sxm", "fp8", "^$"),
    "hint": (
        "deepseek-ai/DeepSeek-V3",
        "h100_sxm",
        None,
        r"^; the checkpoint is quantised \(fp8\): --weights checkpoint takes its formats$",
    ),
    "taken": (
        "deepseek-ai/DeepSeek-V3",
        "h100_sxm",
        "checkpoint",
        r"^; as the checkpoint \(fp8\)$",
    ),
    "not multiplied": (
        "deepseek-ai/DeepSeek-V3",
        "a100_sxm",
        "checkpoint",
        "but .*A100.* does not multiply fp8: activations stay bf16$",
    ),
    "experts only": (
        "openai/gpt-oss-20b",
        "h100_sxm",
        "checkpoint",
        r"^; as the checkpoint \(mxfp4\)$",
    ),
    "plain": (LLAMA["model"], "h100_sxm", "checkpoint", "^; the checkpoint is not quantised$"),
}


@pytest.mark.parametrize("what", NOTES)
def test_people_are_told_what_a_checkpoint_is_in(what):
    model, system, weights, said = NOTES[what]
    note = from_words({"model": model, "system": system, "weights": weights, "fit": "none"}).note
    assert re.search(said, note), note


def test_the_process_is_left_as_it_was():
    before = jax.config.values.copy()
    asked(gpus=2)
    assert jax.config.values == before
