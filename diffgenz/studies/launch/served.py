"""What engines are told of a scenario besides its plan: the model, formats, lengths and memory."""

import shlex
from pathlib import Path
from typing import NamedTuple

from diffgenz.core.errors import InputError
from diffgenz.core.verb import as_if_traced
from diffgenz.inference.jobs import jobs_of
from diffgenz.inference.memory import Memory
from diffgenz.inference.resolved import resolved
from diffgenz.operators.precision import Precision
from diffgenz.scenario.engines.engine import Ranks
from diffgenz.scenario.engines.formats import PLAIN, Offered, offered
from diffgenz.scenario.engines.refusals import longest
from diffgenz.scenario.scenario import Scenario, prompted

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
"""What engines call the formats of hidden states."""


class Served(NamedTuple):
    """What is served, and how, besides the plan.

    Arguments:
        model: the id or path of its checkpoint, quoted for a shell.
        dtype: the format of hidden states, as engines call it; None for that of the checkpoint.
        quantize: whether the engine is told to make fp8 weights.
        fp8_cache: whether keys and values are cached in fp8.
        tokens: of the longest request.
        budget: prompt tokens of an iteration of one attention group.
        chunked: whether prompts are computed in chunks.
        sequences: requests of each attention group.
        memory: B, per accelerator.
        utilization: the share of the main memory that the engine may use, in (0, 1].
        capacity: B of the main memory.
        comments: what to know.
    """

    model: str
    dtype: str | None
    quantize: bool
    fp8_cache: bool
    tokens: int
    budget: int
    chunked: bool
    sequences: int
    memory: Memory
    utilization: float
    capacity: float
    comments: tuple[str, ...]


def served(case: Scenario, engine: str) -> Served:
    """What an engine is told of a scenario.

    Arguments:
        case: the scenario.
        engine: what people call the engine.

    Raises:
        InputError: a KV cache in a format that engines do not have, or a scenario that does not fit
            in memory.
    """
    precision, ranks, known = case.precision, Ranks.of(case.plan), offered(case.model)
    cache = precision.names["kv_cache"]
    if cache not in (precision.dtype, "fp8"):
        raise InputError(
            f"kv_cache: {engine} keeps no KV cache in {cache}; choose a row with dtype or fp8"
        )
    variant = None if known is None else known.variant(precision)
    memory = memory_of_scenario(case)
    _check_fits(case, memory)
    chunk = case.serving.chunk
    prompt = int(prompted(case).workload.input_tokens)
    groups = ranks.data * ranks.attention_data
    return Served(
        model=shlex.quote(variant or _checkpoint(case)),
        dtype=None if precision.dtype == "bf16" else DTYPES[precision.dtype],
        quantize=known is not None and known.made_on_the_fly(precision),
        fp8_cache=cache == "fp8" and precision.dtype != "fp8",
        tokens=longest(case),
        budget=prompt if chunk is None else int(chunk),
        chunked=chunk is not None,
        sequences=-(-int(case.workload.batch) // groups),
        memory=memory,
        utilization=float(case.serving.memory_utilization),
        capacity=float(case.platform.accelerator.memory_capacity),
        comments=(*_of_weights(case.model.name, precision, known, variant), *_not_told(case)),
    )


def memory_of_scenario(case: Scenario) -> Memory:
    """What the scenario takes on its fullest accelerator, as its estimate has it."""
    with as_if_traced():
        return jobs_of(resolved(case)).memory


def _check_fits(case: Scenario, memory: Memory) -> None:
    """Raise `InputError` if the scenario does not fit in what the engine may use."""
    if not bool(memory.fits):
        total, usable = (float(x) / 1e9 for x in (memory.total, memory.capacity))
        share = float(case.serving.memory_utilization)
        raise InputError(
            f"memory: {total:.1f} GB exceed {usable:.1f} GB, {share:.3g} of "
            f"{case.platform.accelerator.name}; use a smaller batch, more ranks, or a larger "
            "memory_utilization (--memory-utilization)"
        )


def _checkpoint(case: Scenario) -> str:
    """The model's id, or the folder that it was loaded from."""
    path = Path(case.model.source).expanduser() if case.model.source else None
    if path is None or not path.exists():
        return case.model.name
    return str(path.parent if path.is_file() else path)


def _of_weights(
    model: str, precision: Precision, known: Offered | None, variant: str | None
) -> tuple[str, ...]:
    """What to know of the checkpoint that is served."""
    if variant is not None:
        return (f"{variant} has the sizes of {model}, in {precision.weights}",)
    if known is None and precision.weights not in PLAIN:
        return (
            f"{model} must be a checkpoint in {precision.weights}; the engine reads its formats "
            "from config.json",
        )
    return ()


def _not_told(case: Scenario) -> tuple[str, ...]:
    """What was modelled, and has options of the engine's own."""
    serving, parts = case.serving, []
    if serving.speculation is not None:
        drafts, acceptance = serving.speculation.drafts, serving.speculation.acceptance
        parts.append(f"{float(drafts):g} drafts, acceptance {float(acceptance):g}")
    if serving.beams is not None:
        parts.append(f"{float(serving.beams):g} beams")
    if serving.offload is not None:
        parts.append(f"offloaded {serving.offload.value}")
    if case.precision.messages != case.precision.dtype:
        parts.append(f"messages in {case.precision.messages}")
    if case.plan.sequence is not None:
        parts.append("sequence parallelism")
    if not parts:
        return ()
    return (f"modelled with {', '.join(parts)}: set the engine's own options for it",)
