"""How the columns of a sweep are shown: a label with the unit that people use, and the factor from SI to it."""

from collections.abc import Container

from diffgenz.core.units import unit_of

_METRICS: dict[str, tuple[str, float]] = {
    "ttft": ("TTFT, ms", 1e3),
    "tpot": ("TPOT, ms", 1e3),
    "mixed_tpot": ("mixed TPOT, ms", 1e3),
    "end_to_end": ("E2E, s", 1.0),
    "throughput": ("tok/s", 1.0),
    "tokens_per_second_per_user": ("tok/s/user", 1.0),
    "tokens_per_second_per_accelerator": ("tok/s/GPU", 1.0),
    "energy_per_output_token": ("J/token", 1.0),
    "cost_per_million_output_tokens": ("USD/Mtok", 1.0),
    "memory.weights": ("weights, GB", 1e-9),
    "memory.kv_cache": ("KV cache, GB", 1e-9),
    "memory.activations": ("activations, GB", 1e-9),
    "memory.total": ("memory, GB", 1e-9),
}
_UNITS: dict[str, tuple[str, float]] = {
    "FLOP/s": ("TFLOP/s", 1e-12),
    "B": ("GB", 1e-9),
    "s": ("us", 1e6),
    "W": ("W", 1.0),
    "USD/s": ("USD/h", 3600.0),
    "J/FLOP": ("pJ/FLOP", 1e12),
    "J/B": ("pJ/B", 1e12),
}


def shown(name: str, plain: Container[str] = ()) -> tuple[str, float]:
    """The label and the factor of the column `name`: a metric, or a number of the scenario; anything else, and what is in `plain`, as it is."""
    if name in plain:
        return name, 1.0
    if name in _METRICS:
        return _METRICS[name]
    if name.endswith("]") and name.rsplit("[", 1)[0] in _METRICS:  # of one part of a mix
        label, factor = _METRICS[name.rsplit("[", 1)[0]]
        return f"{label} [{name.rsplit('[', 1)[1]}", factor
    unit = unit_of(name)
    if unit is None or any(sign in name for sign in " +-*/()"):
        return name, 1.0
    if unit == "B/s":
        label, factor = ("TB/s", 1e-12) if "memory" in name or "tiers" in name else ("GB/s", 1e-9)
        return f"{name}, {label}", factor
    label, factor = _UNITS[unit]
    return f"{name}, {label}", factor
