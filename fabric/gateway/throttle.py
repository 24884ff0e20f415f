"""Lets one event of a kind through in a while."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable


class Throttle:
    """Allows each key once in ``every_s`` seconds and remembers the ``size`` keys used last; thread-safe."""

    def __init__(self, every_s: float, size: int) -> None:
        self._every_s = every_s
        self._size = size
        self._lock = threading.Lock()
        self._allowed_at: OrderedDict[Hashable, float] = OrderedDict()

    def allows(self, key: Hashable, now: float) -> bool:
        """Whether ``key`` may pass at ``now`` (Unix seconds)."""
        with self._lock:
            last = self._allowed_at.get(key)
            if last is not None and 0 <= now - last < self._every_s:
                return False
            self._allowed_at[key] = now
            self._allowed_at.move_to_end(key)
            while len(self._allowed_at) > self._size:
                self._allowed_at.popitem(last=False)
            return True
