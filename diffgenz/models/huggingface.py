"""From Hugging Face's config.json to a `Model`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.models.config import Config, NotModelled, brief
from diffgenz.models.context import context_of
from diffgenz.models.families.deepseek_v4 import deepseek_v4
from diffgenz.models.families.dense import DENSE
from diffgenz.models.families.early import EARLY
from diffgenz.models.families.elastic import ELASTIC
from diffgenz.models.families.gemma3n import gemma3n
from diffgenz.models.families.gemma4 import gemma4
from diffgenz.models.families.generic import generic as read_generic
from diffgenz.models.families.hybrid import HYBRID
from diffgenz.models.families.latent import LATENT
from diffgenz.models.families.moe import MOE
from diffgenz.models.families.moe_relatives import MOE_RELATIVES
from diffgenz.models.families.patterned import PATTERNED
from diffgenz.models.families.recurrent import RECURRENT
from diffgenz.models.families.relatives import RELATIVES
from diffgenz.models.families.state_spaces import state_spaces
from diffgenz.models.families.vision import tower_of
from diffgenz.models.families.windowed import WINDOWED
from diffgenz.models.files import MAMBA_SSM, NESTED, kind_of, locate, read_object
from diffgenz.models.model import Model
from diffgenz.models.mtp import has_mtp
from diffgenz.models.parts import left_out, parts_of

FAMILIES: dict[str, Callable[[Config], Model]] = {
    **DENSE,
    **RELATIVES,
    **WINDOWED,
    **ELASTIC,
    **EARLY,
    **MOE,
    **MOE_RELATIVES,
    **LATENT,
    **PATTERNED,
    **HYBRID,
    **RECURRENT,
    "gemma3n": gemma3n,
    "gemma4": gemma4,
    "deepseek_v4": deepseek_v4,
    "deepseek_ref": deepseek_v4,  # as a repository of SGLang calls it
    MAMBA_SSM: state_spaces,
}
"""The function that reads the config.json of each `model_type`."""

ALWAYS_MTP = ("qwen3_next",)
"""Families whose config.json does not mention the multi-token-prediction module of the checkpoint.

vLLM's qwen3_next_mtp assumes one, too.
"""


def model_from_config(config: Mapping[str, Any], name: str, generic: bool = False) -> Model:
    """The model that a config.json describes.

    Arguments:
        config: its content. Of a vision-language model this reads the language model, nested or
            not (`models.parts`), and the tower under "vision_config". What is not in
            `families.vision` is left out, and `Model.notes` says so.
        name: what to call the model.
        generic: whether to read a `model_type` that no family knows by the standard names of dense
            and mixture-of-experts fields (`families.generic`), and to leave out fields that are
            not modelled instead of refusing them. `Model.notes` says what was assumed and what was
            left out.

    Raises:
        InputError: a `model_type` that is not known, a field that is
            missing or out of range, or one that may change a shape and that the family does not
            know.
    """
    if not isinstance(config, Mapping):
        raise InputError(
            f"config: a {type(config).__name__} is no mapping; write load_model(PATH) for a file"
        )
    parts = parts_of(name, config, generic)
    try:
        model, language = _language(parts.language)
        wrapper = parts.wrappers[-1]
        tower = tower_of(wrapper, language)
        kind = _kind_of(language)
        mtp = has_mtp(language, default=1 if kind in ALWAYS_MTP else 0)
    except InputError as error:
        said = str(error)
        raise (error if said.startswith(name) else type(error)(f"{name}: {said}")) from None
    notes = [*model.notes]
    missing = left_out(parts, modelled=tower is not None)
    for each in parts.wrappers:
        language.ignore(*each.read)
    if not generic:
        language.refuse_unread()
    ignored = language.ignored
    if tower is not None:  # fields beside one that is not modelled are its own
        wrapper.ignore(*NESTED, *language.read)
        if not generic:
            wrapper.refuse_unread()
        ignored = [*ignored, *wrapper.ignored]
    if ignored:
        notes.append(f"ignored: {', '.join(dict.fromkeys(ignored))}")
    context = context_of(parts.language.raw)
    return model.replace(vision=tower, mtp=mtp, notes=(*notes, *missing), context=context)


def _language(config: Config) -> tuple[Model, Config]:
    """The language model of a config.json, and the facts that it was read from.

    Raises:
        InputError: as in `model_from_config`.
    """
    kind = _kind_of(config)
    try:
        if kind not in FAMILIES:
            raise _unknown(config)
        return FAMILIES[kind](config), config
    except NotModelled as error:
        if not config.generic:
            raise
        model, facts = read_generic(config.name, config.raw)
        why = "no model_type is stated" if kind is None else f"model_type {brief(kind)[1:-1]}"
        if kind in FAMILIES:
            why = str(error).removeprefix(f"{config.name}: ").partition(";")[0]
        elif kind is not None:
            why += " is not modelled"
        return model.replace(
            notes=(f"{why}: read by the standard names of fields", *model.notes)
        ), facts


def _kind_of(language: Config) -> str | None:
    """The `model_type` under which a family is known; what the file says where none is.

    Raises:
        InputError: it is no text.
    """
    language.ignore("model_type")
    kind = kind_of(language.raw)
    if kind is None:
        return None
    if not isinstance(kind, str):
        raise InputError(f"{language.name}: model_type: {brief(kind)} is not a text")
    # newer files call a family's language model so
    return kind if kind in FAMILIES else kind.removesuffix("_text")


def _unknown(language: Config) -> NotModelled:
    """The error for a `model_type` that no family knows."""
    kind = language.get("model_type")
    if kind is None:
        return NotModelled(
            f"{language.name}: config.json lacks model_type; add it, or take the complete file"
        )
    return NotModelled(
        f"{language.name}: model_type: {kind!r} is not modelled; --generic (in Python: "
        "generic=True) reads the standard names of dense and MoE fields, and says what it "
        f"assumed ({len(FAMILIES)} types are modelled; `diffgenz list models` has files of them)"
    )


def load_model(model: str | Path, generic: bool = False) -> Model:
    """A shipped model, or the model that any config.json describes.

    Arguments:
        model: the Hugging Face id of a shipped model (see `diffgenz list models`) or of one in
            Hugging Face's cache, in any case; the bare name of one; the id of a model that differs
            from a shipped one in training and storage alone ("-Instruct", "-AWQ"), which
            `Model.notes` says; or the path of a config.json or its folder.
        generic: as in `model_from_config`.

    Raises:
        InputError: as in `model_from_config`, or no such model or file.
    """
    located = locate(model)
    found = model_from_config(read_object(located.path), located.name, generic)
    notes = (*found.notes, located.note) if located.note else found.notes
    return found.replace(notes=notes, source=str(model))
