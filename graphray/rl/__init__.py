"""Reinforcement learning: algorithms as pure rollout and update stages.

Import its modules: `from graphray.rl import ppo, rollout`. What runs where decides what a module may import:

- `keys`, `environments`, `cursor`, `rollout`, `host`, `evaluation` and `agent` serve on the host. They need NumPy and
  gymnasium, and no JAX, so that processes which only step environments start quickly.
- `gae`, `distributions`, `networks`, `optimizer` and the algorithms (`ppo`) are traced by JAX.
"""
