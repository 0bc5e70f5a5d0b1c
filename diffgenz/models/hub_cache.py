"""The models in Hugging Face's cache on this machine, as huggingface_hub lays it out.

models--ORG--NAME/refs/main names the revision that was last taken, and snapshots/REVISION/ has its
files. Nothing is ever downloaded.
"""

import os
from pathlib import Path

PREFIX = "models--"


def folders() -> list[Path]:
    """Where the cache may be: $HF_HUB_CACHE, $HF_HOME/hub, and the default."""
    environ = os.environ
    stated = [environ[key] for key in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE") if environ.get(key)]
    homes = [environ["HF_HOME"]] if environ.get("HF_HOME") else []
    homes.append(f"{environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface")
    found = (os.path.expanduser(text) for text in (*stated, *(f"{home}/hub" for home in homes)))
    return list(dict.fromkeys(map(Path, found)))


def cached() -> dict[str, Path]:
    """The folder of each model in the cache, by id; of two caches the first counts."""
    found: dict[str, Path] = {}
    for folder in folders():
        for model in _subfolders(folder, f"{PREFIX}*"):
            found.setdefault(id_of(model), model)
    return dict(sorted(found.items()))


def id_of(folder: Path) -> str:
    """The id of the model whose folder in the cache this is."""
    return folder.name.removeprefix(PREFIX).replace("--", "/", 1)


def config_in(folder: Path) -> Path | None:
    """The config.json of a model's folder in the cache: of refs/main, else of the newest snapshot.

    None where no snapshot has one.
    """
    snapshots = _subfolders(folder / "snapshots", "*")
    snapshots.sort(key=lambda snapshot: snapshot.stat().st_mtime, reverse=True)
    try:
        main = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        main = ""
    snapshots.sort(key=lambda snapshot: snapshot.name != main)
    files = (snapshot / "config.json" for snapshot in snapshots)
    return next((file for file in files if file.is_file()), None)


def model_of(folder: Path) -> str | None:
    """The id of the model whose snapshot this folder is; None where it is no snapshot."""
    snapshots = folder.absolute().parent
    inside = snapshots.name == "snapshots" and snapshots.parent.name.startswith(PREFIX)
    return id_of(snapshots.parent) if inside else None


def _subfolders(folder: Path, pattern: str) -> list[Path]:
    """The folders in a folder, sorted; none where it is missing, or closed to us."""
    try:
        return sorted(path for path in folder.glob(pattern) if path.is_dir())
    except OSError:
        return []
