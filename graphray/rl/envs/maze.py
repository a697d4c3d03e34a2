"""A maze with tasks of growing difficulty: from far away its goal is hardly found by chance."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from graphray.rl.curriculum import TaskSettableEnv

__all__ = ["MazeEnv", "next_task"]

_MAP = (
    "###########",
    "#....#....#",
    "#....#....#",
    "#.........#",
    "#....#....#",
    "#.####....#",
    "#....###.##",
    "#....#....#",
    "#....#....#",
    "#........G#",
    "###########",
)
_MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
Place = tuple[int, int]


class MazeEnv(TaskSettableEnv, gymnasium.Env[Any, Any]):
    """Find the goal of a maze: 1 for reaching it, nothing otherwise, so that the mean return is the share of successes.

    The maze is the four rooms of Sutton, Precup and Singh ("Between MDPs and semi-MDPs", 1999). Observations are the
    number of the place, actions the moves up, right, down and left; walls stop them. An episode ends at the goal, and
    is cut off after 60 steps. It begins at a random place: of task 1 at one that is near the goal, of each further
    task, up to 5, at one that is farther away. A task that is set holds from the next episode on.

    Args:
        task: the first one, 1 to 5.
        render_mode: "rgb_array" draws the maze.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012, as gymnasium has it
    tasks = 5
    """How many there are."""
    _STEPS = 60

    def __init__(self, task: int = 1, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self._distance = _distances()
        self._places = sorted(self._distance)
        self._number = {place: number for number, place in enumerate(self._places)}
        self._at: Place = self._places[0]
        self._made = 0
        self.observation_space = spaces.Discrete(len(self._places))
        self.action_space = spaces.Discrete(4)
        self.set_task(task)

    def get_task(self) -> int:
        """The present task."""
        return self._task

    def set_task(self, task: int) -> None:
        """Set another one, from the next episode on.

        Raises:
            ValueError: there is no such task.
        """
        if task not in range(1, self.tasks + 1):
            raise ValueError(f"a task is a whole number from 1 to {self.tasks}, not {task!r}")
        self._task = int(task)

    def sample_tasks(self, n_tasks: int) -> list[int]:
        """Some tasks, drawn at random."""
        return [int(task) for task in self.np_random.integers(1, self.tasks + 1, n_tasks)]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        band = max(self._distance.values()) / self.tasks
        nearer, farthest = band * (self._task - 1), band * self._task
        among = [place for place in self._places if nearer < self._distance[place] <= farthest]
        self._at = among[int(self.np_random.integers(len(among)))]
        self._made = 0
        return self._number[self._at], {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Move."""
        down, right = _MOVES[int(action)]
        there = (self._at[0] + down, self._at[1] + right)
        self._at = there if there in self._distance else self._at
        self._made += 1
        found = self._distance[self._at] == 0
        return self._number[self._at], float(found), found, self._made >= self._STEPS, {}

    def render(self) -> NDArray[np.uint8]:
        """The maze, its goal (green) and where one is (red), 16 × 16 pixels a place."""
        drawn = np.array([[0 if place == "#" else 255 for place in row] for row in _MAP], np.uint8)
        picture = np.repeat(drawn[:, :, None], 3, axis=2)
        picture[_goal()] = (40, 180, 80)
        picture[self._at] = (220, 60, 60)
        return picture.repeat(16, axis=0).repeat(16, axis=1)


def next_task(train_results: dict[str, Any], task_settable_env: Any, env_ctx: Any) -> int:
    """A curriculum, to be given as `env_task_fn`: the next task once nine of ten episodes reach the goal."""
    task: int = task_settable_env.get_task()
    return min(task + 1, MazeEnv.tasks) if train_results["episode_reward_mean"] >= 0.9 else task


def _goal() -> Place:
    return next((row, line.index("G")) for row, line in enumerate(_MAP) if "G" in line)


def _distances() -> dict[Place, int]:
    """How many steps it is from each place to the goal: from the goal outwards, step by step."""
    found = {_goal(): 0}
    edge = [_goal()]
    while edge:
        row, column = edge.pop(0)
        for down, right in _MOVES:
            place = (row + down, column + right)
            if place not in found and _MAP[place[0]][place[1]] != "#":
                found[place] = found[row, column] + 1
                edge.append(place)
    return found
