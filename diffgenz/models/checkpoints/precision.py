"""The precision that a checkpoint is meant to be served in."""

import math
from pathlib import Path

from diffgenz.core.formats import FORMATS
from diffgenz.hardware.platform import Accelerator
from diffgenz.kernels.kernel_format import KernelFormat
from diffgenz.kernels.software import ACTIVATIONS
from diffgenz.models.blocks.module import EXPERTS, HEAD, MLP
from diffgenz.models.checkpoints.sections import read_source
from diffgenz.models.checkpoints.stored import LinearFormat, dtype_of, read_stored
from diffgenz.models.files import demand_own_files
from diffgenz.operators.gear import Gear
from diffgenz.operators.layer_format import LayerFormat
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
            dtype, while weights stay narrow (W8A16). The engine whose kernels time it may quantise
            activations of which the checkpoint says nothing (`ACTIVATIONS`). Default: one that
            multiplies all formats.
        dtype: as in `Precision`. Default: what the checkpoint says.
        activations: as in `Precision`. Default: what the checkpoint says.
        kv_cache: as in `Precision`. Default: what the checkpoint says.
        messages: as in `Precision`. Default: dtype.

    Raises:
        InputError: no such source, or one whose sizes are known from another model, a quantisation
            that is not known or cannot be read, or an unknown dtype.
    """
    demand_own_files(source)
    stated, stored = dtype_of(read_source(source)), read_stored(source)
    own = dtype or stated
    if stored is None:
        return Precision(own, None, activations, kv_cache, messages)

    def layer(formats: LinearFormat) -> LayerFormat:
        if formats.weights == stated:
            same = formats.weight_size == FORMATS[stated].size
            return LayerFormat(own, own, None if same else formats.weight_size)
        usual = _quantised_by(accelerator, formats.weights)
        wanted = activations or formats.activations or usual or own
        peak = KernelFormat(formats.weights, wanted).peak
        if activations is None and accelerator is not None and peak not in accelerator.peak_flops:
            wanted = own
        return LayerFormat(formats.weights, wanted, formats.weight_size)

    layers = {key: layer(formats) for key, formats in stored.formats.items()}
    most = next((layers[kind] for kind in (EXPERTS, MLP) if kind in layers), None)
    most = most or next(iter(layers.values()))
    modules = {key: _shown(each, own) for key, each in layers.items() if key == HEAD}
    modules |= {key: _shown(each, own) for key, each in layers.items() if not _alike(each, most)}
    result = Precision(
        own, most.weights, most.activations, kv_cache or stored.kv_cache, messages, modules
    )
    return result.with_sizes(
        result.dtype_size,
        most.weight_size,
        result.activation_size,
        result.kv_cache_size,
        result.message_size,
    )


def _quantised_by(accelerator: Accelerator | None, weights: str) -> str | None:
    """The format that an engine quantises inputs to, for weights in this format; None: it does not.

    The engine is the one whose kernels time the accelerator, which multiplies the weights as they
    are.
    """
    if accelerator is None or FORMATS[weights].peak not in accelerator.peak_flops:
        return None
    origin = None if accelerator.kernels is None else accelerator.kernels.origin
    return None if origin is None else ACTIVATIONS.get((origin.fit, weights))


def _shown(layer: LayerFormat, dtype: str) -> LayerFormat | str:
    """What `Precision.modules` says of a layer: the name alone where it is plainly in dtype."""
    plain = (layer.weights, float(layer.weight_size)) == (dtype, FORMATS[dtype].size)
    return dtype if plain else layer


def _alike(one: LayerFormat, other: LayerFormat) -> bool:
    """Whether two formats are the same but for what nobody notices: 1 part in 1,000 of a size."""
    sizes = float(one.weight_size), float(other.weight_size)
    return one.names == other.names and math.isclose(*sizes, rel_tol=1e-3)
