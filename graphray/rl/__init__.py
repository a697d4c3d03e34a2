"""Reinforcement learning: algorithms as pure rollout and update stages.

`rl.PPO("CartPole-v1", num_workers=2, lr=1e-3).train()` is one iteration of training.

What runs where decides what a module may import:

- `keys`, `spaces`, `environments`, `cursor`, `rollout`, `host`, `replay` and `evaluation` serve on the host. They need
  NumPy and gymnasium, and no JAX, so that processes which only step environments start quickly.
- `gae`, `networks`, `learning`, `optimizer` and the algorithms (`ppo`, `dqn`, `sac`) are traced by JAX.
- `config`, `trainer`, `checkpoint`, `policy` are the surface.
"""

from __future__ import annotations

from typing import Any

_PUBLIC = {
    "PPO": "ppo",
    "PPOTrainer": "ppo",
    "DQN": "dqn",
    "DQNTrainer": "dqn",
    "SAC": "sac",
    "SACTrainer": "sac",
    "Algorithm": "trainer",
    "load": "checkpoint",
    "pretty_print": "results",
    "register_env": "registry",
    "check_env": "checking",
    "TaskSettableEnv": "curriculum",
    "EnvContext": "curriculum",
    "MODEL_DEFAULTS": "config",
    "COMMON_CONFIG": "config",
    "ConfigError": "options",
    "EnvironmentFailed": "environments",
    "NotReproducible": "environments",
}

ALGORITHMS = ("PPO", "DQN", "SAC")
"""The names of the algorithms."""

__all__ = ["ALGORITHMS", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
