"""diskcache: results kept in the calling process, as pickles: the large ones in files, the small ones in SQLite."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import _work
import diskcache


class Diskcache(nullcontext):
    """Nothing needs to be started."""

    def __init__(self) -> None:
        super().__init__(self)

    def kept(self, directory: str) -> Kept:
        return Kept(directory)


class Kept:
    def __init__(self, directory: str) -> None:
        # Its limit is 1 GiB by default, as good as reached by two large results.
        cache = diskcache.Cache(directory, size_limit=1 << 40)
        self.small = cache.memoize()(_work.inc)
        self.large = cache.memoize()(_work.ramp)

    def many(self, n: int) -> Any:
        return [self.small(i) for i in range(n)]
