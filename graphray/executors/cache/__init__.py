"""The cache: results of nodes in a directory, found by what they are."""

from __future__ import annotations

from graphray.executors.cache.directory import Cache
from graphray.executors.cache.entry import Entry
from graphray.executors.cache.place import default_directory

__all__ = ["Cache", "Entry", "default_directory"]
