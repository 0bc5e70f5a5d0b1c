"""The base of every record of numbers that is a pytree."""

import equinox as eqx


class Tree(eqx.Module):
    """An immutable record and pytree of equinox whose methods are Python's own.

    Whenever a method of an `eqx.Module` is looked up, equinox makes a pytree of it, in Python. That
    took three quarters of an estimate in NumPy, and nothing here passes methods to `jax.jit`.
    """

    __getattribute__ = object.__getattribute__
