"""Checkpoints: a training on disk, as JSON and safetensors. Reading one runs no code of it.

A checkpoint is a directory: `checkpoint.json` says what was trained, how it was configured and how the state is put
together; `arrays.safetensors` holds the arrays. It is written beside its place and then moved there, so that there is
either all of it or nothing.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import tempfile
from typing import Any

import numpy as np

__all__ = ["CheckpointError", "load", "read", "write"]

_JSON, _ARRAYS, _FORMAT = "checkpoint.json", "arrays.safetensors", 1

# The types that states are made of; a checkpoint names them, and can name no others.
_TYPES = {
    "Training": "training",
    "Progress": "training",
    "Episode": "training",
    "Cursor": "cursor",
    "State": "cursor",
    "Moments": "statistics",
    "Replay": "replay",
    "Row": "replay",
    "PPOState": "ppo",
    "DQNState": "dqn",
    "SACState": "sac",
}


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or does not fit."""


def write(directory: str, about: dict[str, Any], training: Any) -> str:
    """Write a checkpoint, in place of one that is there, and give its path.

    Args:
        directory: where; folders above it are made.
        about: what `read` gives back; JSON.
        training: the state.
    """
    from graphray.rl.optional import safetensors

    save = safetensors().save_file
    directory = os.path.abspath(directory)
    parent = os.path.dirname(directory)
    os.makedirs(parent, exist_ok=True)
    arrays: dict[str, Any] = {}
    document = {"format": _FORMAT, **about, "state": _encode(training, arrays, "state")}
    temporary = tempfile.mkdtemp(prefix=".checkpoint-", dir=parent)
    try:
        save(arrays, os.path.join(temporary, _ARRAYS))
        with open(os.path.join(temporary, _JSON), "w") as file:
            json.dump(document, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        old = None
        if os.path.isdir(directory):
            old = tempfile.mkdtemp(prefix=".checkpoint-", dir=parent)
            os.rename(directory, os.path.join(old, "old"))
        os.rename(temporary, directory)
        if old:
            shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return directory


def find(path: str) -> str:
    """The directory of a checkpoint: of a file in it, or of the last one of a run.

    Raises:
        CheckpointError: there is none.
    """
    path = os.path.abspath(os.path.expanduser(path))
    if os.path.isfile(path):
        path = os.path.dirname(path)
    if os.path.isfile(os.path.join(path, _JSON)):
        return path
    if os.path.isdir(path):
        inside = sorted(
            (name for name in os.listdir(path) if name.startswith("checkpoint_")),
            key=lambda name: (len(name), name),
        )
        for name in reversed(inside):
            if os.path.isfile(os.path.join(path, name, _JSON)):
                return os.path.join(path, name)
        raise CheckpointError(f"{path} is no checkpoint, and holds none (a checkpoint has a file {_JSON})")
    raise CheckpointError(f"there is no checkpoint {path}")


def read_about(path: str) -> dict[str, Any]:
    """What a checkpoint says about itself.

    Raises:
        CheckpointError: there is none, it is damaged, or of a later version of graphray.
    """
    directory = find(path)
    try:
        with open(os.path.join(directory, _JSON)) as file:
            document = json.load(file)
        known = document["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{directory} is damaged: {_JSON}: {error}") from error
    if known != _FORMAT:
        raise CheckpointError(f"{directory} has format {known}; this version of graphray reads {_FORMAT}")
    return {**document, "directory": directory}


def read(path: str) -> tuple[dict[str, Any], Any]:
    """What a checkpoint says about itself, and its state.

    Raises:
        CheckpointError: as `read_about`.
    """
    from graphray.rl.optional import safetensors

    about = read_about(path)
    directory = about["directory"]
    load_file = safetensors().load_file
    try:
        arrays = load_file(os.path.join(directory, _ARRAYS))
        return about, _decode(about.pop("state"), arrays)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{directory} is damaged: {_ARRAYS}: {error}") from error


def load(path: str, **entries: Any) -> Any:
    """The algorithm that a checkpoint was saved by, as it was.

    Its environment is made: a checkpoint whose environment is not one of gymnasium's imports the module that it names.

    Args:
        path: of the checkpoint, of a file in it, or of a run's directory, whose last checkpoint is meant.
        entries: `executor=`, and entries of the configuration that are to be different, such as `env`.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    from graphray import rl

    about = read_about(path)
    name = about.get("algorithm")
    if name not in rl.ALGORITHMS:
        raise CheckpointError(f"{about['directory']} is of an algorithm {name!r}, which this version does not have")
    algorithm = getattr(rl, name).from_checkpoint(about, **entries)
    algorithm.restore(about["directory"])
    return algorithm


def differences(mine: Any, other: Any) -> str:
    """What shapes of the agent's parameters differ; empty text if none do."""
    here, there = ({path: np.shape(array) for path, array in _arrays(one.agent.params, "")} for one in (mine, other))
    for path in sorted(here.keys() | there.keys()):
        if here.get(path) != there.get(path):
            return f"{path} is {there.get(path, 'missing')} there, and {here.get(path, 'missing')} here"
    shards = [tuple(len(cursor.state) for cursor in one.cursors) for one in (mine, other)]
    if shards[0] != shards[1]:
        return f"it has {list(shards[1])} environments in its shards, not {list(shards[0])} (num_envs, num_shards)"
    return ""


def _arrays(tree: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(tree, dict):
        return [leaf for name in tree for leaf in _arrays(tree[name], f"{path}/{name}" if path else name)]
    return [(path, tree)]


# ---- states as JSON, with their arrays beside


def _encode(value: Any, arrays: dict[str, Any], path: str) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        fields: dict[str, Any] = value._asdict()  # type: ignore[attr-defined]
        if "snapshot" in fields:  # a pickle; the environment can be had without it
            fields["snapshot"] = b""
        inner = {name: _encode(one, arrays, f"{path}.{name}") for name, one in fields.items()}
        return {"type": type(value).__name__, "fields": inner}
    match value:
        case dict():
            if all(isinstance(name, str) for name in value):
                return {"dict": {name: _encode(one, arrays, f"{path}.{name}") for name, one in value.items()}}
            pairs = enumerate(value.items())
            return {"items": [[_encode(x, arrays, f"{path}.{n}.{i}") for i, x in enumerate(pair)] for n, pair in pairs]}
        case tuple() | list():
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {kind: [_encode(one, arrays, f"{path}.{number}") for number, one in enumerate(value)]}
        case bytes():
            arrays[path] = np.frombuffer(value, np.uint8)
            return {"bytes": path}
        case None | bool() | int() | float() | str():
            return {"value": value}
    if hasattr(value, "shape"):
        array = np.asarray(value)
        arrays[path] = np.ascontiguousarray(array).reshape(array.shape)
        return {"array": path, "scalar": isinstance(value, np.generic)}
    raise TypeError(f"{path}: a {type(value).__name__} cannot be in a checkpoint")


def _decode(code: dict[str, Any], arrays: dict[str, Any]) -> Any:
    match code:
        case {"type": str(name), "fields": dict(fields)}:
            if name not in _TYPES:
                raise CheckpointError(f"it holds a {name!r}, which this version of graphray does not know")
            made = getattr(importlib.import_module(f"graphray.rl.{_TYPES[name]}"), name)
            return made(**{field: _decode(one, arrays) for field, one in fields.items()})
        case {"dict": dict(inner)}:
            return {name: _decode(one, arrays) for name, one in inner.items()}
        case {"items": list(pairs)}:
            return {_decode(key, arrays): _decode(one, arrays) for key, one in pairs}
        case {"tuple": list(inner)}:
            return tuple(_decode(one, arrays) for one in inner)
        case {"list": list(inner)}:
            return [_decode(one, arrays) for one in inner]
        case {"bytes": str(path)}:
            return arrays[path].tobytes()
        case {"array": str(path)}:
            return arrays[path][()] if code.get("scalar") else arrays[path]
        case {"value": value}:
            return value
    raise CheckpointError(f"it holds something unknown: {str(code)[:80]}")
