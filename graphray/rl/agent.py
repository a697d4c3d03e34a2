"""Agents as values."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Agent"]


class Agent(NamedTuple):
    """An agent between two updates: a pytree of arrays in plain containers.

    It is made of nothing that would have to be imported to read it, so that a process which only passes it on, or only
    wants its policy, needs neither JAX nor optax.
    """

    params: dict[str, Any]
    """Parameters of its networks, by name; the policy's is "actor"."""
    optimizer: tuple[Any, ...]
    """The optimiser's state, as its leaves."""
    hyper: dict[str, Any]
    """Hyperparameters that are traced, by name."""
    key: Any
    """The root key of what updates draw at random, (2,)."""
    updates: Any
    """How many updates have been made."""
