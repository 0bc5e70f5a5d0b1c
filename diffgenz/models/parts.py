"""The parts of a config.json: the language model, and those beside it or around it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from diffgenz.core.errors import InputError
from diffgenz.models.class_defaults import left_to_class
from diffgenz.models.config import Config, brief
from diffgenz.models.files import NESTED

LANGUAGE = {
    "llava": "llama",
    "llava_next": "llama",
    "llava_next_video": "llama",
    "llava_onevision": "qwen2",
    "vipllava": "llama",
    "idefics3": "llama",
    "smolvlm": "llama",
    "mistral3": "mistral",
    "internvl": "qwen2",
    "paligemma": "gemma",
    "aya_vision": "cohere2",
    "cohere2_vision": "cohere2",
    "kimi_vl": "deepseek_v3",
    "deepseek_vl_v2": "deepseek_v2",
    "qwen2_5_omni_thinker": "qwen2",
    "qwen3_omni_moe_thinker": "qwen3_moe",
}
"""The `model_type` of the language model where a nested one states none, by that of the outer file.

They are the defaults of transformers' configuration classes (5.24).
"""

BESIDE = (
    ("vision tower", r"(mm_)?vis(ion|ual)(_\w+)?|vit(_\w+)?|image_(encoder|tower|processor)\w*"),
    ("audio tower", r"audio(_\w+)?|sound_\w+|speech_encoder\w*|whisper_\w+"),
    ("vision tower", r"img_processor|embd_layer"),
    ("speech generator", r"(talker|token2wav|code2wav|tts|codec|speech_generat\w+)(_\w+)?"),
    ("image generator", r"gen_\w+"),
)
"""The names of sections that describe other parts, with what people call these."""


class Parts(NamedTuple):
    """A config.json taken apart.

    Arguments:
        language: the facts of the language model.
        wrappers: the whole file and the sections around the language model, from the outermost to
            the innermost; the whole file alone where nothing is nested.
    """

    language: Config
    wrappers: tuple[Config, ...]


def parts_of(name: str, raw: Mapping[str, Any], generic: bool = False) -> Parts:
    """The parts of a config.json.

    What a nested language model leaves out and the file around it says (`tie_word_embeddings`,
    `model_type`) holds for it, too. What neither says is the default of its class
    (`class_defaults`). Null fields count as absent.

    Arguments:
        name: what error messages call it.
        raw: its content.
        generic: as in `Config`.

    Raises:
        InputError: a section that is no object of fields.
    """
    wrappers, inner, defaults = [Config(name, raw, generic)], dict(raw), {}
    while (key := next((key for key in NESTED if inner.get(key) is not None), None)) is not None:
        section = inner[key]
        if not isinstance(section, Mapping):
            raise InputError(
                f"{name}: {key}: {brief(section)} is not an object of fields; take the whole file"
            )
        outer = {each: inner[each] for each in ("tie_word_embeddings",) if each in inner}
        kind = inner.get("model_type")
        if isinstance(kind, str):
            outer["model_type"] = LANGUAGE.get(kind, kind)
        inner = outer | {each: value for each, value in section.items() if value is not None}
        defaults = left_to_class(inner.get("model_type"), section)
        if any(inner.get(each) is not None for each in NESTED):
            wrappers.append(Config(f"{name}: {key}", inner, generic))
    language = Config(name, defaults | inner, generic)
    language.ignore(*defaults)
    return Parts(language, tuple(wrappers))


def left_out(parts: Parts, modelled: bool) -> list[str]:
    """What to say of parts of a config.json beside the language model that are not modelled.

    Arguments:
        parts: of the file.
        modelled: whether its vision tower is.
    """
    found: dict[str, str] = {}
    for wrapper in parts.wrappers:
        for key, part, value in _beside(wrapper):
            wrapper.ignore(key)
            if part == "vision tower" and modelled:
                continue
            kind = value.get("model_type") if isinstance(value, Mapping) else value
            named = f" ({brief(kind)[1:-1]})" if isinstance(kind, str) and kind else ""
            found.setdefault(part, named)
            found[part] = found[part] or named
    return [
        f"its {part}{named} is not modelled: neither its weights nor its time"
        for part, named in found.items()
    ]


def _beside(wrapper: Config) -> Iterator[tuple[str, str, Any]]:
    """(key, part, value) of the sections of a file that describe other parts.

    A section is an object of fields, or the name of a model.
    """
    for key, value in wrapper.raw.items():
        part = next((part for part, names in BESIDE if re.fullmatch(names, key)), None)
        is_name = isinstance(value, str) and re.search("tower|encoder|backbone", key) is not None
        if part is not None and value and (isinstance(value, Mapping) or is_name):
            yield key, part, value
