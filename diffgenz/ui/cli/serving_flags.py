"""The serving options of the command line: flags in, a line for people and JSON out."""

import argparse
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.core.smooth import Leaf
from diffgenz.hardware.platform import load_platform
from diffgenz.kernels.software import NONE
from diffgenz.models.huggingface import load_model
from diffgenz.operators.precision import Precision
from diffgenz.scenario.serving_options import MTP, Draft, Offload, Serving, Speculation


def serving_of(options: argparse.Namespace, tensor: int, precision: Precision) -> Serving | None:
    """The serving options, or None where no flag asks for any. A draft model gets the ranks and formats of the other, as far as it has heads."""
    if options.drafts is None:
        for flag, value in (
            ("--acceptance", options.acceptance),
            ("--draft-model", options.draft_model),
            ("--draft-system", options.draft_system),
        ):
            if value is not None:
                raise InputError(
                    f"{flag}: {value} is of no use without --drafts; give the tokens proposed for each verification"
                )
    elif options.acceptance is None:
        raise InputError(
            f"--drafts: {options.drafts:g} drafts need --acceptance, the probability that one is accepted"
        )
    if all(
        value is None
        for value in (
            options.chunk,
            options.prefix_hit,
            options.drafts,
            options.beams,
            options.offload,
        )
    ):
        return None
    draft = speculation = None
    if options.draft_model == "mtp":
        draft = MTP()
    elif options.draft_model is not None:
        model = load_model(options.draft_model)
        own = (
            None
            if options.draft_system is None
            else load_platform(options.draft_system, fit=getattr(options, "fit", NONE))
        )
        draft = Draft(
            model, min(tensor, int(model.most_shards)) if own is None else 1, precision, own
        )
    if options.draft_system is not None and not isinstance(draft, Draft):
        raise InputError(
            f"--draft-system: {options.draft_system} is of no use without the --draft-model that runs there"
        )
    if options.drafts is not None:
        speculation = Speculation(options.drafts, options.acceptance, draft)
    offload = None if options.offload is None else options.offload.replace("-", "_")
    return Serving(
        options.chunk,
        0.0 if options.prefix_hit is None else options.prefix_hit,
        speculation,
        options.beams,
        offload,
    )


def serving_json(serving: Serving | None) -> dict[str, Any]:
    """The options in use; null where one is not."""
    s = serving or Serving()
    names = {
        "drafts": s.speculation and float(s.speculation.drafts),
        "acceptance": s.speculation and float(s.speculation.acceptance),
        "tokens_per_verification": s.speculation and float(s.speculation.tokens),
        "draft_system": s.draft.platform.accelerator.name
        if isinstance(s.draft, Draft) and s.draft.platform is not None
        else None,
        "draft_model": s.draft.model.name if isinstance(s.draft, Draft) else s.draft and "mtp",
    }
    offload = s.offload and s.offload.value
    return {
        "chunk": _number(s.chunk),
        "prefix_hit": float(s.prefix_hit),
        **names,
        "beams": _number(s.beams),
        "offload": offload,
    }


def serving_line(serving: Serving) -> str:
    """The options in use, for people."""
    j = serving_json(serving)
    parts = [f"chunks of {j['chunk']:g} tokens"] if serving.chunk is not None else []
    if j["prefix_hit"]:
        parts.append(f"{100 * j['prefix_hit']:g} % of prompts cached")
    if serving.speculation is not None:
        by = (
            ""
            if serving.draft is None
            else f" by {j['draft_model'] if isinstance(serving.draft, Draft) else 'its own MTP module'}"
        )
        by += f" on {j['draft_system']}" if j["draft_system"] else ""
        parts.append(
            f"{j['drafts']:g} drafts{by}, acceptance {j['acceptance']:g}: {j['tokens_per_verification']:.3g} tokens per verification"
        )
    if serving.beams is not None:
        parts.append(f"{j['beams']:g} beams")
    if serving.offload is not None:
        what = {Offload.WEIGHTS: "weights", Offload.KV_CACHE: "KV cache"}[serving.offload]
        parts.append(f"{what} in slower memory where the main one is full")
    return "serving: " + ("; ".join(parts) or "no option in use")


def _number(value: Leaf | None) -> float | None:
    return None if value is None else float(value)
