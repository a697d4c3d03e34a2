"""Packages that are needed for some things only, and what to install where one is missing."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["needed", "safetensors"]


def needed(module: str, what_for: str, package: str = "") -> Any:
    """A module of the extra `rl`.

    Raises:
        ModuleNotFoundError: it is not installed; says how it is.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        package = package or module.partition(".")[0]
        raise ModuleNotFoundError(
            f"{what_for} needs the package {package}: pip install 'graphray[rl]'", name=error.name
        ) from None


def safetensors() -> Any:
    """The part of safetensors that is for NumPy."""
    return needed("safetensors.numpy", "a checkpoint")
