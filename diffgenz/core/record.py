"""The base of every record of numbers."""

import dataclasses
from typing import Any, Self

import equinox as eqx

from diffgenz.core.errors import unknown


class Record(eqx.Module):
    """An immutable record whose checks run whenever it is built, also by `replace`."""

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, checked like a new one (`eqx.tree_at` and `jax.tree.map` skip the checks).

        Raises:
            InputError: an unknown field, or a value the record refuses.
        """
        fields = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in fields:
                raise unknown(f"{type(self).__name__} field", name, fields)
        return dataclasses.replace(self, **changes)
