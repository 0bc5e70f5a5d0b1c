"""A scenario as text for people and as JSON: its title, ranks, formats, options and kernels."""

from collections.abc import Mapping, Sequence
from typing import Any

from diffgenz.core.smooth import Leaf
from diffgenz.kernels.families import FAMILIES
from diffgenz.kernels.selection import ON, ROOFLINE, TRANSFERRED
from diffgenz.models.model import Model
from diffgenz.operators.precision import Precision
from diffgenz.scenario.engines.refusals import engine_notes
from diffgenz.scenario.from_words import Asked
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario
from diffgenz.scenario.serving_options import Draft, Offload, Serving
from diffgenz.ui.text.routing import routing_lines

UNCALIBRATED = "uncalibrated: smooth roofline with launch latency, peaks fully reached"
"""What the line above a result says where no fitted kernel times any of it."""

UNEQUAL = (
    "not on one footing: bounds and other accelerators' kernels win without being faster; put "
    '[kernels] like = "SYSTEM" in the file of an accelerator of your own, or give --fit none'
)
"""What the line below says where choices that are compared are timed in different ways."""


def title(case: Scenario, note: str, kernels: dict[str, str], engines: Sequence[str] = ()) -> str:
    """What is estimated, for people: the lines above every result.

    Arguments:
        case: the scenario.
        note: what there is to tell of the checkpoint's formats, "" for nothing.
        kernels: what times them (`inference.timed_by`).
        engines: what serving engines would refuse of it (`scenario.engines.refusals`).
    """
    model, plan = case.model, case.plan
    unused = int(case.platform.accelerators) - int(plan.ranks)
    machine = f"{machines(case)} ({unused} more unused)" if unused else machines(case)
    return "\n".join(
        [
            f"{model.name} ({parameters(model)}) on {machine}",
            *note_lines(case, engines),
            f"{ranks_line(model, plan)}; {tokens_line(case)}",
            *routing_lines(case.routing),
            *serving_lines(case.serving),
            case.precision.summary + note,
            kernels_line(kernels),
        ]
    )


def title_of_several(asked: Mapping[str, Asked], kernels: Mapping[str, dict[str, str]]) -> str:
    """What is estimated on several systems, for people: the lines above their results.

    What is alike is said once, what differs for each system.

    Arguments:
        asked: the questions, by what people call the system.
        kernels: what times them (`inference.timed_by`), by the same.
    """
    cases = {name: each.scenario for name, each in asked.items()}
    case = next(iter(cases.values()))
    own = {
        name: [f"note: {note}" for note in (*each.platform.notes, *engine_notes(each))]
        for name, each in cases.items()
    }
    return "\n".join(
        [
            f"{case.model.name} ({parameters(case.model)}) "
            f"on {int(case.plan.ranks)} each of {', '.join(cases)}",
            *(line for line in note_lines(case) if line not in next(iter(own.values()))),
            *_alike(own),
            f"{ranks_line(case.model, case.plan)}; {tokens_line(case)}",
            *serving_lines(case.serving),
            *_alike(
                {n: [each.scenario.precision.summary + each.note] for n, each in asked.items()}
            ),
            *kernel_lines(kernels),
        ]
    )


def _alike(lines: Mapping[str, list[str]]) -> list[str]:
    """Lines of several systems: once where all have the same, else each with its systems."""
    found: dict[str, list[str]] = {}
    for name, own in lines.items():
        for line in own:
            found.setdefault(line, []).append(name)
    everyone = list(lines)
    return [
        line if names == everyone else f"{', '.join(names)}: {line}"
        for line, names in found.items()
    ]


def machines(case: Scenario) -> str:
    """The accelerators in use, for people."""
    return f"{int(case.plan.ranks)} x {case.platform.accelerator.name}"


def deployed(case: Scenario) -> str:
    """A model and the accelerators that serve it, for people: the title of a picture."""
    return f"{case.model.name} on {machines(case)}"


def tokens_line(case: Scenario) -> str:
    """How long prompts and answers are, for people."""
    model, workload = case.model, case.workload
    prompt = f"{float(workload.input_tokens):g} tokens"
    if float(workload.images) and model.vision is not None:
        tokens = float(model.vision.tokens)
        prompt += f" and {float(workload.images):g} x {tokens:g} of images"
    return f"{prompt} in, {float(workload.output_tokens):g} out"


