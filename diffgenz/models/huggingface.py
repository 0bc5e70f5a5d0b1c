"""From Hugging Face's config.json to a `Model`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.models.class_defaults import left_to_class
from diffgenz.models.config import Config
from diffgenz.models.families.dense import DENSE
from diffgenz.models.families.early import EARLY
from diffgenz.models.families.elastic import ELASTIC
from diffgenz.models.families.gemma3n import gemma3n
from diffgenz.models.families.hybrid import HYBRID
from diffgenz.models.families.moe import MOE
from diffgenz.models.families.recurrent import RECURRENT
from diffgenz.models.families.relatives import RELATIVES
from diffgenz.models.families.state_spaces import state_spaces
from diffgenz.models.families.vision import tower_of
from diffgenz.models.families.windowed import WINDOWED
from diffgenz.models.files import MAMBA_SSM, kind_of, read_config
from diffgenz.models.model import Model
from diffgenz.models.mtp import has_mtp

FAMILIES: dict[str, Callable[[Config], Model]] = {
    **DENSE,
    **RELATIVES,
    **WINDOWED,
    **ELASTIC,
    **EARLY,
    **MOE,
    **HYBRID,
    **RECURRENT,
    "gemma3n": gemma3n,
    MAMBA_SSM: state_spaces,
}
"""The function that reads the config.json of each `model_type`."""

ALWAYS_MTP = ("qwen3_next",)
"""Families whose config.json does not mention the multi-token-prediction module of the checkpoint.

vLLM's qwen3_next_mtp assumes one, too.
"""


PARTS = {
    "vision_config": "vision tower",
    "audio_config": "audio tower",
    "talker_config": "speech generator",
}
"""The sections of a config.json that describe other parts than the language model."""


def model_from_config(config: Mapping[str, Any], name: str) -> Model:
    """The model that a config.json describes.

    Arguments:
        config: its content. Of a vision-language model this reads the language model, nested under
            "text_config" or not, and the tower under "vision_config". What is not in
            `families.vision` is left out, and `Model.notes` says so.
        name: what to call the model.

    Raises:
        InputError: a `model_type` that is not known (the known ones are listed), a field that is
            missing or out of range, or one that may change a shape and that the family does not
            know.
    """
    whole, language = Config(name, config), _language_of(name, config)
    kind = _kind_of(language)
    model, tower = FAMILIES[kind](language), tower_of(whole, language)
    mtp = has_mtp(language, default=1 if kind in ALWAYS_MTP else 0)
    left_out = _left_out(whole, modelled=tower is not None)
    language.ignore(*whole.read)
    language.refuse_unread()
    if tower is not None:  # fields beside one that is not modelled are its own
        whole.ignore("text_config", *language.read)
        whole.refuse_unread()
    return model.replace(vision=tower, mtp=mtp, notes=(*model.notes, *left_out))


def _language_of(name: str, config: Mapping[str, Any]) -> Config:
    """The part of a config.json about the language model: all of it, or what "text_config" holds.

    What the nested part leaves out and the outer one says (`tie_word_embeddings`, the formats)
    holds for it, too. What neither says is the default of its class (`class_defaults`).
    """
    if not isinstance(config.get("text_config"), Mapping):
        return Config(name, config)
    outer = {key: config[key] for key in ("tie_word_embeddings", "model_type") if key in config}
    inner = {key: value for key, value in config["text_config"].items() if value is not None}
    stated = outer | inner
    defaults = left_to_class(stated.get("model_type"), config["text_config"])
    language = Config(name, defaults | stated)
    language.ignore(*defaults)
    return language


def _kind_of(language: Config) -> str:
    """The `model_type` under which a family is known.

    Raises:
        InputError: there is none, or no family is known under it.
    """
    language.ignore("model_type")
    kind = kind_of(language.raw)
    if kind is None:
        known = ", ".join(sorted(FAMILIES))
        raise InputError(f"{language.name}: config.json lacks model_type; known are {known}")
    if isinstance(kind, str) and kind not in FAMILIES:
        kind = kind.removesuffix("_text")  # newer files call the family's language model so
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise InputError(
            f"{language.name}: model_type: {kind!r} is not modelled; --generic (in Python: "
            "generic=True) reads the standard names of dense and MoE fields, and says what it "
            f"assumed (modelled are {', '.join(sorted(FAMILIES))})"
        )
    return kind


def _left_out(whole: Config, modelled: bool) -> list[str]:
    """What to say of parts of a config.json beside the language model that are not modelled.

    Arguments:
        whole: the whole file.
        modelled: whether its vision tower is.
    """
    found = []
    for key, part in PARTS.items():
        section = whole.raw.get(key)
        read = key == "vision_config" and modelled
        whole.ignore(key)
        if isinstance(section, Mapping) and section and not read:
            kind = section.get("model_type")
            named = f" ({kind})" if isinstance(kind, str) and kind else ""
            found.append(f"its {part}{named} is not modelled: neither its weights nor its time")
    return found


def load_model(model: str | Path) -> Model:
    """A shipped model, or the model that any config.json describes.

    Arguments:
        model: the Hugging Face id of a shipped model (see `diffgenz list models`), or the path of
            a config.json or its folder.

    Raises:
        InputError: as in `model_from_config`, or no such model or file.
    """
    name, config = read_config(model)
    return model_from_config(config, name)
