"""The precision that a checkpoint is meant to be served in."""

from pathlib import Path

from diffgenz.core.errors import InputError
from diffgenz.core.formats import FORMATS
from diffgenz.core.smooth import as_leaf
from diffgenz.hardware.platform import Accelerator
from diffgenz.models.blocks.module import EXPERTS, HEAD
from diffgenz.models.checkpoints.sections import read_source
from diffgenz.models.checkpoints.settings import REMEDY
from diffgenz.models.checkpoints.stored import LinearFormat, Stored, dtype_of, read_stored
from diffgenz.operators.gear import Gear
from diffgenz.operators.precision import Precision


def load_precision(
    source: str | Path,
    accelerator: Accelerator | None = None,
    *,
    dtype: str | None = None,
    activations: str | None = None,
    kv_cache: str | Gear | None = None,
    messages: str | None = None,
) -> Precision:
    """The precision that a checkpoint is meant to be served in.

    Arguments:
        source: the id of a shipped model, or the path of a config.json or its folder, as in
            `load_model`.
        accelerator: where it is served. Activations in a format that it does not multiply stay in
            dtype, while weights stay narrow (W8A16). Default: one that multiplies all formats.
        dtype: as in `Precision`. Default: what the checkpoint says.
        activations: as in `Precision`. Default: what the checkpoint says.
        kv_cache: as in `Precision`. Default: what the checkpoint says.
        messages: as in `Precision`. Default: dtype.

    Raises:
        InputError: no such source, a quantisation that is not known or that no `Precision` can
            express, or an unknown dtype.
    """
    files = read_source(source)
    stated, stored = dtype_of(files), read_stored(source)
    own = dtype or stated
    if stored is None:
        return Precision(own, None, activations, kv_cache, messages)
    linear, experts_only = sayable(files.name, stored, stated)

    def precision(inputs: str | None) -> Precision:
        return Precision(
            own,
            own if linear.weights == stated else linear.weights,
            inputs,
            kv_cache or stored.kv_cache,
            messages,
            experts_only=experts_only,
        )

    result = precision(activations or linear.activations)
    lacks = accelerator is not None and result.linear_peak not in accelerator.peak_flops
    if activations is None and lacks:
        result = precision(None)
    wide = linear.weights == stated and linear.weight_size == FORMATS[stated].size
    return result.with_sizes(
        result.dtype_size,
        result.dtype_size if wide else as_leaf(linear.weight_size),
        result.activation_size,
        result.kv_cache_size,
        result.message_size,
    )


def sayable(name: str, stored: Stored, dtype: str) -> tuple[LinearFormat, bool]:
    """The one format in which a `Precision` says what a checkpoint is stored in.

    Arguments:
        name: what errors call the checkpoint.
        stored: what it is stored in.
        dtype: the format of what is not quantised.

    Returns:
        the format of all linear layers but the LM head, or of the routed experts alone; and whether
        it is that of the experts.

    Raises:
        InputError: formats that differ in another way.
    """
    entries = {key: each for key, each in stored.formats.items() if key != HEAD}
    experts = entries.get(EXPERTS)
    others = {key: each for key, each in entries.items() if key != EXPERTS}
    names = {(each.weights, each.activations) for each in entries.values()}
    if len(names) == 1:
        return experts or next(iter(others.values())), False
    wide = [key for key, each in others.items() if each.weights == dtype]
    if experts is not None and experts.weights != dtype and wide:
        return experts, True
    shown = ", ".join(f"{key} in {each.weights}" for key, each in entries.items())
    raise InputError(f"{name}: quantization_config: has {shown}, which no precision says; {REMEDY}")