def notes_of(case: Scenario) -> list[str]:
    """What to know of the model, and what was set of the platform."""
    return [*case.model.notes, *case.platform.notes]


def note_lines(case: Scenario, others: Sequence[str] = ()) -> list[str]:
    """The same and what to know of the draft model, for people: a line for each note.

    Arguments:
        case: the scenario.
        others: further notes.
    """
    draft = case.serving.draft
    notes = [f"note: {note}" for note in notes_of(case)]
    if isinstance(draft, Draft):
        notes += [f"note: {draft.model.name}: {note}" for note in draft.model.notes]
    return [*notes, *(f"note: {note}" for note in others)]


def parameters(model: Model) -> str:
    """How large a model is, for people."""
    text = f"{float(model.parameters) / 1e9:.3g}e9 parameters"
    if model.experts:
        text += f", {float(model.active_parameters) / 1e9:.3g}e9 active"
    return text


def kernels_line(found: dict[str, str]) -> str:
    """What times the kernels, for people.

    It says the source of most of those that compute, and the families of those of other sources.
    """
    groups, main = _by_source(found)
    if main == ROOFLINE:
        return UNCALIBRATED
    others = {source: kernels for source, kernels in groups.items() if source != main}
    rest = [f"{', '.join(kernels)} {_of(source)}" for source, kernels in others.items()]
    first = f"as measured, {_of(main)}" if _footing(main) == "measured" else _of(main)
    return f"kernels {first}" + (f" ({'; '.join(rest)})" if rest else "")


def kernel_lines(kernels: Mapping[str, dict[str, str]]) -> list[str]:
    """What times the kernels of several choices: one line for all, or one for each that differs.

    Arguments:
        kernels: what times them (`inference.timed_by`), by what people call the choice.
    """
    lines: dict[str, list[str]] = {}
    for choice, found in kernels.items():
        lines.setdefault(kernels_line(found), []).append(choice)
    if len(lines) < 2:
        return list(lines)
    told = [f"{', '.join(choices)}: {line}" for line, choices in lines.items()]
    footings = {_footing(_by_source(found)[1]) for found in kernels.values()}
    return [*told, UNEQUAL] if len(footings) > 1 else told


def _by_source(found: dict[str, str]) -> tuple[dict[str, list[str]], str]:
    """Kernels by what times them, and the source of most of those that compute."""
    groups: dict[str, list[str]] = {}
    for kernel, source in found.items():
        groups.setdefault(source, []).append(kernel)
    fitted = [source for source in groups if source != ROOFLINE]
    if not fitted:
        return groups, ROOFLINE
    return groups, max(fitted, key=lambda each: (" for " not in each, _computing(groups[each])))


def _footing(source: str) -> str:
    """How a source times kernels: "measured", "like", "transferred" or "roofline"."""
    if source.startswith((ROOFLINE, TRANSFERRED)):
        return source.partition(" ")[0]
    return "like" if ON in source else "measured"


def _computing(kernels: Sequence[str]) -> int:
    """How many of some kernels are no messages between ranks."""
    families = (FAMILIES.get(kernel.partition(" ")[0]) for kernel in kernels)
    return sum(1 for family in families if family is None or family.kind != "network")


def _of(source: str) -> str:
    """Where the time of a kernel comes from, for people."""
    if source == ROOFLINE:
        return "by the roofline"
    origin, _, format = source.partition(" for ")
    source, on, system = origin.partition(ON)
    text = "transferred from other GPUs" if source == TRANSFERRED else f"of {source}{on}{system}"
    return f"{text} for {format}" if format else text


def kernels_word(found: dict[str, str], linear: str) -> str:
    """What times the linear layers of one deployment, in a word or two for a table.

    Arguments:
        found: what times its kernels (`inference.timed_by`).
        linear: the format of its linear layers.
    """
    own = [found[name] for name in (f"gemm {linear}", f"experts {linear}") if name in found]
    parts = (source.partition(" for ") for source in own)
    named = [f"{_short(origin)}{by}{format}" for origin, by, format in parts]
    bounds = {name.partition(" ")[0] for name, source in found.items() if source == ROOFLINE}
    bounds -= {"gemm", "experts"}
    rest = f"; roofline: {', '.join(sorted(bounds))}" if bounds and set(named) != {ROOFLINE} else ""
    return " + ".join(dict.fromkeys(named)) + rest


