"""The policy of an algorithm, as people look at it: its weights, its network, its actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from graphray.rl.architecture import Architecture

if TYPE_CHECKING:
    from graphray.rl.trainer import Algorithm

__all__ = ["Model", "Policy"]


class Policy:
    """What `algo.get_policy()` gives. It looks at the algorithm's state as it is at the time of each call."""

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm

    def get_weights(self) -> dict[str, Any]:
        """Copies of all parameters, NumPy's arrays in nested dicts; those of the policy's network under "policy"."""
        return _copied(self._algorithm.state.agent.params)  # type: ignore[no-any-return]

    def set_weights(self, weights: Mapping[str, Any]) -> None:
        """Replace parameters: all, or those under some of the names that `get_weights` has outermost.

        Raises:
            ValueError: names or shapes that are not the network's; nothing is changed then.
        """
        state = self._algorithm.state
        params = _replaced(state.agent.params, weights, "weights", partial=True)
        self._algorithm.state = state._replace(agent=state.agent._replace(params=params))

    @property
    def model(self) -> Model:
        """The policy's network."""
        return Model(self._algorithm.plan.policy.network, self._algorithm.state.agent.params["policy"])

    @property
    def observation_space(self) -> Any:
        """What it is shown."""
        return self._algorithm.observation_space

    @property
    def action_space(self) -> Any:
        """What it chooses from."""
        return self._algorithm.action_space

    def compute_single_action(self, observation: Any, state: Any = None, *, explore: bool | None = None) -> Any:
        """As the algorithm's."""
        return self._algorithm.compute_single_action(observation, state, explore=explore)


class Model:
    """A network with its parameters."""

    def __init__(self, architecture: Architecture, params: Any) -> None:
        self.architecture, self.params = architecture, params

    @property
    def base_model(self) -> Model:
        """Itself, where RLlib has another object."""
        return self

    def count_params(self) -> int:
        """How many numbers the parameters are."""
        return sum(int(np.size(array)) for _, array in _leaves(self.params, ""))

    def summary(self) -> str:
        """A table of layers, shapes and numbers of parameters, which is printed and returned."""
        rows = [("layer", "shapes", "parameters")]
        layers: dict[str, list[tuple[str, Any]]] = {}
        for path, array in _leaves(self.params, ""):
            layer, _, name = path.rpartition("/")
            layers.setdefault(layer or name, []).append((name, array))
        for layer, arrays in layers.items():
            shapes = ", ".join(f"{name} {'×'.join(map(str, np.shape(array))) or '1'}" for name, array in arrays)
            rows.append((layer, shapes, f"{sum(int(np.size(array)) for _, array in arrays):,}"))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows]
        lines.insert(1, "─" * len(lines[0]))
        lines.append(f"{self.count_params():,} parameters in all")
        text = "\n".join(lines)
        print(text)
        return text


def _leaves(tree: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        return [leaf for name in tree for leaf in _leaves(tree[name], f"{path}/{name}" if path else name)]
    return [(path, tree)]


def _copied(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {name: _copied(inner) for name, inner in tree.items()}
    return np.array(tree)


def _replaced(old: Any, new: Any, path: str, partial: bool = False) -> Any:
    if isinstance(old, Mapping):
        if not isinstance(new, Mapping) or new.keys() - old.keys() or (not partial and old.keys() - new.keys()):
            given = ", ".join(new) if isinstance(new, Mapping) else type(new).__name__
            raise ValueError(f"{path} has the names {', '.join(old)}, not {given}")
        return {name: _replaced(old[name], new[name], f"{path}/{name}") if name in new else old[name] for name in old}
    array = np.array(new, np.asarray(old).dtype)
    if array.shape != np.shape(old):
        raise ValueError(f"{path} has the shape {np.shape(old)}, not {array.shape}")
    return array
