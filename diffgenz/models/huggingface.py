"""From Hugging Face's config.json to a `Model`."""

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
"""The function that reads the config.json of each `model_type`."""

ALWAYS_MTP = ("qwen3_next",)
"""Families whose config.json does not mention the multi-token-prediction module of the checkpoint.

vLLM's qwen3_next_mtp assumes one, too.
"""


def model_from_config(config: Mapping[str, Any], name: str) -> Model:
    """The model that a config.json describes.

    Arguments:
        config: its content. Of a vision-language model this reads the language model, nested under
            "text_config" or not, and the tower under "vision_config". Towers that are not in
            `families.vision` are left out.
        name: what to call the model.

    Raises:
        InputError: a `model_type` that is not known (the known ones are listed), or a field that
            is missing or out of range.
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
        kind = kind.removesuffix("_text")  # newer files call the family's language model so
    if not isinstance(kind, str) or kind not in FAMILIES:
        error = unknown("model_type", kind, FAMILIES)
        raise InputError(f"{name}: {error} (known are {', '.join(sorted(FAMILIES))})")
    language = Config(name, config)
    model, tower = FAMILIES[kind](language), tower_of(whole, language)
    mtp = has_mtp(language, default=1 if kind in ALWAYS_MTP else 0)
    return model.replace(vision=tower, mtp=mtp)


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
