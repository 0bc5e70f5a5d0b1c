"""The shipped model files: ids, facts and published parameter counts.

Nothing here imports JAX, so that `diffgenz list` is quick.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError, unknown

FOLDER = Path(__file__).parent / "configs"


MAMBA_SSM = "mamba_ssm"
"""The `model_type` of files that the mamba_ssm package writes, which state none."""


def kind_of(config: Mapping[str, Any]) -> Any:
    """The `model_type` that a config.json states, or whose fields it has; None without one."""
    return config.get("model_type") or (MAMBA_SSM if "ssm_cfg" in config else None)


def model_ids() -> list[str]:
    """Hugging Face ids of the shipped models, sorted."""
    return sorted(f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/*.json"))


def read_config(model: str | Path) -> tuple[str, dict[str, Any]]:
    """The name and the config.json of a shipped model, or of the file or folder at that path.

    Raises:
        InputError: an unknown id (the nearest ids are named), a path where there is no file, or a
            file that is not a JSON object.
    """
    path = Path(model)
    if path.is_dir():
        path = path / "config.json"
    if path.is_file():
        name = path.parent.name if path.name == "config.json" and path.parent.name else path.stem
    elif str(model) in model_ids():
        name, path = str(model), FOLDER / f"{model}.json"
    elif path.suffix == ".json":
        raise InputError(f"model: there is no file {path}")
    else:
        raise unknown("model", str(model), model_ids())
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"model: {path} is not valid JSON ({error}); is it truncated?") from None
    if not isinstance(config, dict):
        raise InputError(f"model: {path} holds no JSON object; give a Hugging Face config.json")
    return name, config
