"""Hugging Face's config.json -> `Model`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError, unknown
from diffgenz.models.config import Config
from diffgenz.models.families.dense import DENSE
from diffgenz.models.families.hybrid import HYBRID
from diffgenz.models.families.moe import MOE
from diffgenz.models.families.vision import tower_of
from diffgenz.models.files import read_config
from diffgenz.models.model import Model
from diffgenz.models.mtp import has_mtp

FAMILIES = DENSE | MOE | HYBRID
"""`model_type` -> the function that reads its config.json."""

ALWAYS_MTP = ("qwen3_next",)
"""Families with a multi-token-prediction module that config.json does not mention.

vLLM's qwen3_next_mtp assumes one."""


def model_from_config(config: Mapping[str, Any], name: str) -> Model:
    """The model that a config.json describes.

    Arguments:
        config: its content. Of a vision-language model, the language model is read (nested under
            "text_config", or not) and the tower under "vision_config", where it is one of those in
            `families.vision`; other towers are left out.
        name: what to call the model.

    Raises:
        InputError: a `model_type` that is not known (the known ones are listed), or a field that is
            missing or out of range.
    """
    whole, kind = Config(name, config), config.get("model_type")
    if isinstance(config.get("text_config"), Mapping):
        kind = config["text_config"].get("model_type", kind)
        outer = {key: value for key, value in config.items() if key == "tie_word_embeddings"}
        config = outer | dict(config["text_config"])
    if kind is None:
        raise InputError(
            f"{name}: config.json lacks model_type; known are {', '.join(sorted(FAMILIES))}"
        )
    if isinstance(kind, str) and kind not in FAMILIES:
        kind = kind.removesuffix("_text")  # what newer files call the language model of the family
    if not isinstance(kind, str) or kind not in FAMILIES:
        error = unknown("model_type", kind, FAMILIES)
        raise InputError(f"{name}: {error} (known are {', '.join(sorted(FAMILIES))})")
    language = Config(name, config)
    model, tower = FAMILIES[kind](language), tower_of(whole, language)
    mtp = has_mtp(language, default=1 if kind in ALWAYS_MTP else 0)
    return model.replace(vision=tower, mtp=mtp)


def load_model(model: str | Path) -> Model:
    """A shipped model by its Hugging Face id, or any config.json by its path.

    Arguments:
        model: an id (see `diffgenz list models`), a config.json, or the folder of one.

    Raises:
        InputError: as `model_from_config`, or no such model or file.
    """
    name, config = read_config(model)
    return model_from_config(config, name)