def _short(source: str) -> str:
    """A source without its version."""
    software, on, system = source.partition(ON)
    return f"{software.partition('-')[0]}{on}{system}"


def ranks_line(model: Model, plan: Parallelism) -> str:
    """The ranks of a plan, for people.

    Tensor, pipeline and data ranks are always said; those of experts where there are experts;
    others where they are in use.
    """
    ranks = f"tp {int(plan.tensor)}"
    ranks += "" if plan.context is None else f", cp {int(plan.context)}"
    ranks += f", pp {int(plan.pipeline)}, dp {int(plan.data)}"
    if model.experts:
        ranks += f", ep {int(plan.expert)}, attention dp {int(plan.attention_data)}"
    return ranks + ("" if plan.sequence is None else ", sequence parallel")


def ranks_json(plan: Parallelism) -> dict[str, Any]:
    """The ranks of a plan, by field, and whether it is sequence parallel."""
    names = ("tensor", "pipeline", "data", "expert", "attention_data")
    return {
        **{name: int(getattr(plan, name)) for name in names},
        "context": 1 if plan.context is None else int(plan.context),
        "sequence": plan.sequence is not None,
    }


def precision_json(precision: Precision) -> dict[str, Any]:
    """The formats, and those of modules that have formats of their own."""
    return {**precision.names, "modules": precision.modules_named}


def serving_json(serving: Serving) -> dict[str, Any]:
    """The serving options in use; null where one is not."""
    speculation, draft = serving.speculation, serving.draft
    told: dict[str, Any] = {"drafts": None, "acceptance": None, "tokens_per_verification": None}
    if speculation is not None:
        told = {
            "drafts": float(speculation.drafts),
            "acceptance": float(speculation.acceptance),
            "tokens_per_verification": float(speculation.tokens),
        }
    model, system = draft and "mtp", None
    if isinstance(draft, Draft):
        model = draft.model.name
        system = draft.platform and draft.platform.accelerator.name
    return {
        "chunk": plain(serving.chunk),
        "memory_utilization": round(float(serving.memory_utilization), 6),
        "prefix_hit": plain(serving.prefix_hit) or 0.0,
        **told,
        "draft_system": system,
        "draft_model": model,
        "beams": plain(serving.beams),
        "offload": serving.offload and serving.offload.value,
    }


def serving_lines(serving: Serving, chunks: Sequence[Leaf | float | None] = ()) -> list[str]:
    """The serving options, for people: one line.

    Arguments:
        serving: the options.
        chunks: prompt tokens of an iteration, of which None is whole prompts, where several are
            tried.
    """
    j = serving_json(serving)
    sizes = chunks or [serving.chunk]
    numbers = [f"{float(size):,.0f}" for size in sizes if size is not None]
    named = ["whole prompts"] if None in sizes else []
    named += [f"chunks of {' or '.join(numbers)} tokens"] if numbers else []
    parts = [" or ".join(named), f"{100 * j['memory_utilization']:g} % of memory usable"]
    if j["prefix_hit"]:
        parts.append(f"{100 * j['prefix_hit']:g} % of prompts cached")
    if serving.speculation is not None:
        own = not isinstance(serving.draft, Draft)
        by = f" by {'its own MTP module' if own else j['draft_model']}" if serving.draft else ""
        on = f" on {j['draft_system']}" if j["draft_system"] else ""
        tokens = f"{j['tokens_per_verification']:.3g} tokens per verification"
        parts.append(f"{j['drafts']:g} drafts{by}{on}, acceptance {j['acceptance']:g}: {tokens}")
    if serving.beams is not None:
        parts.append(f"{j['beams']:g} beams")
    if serving.offload is not None:
        what = {Offload.WEIGHTS: "weights", Offload.KV_CACHE: "KV cache"}[serving.offload]
        parts.append(f"{what} in slower memory where the main one is full")
    return [f"serving: {'; '.join(parts)}"]


def plain(value: Leaf | None) -> float | None:
    """A number of a record as JSON takes it."""
    return None if value is None else float(value)
