"""What makes the fields of a trace right: whole numbers, in range, of one shape.

Each function takes what was given for a field, and returns it checked, as an array. Its errors name
the field.
"""

from typing import Any

import numpy as np

from diffgenz.core.errors import InputError, unknown


def checked_names(experts: int, layers: Any, names: Any, called: str = "domains") -> dict[str, Any]:
    """The number of experts, the layers and the names of domains or groups, checked.

    Arguments:
        experts: routed experts per layer, at least 1.
        layers: the model's indices of layers, ascending from 0.
        names: of domains or groups, all different.
        called: what the names are of.

    Returns:
        The three as an int and tuples, by the names of their fields.

    Raises:
        InputError: one is not what its field allows.
    """
    if isinstance(experts, bool) or int(experts) != experts or experts < 1:
        raise InputError(f"experts: {experts!r} is not a number of experts; give 1 or more")
    indices = tuple(int(layer) for layer in layers)
    check_layers(indices)
    known = tuple(map(str, names))
    if not known or len(set(known)) < len(known):
        raise InputError(f"{called}: {list(known)[:8]} are not different names; name each once")
    return {"experts": int(experts), "layers": indices, called: known}


def check_layers(layers: tuple[int, ...]) -> None:
    """Check that these are a model's indices of layers.

    Arguments:
        layers: one index or more, ascending from 0.

    Raises:
        InputError: they are not.
    """
    if not layers or layers[0] < 0 or any(np.diff(layers) <= 0):
        raise InputError(
            f"layers: {list(layers)[:8]} are not layer indices; give one or more, ascending from 0"
        )


def positions(wanted: tuple[int, ...], layers: tuple[int, ...]) -> list[int]:
    """Where some layers stand among those that there are.

    Arguments:
        wanted: the model's indices of some layers.
        layers: those of all that there are.

    Raises:
        InputError: one is not among them.
    """
    for layer in wanted:
        if layer not in layers:
            raise unknown("layers", str(layer), map(str, layers))
    return [layers.index(layer) for layer in wanted]


def _integers(name: str, given: Any) -> np.ndarray:
    """An array of whole numbers, from a rectangle of them."""
    try:
        array = np.asarray(given)
    except ValueError:
        raise InputError(f"{name}: rows have different lengths; give each the same") from None
    if array.dtype.kind == "b":
        return array.astype(np.int8)
    if array.dtype.kind not in "iu":
        if array.size and (array.dtype.kind != "f" or not np.all(array == np.floor(array))):
            raise InputError(f"{name}: holds {array.dtype}, not whole numbers; give integers")
        array = array.astype(np.int64)
    return array


def chosen_experts(given: Any, experts: int, layers: int) -> np.ndarray:
    """The chosen experts as an array of the smallest type, checked.

    Arguments:
        given: [tokens, layers, k]; expert ids.
        experts: routed experts per layer.
        layers: how many layers there should be.

    Raises:
        InputError: the shape is another, rows differ in length, an id is out of range or chosen
            twice.
    """
    chosen = _integers("chosen", given)
    if chosen.ndim != 3 or chosen.shape[1] != layers:
        raise InputError(
            f"chosen: has shape {list(chosen.shape)}; give [tokens, {layers} layers, k]"
        )
    k = chosen.shape[2]
    if not 1 <= k <= experts:
        raise InputError(
            f"chosen: has {k} experts per token and layer, of {experts}; give 1 to {experts}"
        )
    if chosen.size and not (chosen.min() >= 0 and chosen.max() < experts):
        bad = int(chosen.min()) if chosen.min() < 0 else int(chosen.max())
        raise InputError(
            f"chosen: expert {bad} is out of range; {experts} experts have ids 0 to {experts - 1}"
        )
    for first in range(k):
        for second in range(first):
            twice = chosen[..., first] == chosen[..., second]
            if twice.any():
                token, layer = (int(i) for i in np.argwhere(twice)[0])
                raise InputError(
                    f"chosen: token {token} has expert {int(chosen[token, layer, first])} twice in "
                    f"the layer at position {layer}; the k experts of a token are different"
                )
    return chosen.astype(np.int16 if experts <= 2**15 else np.int32, copy=False)


def per_token(name: str, given: Any, tokens: int, dtype: Any, end: int | None) -> np.ndarray:
    """A number for each token, checked.

    Arguments:
        name: of the field.
        given: [tokens]; whole numbers from 0.
        tokens: how many there should be.
        dtype: the type of the array.
        end: numbers are below it; None: below the largest of the type.

    Raises:
        InputError: there are more or fewer, or one is out of range.
    """
    array = _integers(name, given)
    if array.shape != (tokens,):
        raise InputError(f"{name}: has shape {list(array.shape)}; give one for each of the tokens")
    end = np.iinfo(dtype).max if end is None else end
    if tokens and not (array.min() >= 0 and array.max() < end):
        bad = int(array.min()) if array.min() < 0 else int(array.max())
        raise InputError(f"{name}: {bad} is out of range; give 0 to {end - 1}")
    return array.astype(dtype, copy=False)


def router_weights(given: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The router's weights, checked.

    Arguments:
        given: numbers, at least 0.
        shape: that of the chosen experts.

    Raises:
        InputError: the shape is another, or a number is negative or not finite.
    """
    weights = np.asarray(given, np.float32)
    if weights.shape != shape:
        raise InputError(
            f"weights: have shape {list(weights.shape)}; give that of chosen, {list(shape)}"
        )
    if not np.all(np.isfinite(weights)) or np.any(weights < 0):
        raise InputError("weights: one is negative or not finite; weights are at least 0")
    return weights
