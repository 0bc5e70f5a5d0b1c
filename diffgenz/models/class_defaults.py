"""What nested language models leave out of a config.json: the defaults of their class.

transformers writes of a nested configuration only what differs from its class, so that LLaVA's
"text_config" has no sizes at all. `class_defaults.json` holds the defaults of the classes of
transformers 5.24 that may change a shape, by `model_type`. A file of its own states its sizes, and
one that lacks them is incomplete.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".json")


@cache
def _table() -> dict[str, dict[str, Any]]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def left_to_class(kind: Any, section: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a nested language model leaves to its class, with their values.

    A field that is null is stated: it says that there is no such thing.

    Arguments:
        kind: its `model_type`.
        section: the nested fields.
    """
    defaults = _table().get(kind, {}) if isinstance(kind, str) else {}
    return {key: value for key, value in defaults.items() if key not in section}
