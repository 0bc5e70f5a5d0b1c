"""A scenario made of the words that people write: the few rules that the table of words cannot say.

    from_words({"model": "Qwen/Qwen3-8B", "system": "h100_sxm", "gpus": 8, "isl": 2048}).scenario

Flags and space files come here. Nothing in the caller's process is changed. The rules:

- Hidden states are bf16, or fp16 on an accelerator that multiplies no bf16.
- Ranks that no word claims are tensor-parallel.
- `weights = "checkpoint"` takes a checkpoint's own formats.
- Drafts need an acceptance.
- A draft model has the formats of the model, and its tensor-parallel ranks as far as it has heads.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from diffgenz.core import xp
from diffgenz.core.errors import InputError
from diffgenz.core.smooth import HARD
from diffgenz.hardware.accelerator import Accelerator
from diffgenz.hardware.platform import Platform, load_platform
from diffgenz.hardware.settings import with_settings
from diffgenz.hardware.specs import read_spec
from diffgenz.models.checkpoints import (
    load_precision,
    quantization_section,
    read_source,
    read_stored,
)
from diffgenz.models.files import locate
from diffgenz.models.huggingface import load_model
from diffgenz.operators.precision import Precision
from diffgenz.operators.routing import Routing, Traced
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.routing_words import read_routing
from diffgenz.scenario.scenario import Scenario
from diffgenz.scenario.serving_options import MTP, Draft, Serving, Speculation
from diffgenz.scenario.words import CHECKPOINT, WORDS, read_words
from diffgenz.scenario.workload import Workload

_RANKS = ("gpus", "tp", "cp", "pp", "dp", "ep", "attention-dp")

Words = Mapping[str, Any]


class Asked(NamedTuple):
    """The question that some words ask.

    Arguments:
        scenario: the question.
        system: the id of its accelerator's file; None where no word names an accelerator.
        note: what people are told about the checkpoint's own formats, to be read after
            `Precision.summary`; "" where there is nothing to tell.
    """

    scenario: Scenario
    system: str | None
    note: str


def from_words(
    words: Words,
    without_system: Callable[[Parallelism, Precision], Platform] | None = None,
    settings: Sequence[str] = (),
) -> Asked:
    """The scenario that some words describe.

    Arguments:
        words: values by word (`scenario.words.WORDS`). Words that are left out, or are None, have
            their defaults. `model` is required.
        without_system: makes the platform from a plan and formats where no `system` is named.
            None: `system` is required, too.
        settings: numbers of the system to change, such as "memory_bandwidth=7 TB/s"
            (`hardware.settings`).

    Raises:
        InputError: an unknown word, a value that is refused, or words that do not go together. The
            message names the word by its flag.
    """
    values = read_words(words)
    for name in ("model", "system"):
        if values[name] is None and (name == "model" or without_system is None):
            raise InputError(f"--{name}: is missing; see `diffgenz list {name}s`")
    plan, accelerators = _plan(values)
    model = load_model(values["model"], values["generic"])
    if values["system"] is not None:
        spec = with_settings(read_spec(values["system"]), settings)
        platform = Platform.from_spec(spec, accelerators, values["fit"])
        precision, note = _precision(values, platform.accelerator)
        system = spec.id
    elif settings:
        raise InputError(f"--set: {settings[0]!r} changes nothing without a --system; name one")
    else:
        assert without_system is not None
        precision, note = _precision(values, None)
        platform, system = without_system(plan, precision), None
    scenario = Scenario(
        model,
        platform,
        Workload(**_numbers(values, "workload")),
        plan,
        precision,
        _serving(values, plan, precision),
        _routing(values),
        _sharpness(values["sharpness"]),
    )
    return Asked(scenario, system, note)


def _plan(values: Words) -> tuple[Parallelism, int]:
    """The plan, and the number of accelerators that it runs on."""
    for name in _RANKS:
        value = values[name]
        if value is not None and value < 1:
            raise InputError(f"--{name}: {value} is not allowed; it must be at least 1")
    context, attention, pipeline, data = (
        values[name] for name in ("cp", "attention-dp", "pp", "dp")
    )
    others = context * attention * pipeline * data
    tensor = values["tp"] if values["tp"] is not None else _left_over(values["gpus"], others)
    ranks = tensor * others
    accelerators = values["gpus"] if values["gpus"] is not None else ranks
    if ranks > accelerators:
        layout = (
            f"tp {tensor} x cp {context} x attention-dp {attention} x pp {pipeline} x dp {data}"
        )
        raise InputError(
            f"--gpus: {layout} = {ranks} ranks exceed {accelerators}; give more, or fewer ranks"
        )
    numbers = _numbers(values, "plan") | {"tensor": tensor, "sequence": float(values["sp"])}
    return Parallelism(**numbers), accelerators


def _numbers(values: Words, record: str) -> dict[str, Any]:
    """The numbers that words set in one record of the scenario, by field."""
    return {word.number: values[name] for name, word in WORDS.items() if word.record == record}


def _left_over(gpus: int | None, others: int) -> int:
    """The tensor-parallel ranks where no word gives them.

    They are gpus / others: each group of the other ranks gets an equal part of the accelerators.

    Arguments:
        gpus: accelerators; None: as many as the other ranks use.
        others: cp x attention-dp x pp x dp.

    Raises:
        InputError: accelerators that do not divide over the other ranks.
    """
    gpus = others if gpus is None else gpus
    if gpus % others:
        raise InputError(
            f"--gpus: {gpus} accelerators do not divide over the {others} of cp, attention-dp, pp "
            "and dp; give --tp"
        )
    return gpus // others


def _precision(values: Words, accelerator: Accelerator | None) -> tuple[Precision, str]:
    """The formats, and the note on the formats of the checkpoint (`Asked.note`)."""
    names = {"activations": "activations", "kv_cache": "kv-cache", "messages": "messages"}
    given: dict[str, Any] = {field: values[word] for field, word in names.items()}
    given["dtype"] = values["dtype"] or _usual_dtype(accelerator)
    model, weights = values["model"], values["weights"]
    if values["modules"] is not None:
        if weights == CHECKPOINT:
            raise InputError(
                f"--modules: {values['modules']} contradicts --weights {CHECKPOINT}; leave one out"
            )
        given["modules"] = _modules(values["modules"])
    if weights != CHECKPOINT:
        note = _hint(model) if weights is None else ""
        return Precision(weights=weights, **given), note
    precision = load_precision(model, accelerator, **given)
    return precision, _reasons(model, precision, accelerator, values["activations"])


def _usual_dtype(accelerator: Accelerator | None) -> str:
    """The format of hidden states where no word names one."""
    peaks = () if accelerator is None else accelerator.peak_flops
    return "fp16" if "fp16" in peaks and "bf16" not in peaks else "bf16"


def _modules(text: str) -> dict[str, str]:
    """The formats by kind of layer that a text such as "attention=fp8,mlp=int4/bf16" gives."""
    found = {}
    for each in text.split(","):
        key, equals, formats = (part.strip() for part in each.partition("="))
        if not (key and equals and formats) or key in found:
            raise InputError(
                f"--modules: {each!r} is not read; write each kind of layer once, such as "
                "attention=fp8,mlp=int4/bf16"
            )
        found[key] = formats
    return found


def _hint(model: str) -> str:
    """The note that a checkpoint is quantised, for formats that are not its own."""
    section = quantization_section(read_source(model))
    if section is None or locate(model).note:
        return ""
    method = section[1].get("quant_method", "no method stated")
    return f"; the checkpoint is quantised ({method}): --weights {CHECKPOINT} takes its formats"


def _reasons(
    model: str, precision: Precision, accelerator: Accelerator | None, activations: str | None
) -> str:
    """The note on why the formats that come from a checkpoint are what they are."""
    stored = read_stored(model)
    if stored is None:
        return "; the checkpoint is not quantised"
    text = f"; as the checkpoint ({stored.method})"
    text += "".join(f", {note}" for note in stored.notes)
    if accelerator is None or activations is not None:
        return text
    meant = {each.activations for each in stored.formats.values() if each.activations}
    lost = sorted(meant - {part.activations for part in precision.parts.values()})
    if lost:
        text += f", but {accelerator.name} does not multiply {' and '.join(lost)}: "
        text += f"activations stay {precision.dtype}"
    return text


def _routing(values: Words) -> Routing | None:
    """Which experts tokens go to, as the words say; None where they say nothing."""
    named, imbalance = values["routing"], values["imbalance"]
    if imbalance is None:
        return None if named is None else read_routing(named)
    if named is not None:
        raise InputError(f"--imbalance: {imbalance:g} contradicts --routing {named}; leave one out")
    return Traced(rows=imbalance, pair=imbalance, wire=imbalance, note=f"imbalance {imbalance:g}")


def _serving(values: Words, plan: Parallelism, precision: Precision) -> Serving:
    """The serving options that the words describe."""
    offload = values["offload"]
    return Serving(
        **_numbers(values, "serving"),
        speculation=_speculation(values, plan, precision),
        offload=None if offload is None else offload.replace("-", "_"),
        mixed=values["mixed"],
    )


def _speculation(values: Words, plan: Parallelism, precision: Precision) -> Speculation | None:
    """The speculative decoding that the words describe; None where they ask for no drafts."""
    drafts, acceptance = values["drafts"], values["acceptance"]
    if drafts is None:
        for name in ("acceptance", "draft-model", "draft-system"):
            if values[name] is not None:
                raise InputError(
                    f"--{name}: {values[name]} is of no use without --drafts; give the tokens "
                    "proposed for each verification"
                )
        return None
    if acceptance is None:
        raise InputError(
            f"--drafts: {drafts:g} drafts need --acceptance, the probability that one is accepted"
        )
    numbers = _numbers(values, "serving.speculation")
    return Speculation(**numbers, draft=_draft(values, plan, precision))


def _draft(values: Words, plan: Parallelism, precision: Precision) -> Draft | MTP | None:
    """What proposes tokens; None for n-grams.

    A draft model gets the formats of the model, and its tensor-parallel ranks as far as it has
    heads. On accelerators of its own it has one rank.
    """
    named, system = values["draft-model"], values["draft-system"]
    if system is not None and named in (None, "mtp"):
        raise InputError(
            f"--draft-system: {system} is of no use without the --draft-model that runs there"
        )
    if named is None:
        return None
    if named == "mtp":
        return MTP()
    model = load_model(named, values["generic"])
    if system is not None:
        own = load_platform(system, fit=values["fit"])
        return Draft(model, precision=precision, platform=own)
    return Draft(model, xp.minimum(plan.tensor, model.most_shards), precision)


def _sharpness(text: str) -> float:
    """The sharpness that a word names, as a number."""
    if text == "hard":
        return HARD
    if text not in ("1", "2", "4", "8"):
        raise InputError(f"--sharpness: {text!r} is not available; use 1, 2, 4, 8 or hard")
    return int(text)
