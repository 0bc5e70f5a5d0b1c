"""Files of placements: ours (JSON or npz), and those with which engines start.

SGLang reads `--init-expert-location FILE.json`: an object whose only key,
`physical_to_logical_map`, has a row for every layer of the model; those of dense layers are there,
and not used. The slots of a row are divided evenly over the ranks, in order;
`--ep-num-redundant-experts` is the number of slots beyond the experts
(python/sglang/srt/eplb/expert_location.py, 2026).

vLLM starts from `--expert-placement-strategy linear` or `round_robin` and rebalances by EPLB while
it runs; it reads no file of a placement (vllm/config/parallel.py, 2026). Its plug-in for Ascend
does, under `additional_config = {"eplb_config": {"expert_map_path": FILE.json}}`: a list of layers,
each a list of devices with their experts (vllm-ascend, vllm_ascend/eplb/core/eplb_utils.py, 2026).
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.core.files import written_aside
from diffgenz.routing.placement import Placement

FIELDS = ("slots", "experts", "nodes", "ranks_per_node")


def save_placement(placement: Placement, path: str | Path) -> None:
    """Write a placement to a file: npz where its name ends so, else JSON.

    The file has the fields of `Placement`.

    Arguments:
        placement: what is written.
        path: where to.

    Raises:
        InputError: it cannot be written.
    """
    path = Path(path)
    fields = {name: getattr(placement, name) for name in FIELDS}
    with written_aside(path, "placement") as aside:
        if path.suffix == ".npz":
            with aside.open("wb") as file:
                np.savez_compressed(file, **fields)
        else:
            _write(aside, fields | {"slots": placement.slots.tolist()})


def load_placement(path: str | Path) -> Placement:
    """Read a placement that `save_placement` wrote.

    Arguments:
        path: where it is.

    Raises:
        InputError: it cannot be read, or is no placement.
    """
    path = Path(path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                fields = {name: file[name] for name in FIELDS}
        else:
            fields = json.loads(path.read_text(encoding="utf-8"))
        slots = np.asarray(fields["slots"])
        numbers = {name: _whole(fields[name]) for name in FIELDS[1:]}
    except OSError as error:
        raise InputError(f"placement: cannot read {path}: {error.strerror or error}") from None
    except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile):
        raise InputError(
            f"placement: {path} is no placement; give a file that has {', '.join(FIELDS)}, as "
            "`diffgenz routing place` writes"
        ) from None
    return Placement(slots, **numbers)


def export_sglang(
    placement: Placement, path: str | Path, layers: tuple[int, ...], model_layers: int
) -> None:
    """Write the file that SGLang's `--init-expert-location` reads.

    Layers without experts of their own here get the slots in order.

    Arguments:
        placement: what is written; its ranks have equally many slots.
        path: where to; the name has to end in .json.
        layers: [layers]; the model's index of each layer of the placement.
        model_layers: layers of the model, dense ones included.

    Raises:
        InputError: ranks have different numbers of slots, the indices do not fit the model, or the
            file cannot be written.
    """
    _check_export(placement, path, layers)
    if max(layers) >= model_layers:
        raise InputError(
            f"layers: {max(layers)} is not a layer of a model of {model_layers}; "
            "give the layers of the model that was traced"
        )
    rows = placement.among(layers, model_layers).slots
    with written_aside(Path(path), "placement") as aside:
        _write(aside, {"physical_to_logical_map": rows.tolist()})


def export_vllm_ascend(placement: Placement, path: str | Path, layers: tuple[int, ...]) -> None:
    """Write the file that `expert_map_path` of vLLM's plug-in for Ascend reads.

    Arguments:
        placement: what is written; its ranks have equally many slots.
        path: where to; the name has to end in .json.
        layers: [layers]; the model's index of each layer of the placement.

    Raises:
        InputError: ranks have different numbers of slots, the indices do not fit the placement, or
            the file cannot be written.
    """
    _check_export(placement, path, layers)
    ranks = placement.slots.reshape(placement.layers, placement.ranks, -1)
    listed = [
        {
            "layer_id": int(layer),
            "device_count": placement.ranks,
            "device_list": [
                {"device_id": rank, "device_expert": experts.tolist()}
                for rank, experts in enumerate(of_layer)
            ],
        }
        for layer, of_layer in zip(layers, ranks, strict=True)
    ]
    with written_aside(Path(path), "placement") as aside:
        _write(aside, {"moe_layer_count": len(listed), "layer_list": listed})


def _check_export(placement: Placement, path: str | Path, layers: tuple[int, ...]) -> None:
    if Path(path).suffix != ".json":
        raise InputError(f"placement: {path} does not end in .json, as engines demand; rename it")
    if len(layers) != placement.layers or len(set(layers)) < len(layers) or min(layers) < 0:
        raise InputError(
            f"layers: {list(layers)[:8]} do not name the {placement.layers} layers of the "
            "placement; give a different index, from 0, for each"
        )
    if not placement.even:
        slots, ranks = placement.slots.shape[1], placement.ranks
        raise InputError(
            f"slots: {slots} do not divide by the {ranks} ranks, as engines demand; place with "
            f"{-(-slots // ranks) * ranks} slots"
        )


def _whole(value: Any) -> int:
    """A whole number, from JSON or from an array of one; a boolean or a fraction is none."""
    array = np.asarray(value)
    if array.shape or array.dtype.kind not in "iu":
        raise ValueError
    return int(array)


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")
