"""An environment of one's own: `python examples/custom_env.py` checks it; YAML files name it `custom_env.CustomEnv`.

A room is to be kept at the temperature that its people wish for, which changes over the day, while it is cold outside.
"""

import gymnasium
import numpy as np
from gymnasium import spaces

from graphray import rl


class CustomEnv(gymnasium.Env):
    # `env_config` comes as keyword arguments. Let each have a default: then the environment can also be made without.
    def __init__(self, hours=24, insulation=0.9):
        self.hours = hours
        self.insulation = insulation
        # What is shown: how many degrees the room is too warm, and what it is outside, both divided by 10. Networks
        # learn best from numbers between about -1 and 1. Every observation has to lie within these bounds.
        self.observation_space = spaces.Box(-5, 5, (2,), np.float32)
        # What can be done: heating off, low and high.
        self.action_space = spaces.Discrete(3)

    # Begins an episode. All randomness comes from `self.np_random`, which `super().reset` seeds, so that a run can be
    # repeated; and everything that an episode changes is set here, so that none remembers an earlier one.
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.hour = 0
        self.room = self.np_random.uniform(10, 25)
        self.outside = self.np_random.uniform(-5, 10)
        return self.observe(), {}

    # Makes a step: gives the next observation, the reward, whether the episode is over by itself (terminated), whether
    # it is only cut off here (truncated: more could have followed), and a dict for whatever else there is to say.
    def step(self, action):
        self.hour += 1
        self.outside = np.clip(self.outside + self.np_random.normal(), -15, 15)
        self.room = self.insulation * self.room + (1 - self.insulation) * self.outside + [0, 1, 3][action]
        reward = -abs(self.room - self.wish) - 0.2 * action  # heating costs something
        return self.observe(), float(reward), False, self.hour >= self.hours, {"room": self.room}

    @property
    def wish(self):
        return 20 if 6 <= self.hour % 24 < 22 else 15

    def observe(self):
        shown = np.array([self.room - self.wish, self.outside], np.float32) / 10
        return shown.clip(-5, 5)


if __name__ == "__main__":
    print(rl.check_env(CustomEnv, {"hours": 48}))
