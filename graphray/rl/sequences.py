"""Sequences: trajectories cut into pieces of fixed length, through which an LSTM is trained.

A piece begins with what the policy remembered there when it was collected. Ends of episodes may lie within a piece:
there the memory starts anew, so that nothing is padded but the end of a trajectory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from graphray.rl.architecture import Architecture
from graphray.rl.host import encoded
from graphray.rl.networks import forward_step, unroll
from graphray.rl.spaces import ActionLayout

__all__ = ["Sequences", "cut", "features", "next_features", "pieces", "sequences", "uncut"]


class Sequences(NamedTuple):
    """What an LSTM is shown beside observations: of N pieces of L steps."""

    memory: Any
    """Before each piece, (N, m)."""
    previous: Any
    """What it is shown of the step before, (N, L, p)."""
    fresh: Any
    """Whether an episode begins with the step, and not with its piece, (N, L)."""


def pieces(steps: int, length: int) -> int:
    """Into how many pieces so many steps are cut."""
    return -(-steps // length)


def cut(x: Any, length: int) -> Any:
    """Steps (T, B, …) as pieces (ceil(T / length) · B, length, …), zeros behind the last step."""
    count = pieces(len(x), length)
    x = jnp.pad(x, [(0, count * length - len(x)), *[(0, 0)] * (x.ndim - 1)])
    x = jnp.moveaxis(x.reshape(count, length, *x.shape[1:]), 2, 1)
    return x.reshape(count * x.shape[1], length, *x.shape[3:])


def uncut(x: Any, like: Any, length: int) -> Any:
    """Pieces (N, length) as steps (T, B) again, of which there are as many as in `like`."""
    steps, count = like.shape
    return jnp.swapaxes(x.reshape(-1, count, length), 1, 2).reshape(-1, count)[:steps]


def sequences(spec: Architecture, layout: ActionLayout, trajectory: Any, length: int) -> Sequences:
    """What an LSTM is shown of a trajectory (T, B)."""
    t = trajectory
    done = jnp.logical_or(t.terminated, t.truncated)
    shown = _shown(spec, layout, t)
    memory = t.memory[..., : spec.memory]
    before = jnp.concatenate([jnp.zeros_like(shown[:1]), shown[:-1]])
    fresh = jnp.concatenate([jnp.zeros_like(done[:1]), done[:-1]])
    # The first step of each piece has what was recorded.
    first = jnp.arange(len(done)) % length == 0
    recorded = jnp.repeat(memory[..., 2 * spec.lstm :], length, axis=0)[: len(done)]
    before = jnp.where(first[:, None, None], recorded, before)
    fresh = jnp.where(first[:, None], False, fresh)
    return Sequences(memory.reshape(-1, spec.memory), cut(before, length), cut(fresh, length))


def features(spec: Architecture, params: Any, observation: Any, given: Sequences) -> tuple[Any, Any]:
    """Features (N, L, f) of observations (N, L, …), and memories after each step (N, L, m)."""
    out = unroll(spec, params, _turned(observation), given.memory, _turned(given.previous), _turned(given.fresh))
    return _turned(out[0]), _turned(out[1])


def next_features(
    spec: Architecture, layout: ActionLayout, params: Any, trajectory: Any, memories: Any, length: int
) -> Any:
    """Features (T, B, f) of what each action led to, also where the episode ended with it."""
    t = trajectory
    steps, count = t.reward.shape
    after = jnp.moveaxis(memories.reshape(-1, count, length, memories.shape[-1]), 1, 2)
    after = after.reshape(-1, count, after.shape[-1])[:steps]
    memory = jnp.concatenate([after[..., : 2 * spec.lstm], _shown(spec, layout, t)], axis=-1)
    rows = t.next_observation.reshape(-1, *t.next_observation.shape[2:])
    return forward_step(spec, params, rows, memory.reshape(-1, spec.memory)).reshape(steps, count, -1)


def _turned(x: Any) -> Any:
    """Pieces first, or steps first."""
    return jnp.swapaxes(x, 0, 1)


def _shown(spec: Architecture, layout: ActionLayout, trajectory: Any) -> Any:
    """What the network is shown of each step when it comes to the next, (T, B, p)."""
    shown = []
    if spec.previous_action:
        shown.append(encoded(layout.leaves, trajectory.action, jnp))
    if spec.previous_reward:
        shown.append(trajectory.reward[..., None])
    return jnp.concatenate(shown, axis=-1) if shown else jnp.zeros((*trajectory.reward.shape, 0))
