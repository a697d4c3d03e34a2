"""Keys: the counter-based random numbers of rollouts, in NumPy.

Every random number is a pure function of a key, and keys are derived from one another by folding in counters: the
environment's index, its own step count, its episode. So a number depends on what it is for and never on which worker
asks, in which order, or how many were drawn before.

The generator is Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011),
and keys, folding and bits agree with those of `jax.random` under its default implementation: the same derivation can
be traced, and gives the same numbers on the host and inside XLA. NumPy alone is used, so that a process that only
steps environments need not import JAX.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Key", "bits", "fold_in", "gumbel", "normal", "root", "threefry_2x32", "uniform"]

Key = NDArray[np.uint32]
"""An array whose last axis holds the two words of a key; the axes before it are a batch of keys."""

# Distances to rotate by, each with its complement, as arrays: NumPy would convert numbers at every use.
_ROTATIONS = tuple(
    tuple((np.array(n, np.uint32), np.array(32 - n, np.uint32)) for n in distances)
    for distances in ((13, 15, 26, 6), (17, 29, 16, 24))
)
_GROUPS = tuple(np.array(n, np.uint32) for n in range(1, 6))
_PARITY = np.uint32(0x1BD11BDA)
_TINY = np.finfo(np.float32).tiny


def root(seed: int) -> Key:
    """The key of a whole run, from an integer of at most 64 bits.

    Raises:
        ValueError: the seed is negative or does not fit in 64 bits.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"a seed is an integer from 0 to 2**64 - 1, not {seed}")
    return np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32)


def fold_in(key: Key, counter: Any) -> Key:
    """The key that belongs to `counter` under `key`; both broadcast: key (..., 2), counter (...) gives (..., 2).

    Counters are taken modulo 2**32.
    """
    low = np.asarray(counter).astype(np.uint32)
    return np.stack(threefry_2x32(key, np.zeros_like(low), low), axis=-1)


def bits(key: Key, count: int) -> NDArray[np.uint32]:
    """`count` random words for each key: key (..., 2) gives (..., count)."""
    first, second = threefry_2x32(key[..., None, :], np.uint32(0), np.arange(count, dtype=np.uint32))
    return first ^ second


def uniform(key: Key, count: int) -> NDArray[np.float32]:
    """`count` numbers in [0, 1) for each key, multiples of 2**-23: key (..., 2) gives (..., count)."""
    mantissa = bits(key, count) >> np.uint32(9)
    return (mantissa | np.uint32(0x3F800000)).view(np.float32) - np.float32(1)


def gumbel(key: Key, count: int) -> NDArray[np.float32]:
    """`count` standard Gumbel numbers for each key: key (..., 2) gives (..., count)."""
    return -np.log(-np.log(np.maximum(uniform(key, count), _TINY)))


def normal(key: Key, count: int) -> NDArray[np.float32]:
    """`count` standard normal numbers for each key: key (..., 2) gives (..., count) (Box and Muller, 1958)."""
    pairs = -(-count // 2)
    u = uniform(key, 2 * pairs)
    radius = np.sqrt(-2 * np.log1p(-u[..., :pairs]))
    angle = np.float32(2 * np.pi) * u[..., pairs:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)[..., :count]


def threefry_2x32(key: Key, x0: Any, x1: Any) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Encrypt the counter words (x0, x1) under each key, elementwise with broadcasting."""
    k0, k1 = key[..., 0], key[..., 1]
    schedule = (k0, k1, k0 ^ k1 ^ _PARITY)
    # Copies of one common shape, and not of none: the rounds work in place.
    shape = np.broadcast_shapes(np.shape(x0), np.shape(x1), k0.shape)
    x0, x1 = (np.array(np.broadcast_to(np.asarray(x, np.uint32), shape), ndmin=1) for x in (x0, x1))
    scratch = np.empty_like(x0)
    x0 += schedule[0]
    x1 += schedule[1]
    for group in range(5):
        for left, right in _ROTATIONS[group % 2]:
            x0 += x1
            np.right_shift(x1, right, out=scratch)
            x1 <<= left
            x1 |= scratch
            x1 ^= x0
        x0 += schedule[(group + 1) % 3]
        x1 += schedule[(group + 2) % 3]
        x1 += _GROUPS[group]
    return x0.reshape(shape), x1.reshape(shape)
