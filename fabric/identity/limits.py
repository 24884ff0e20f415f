"""How often one user may ask: a token bucket for each."""

from __future__ import annotations

from collections import OrderedDict

MOST_USERS = 10_000


class RateLimits:
    """Allows each user ``burst`` requests at once and ``per_second`` in the long run. Pure: the time is an argument.

    A full bucket is the same as none, so only users who asked within the last ``burst / per_second`` seconds take up
    memory, and never more than ``MOST_USERS`` of them: beyond that, who asked longest ago is forgotten and begins anew.
    """

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, user: str, now: float, per_second: float, burst: int) -> float:
        """Take one request of ``user`` in.

        Args:
            user: who asks.
            now: seconds, of a clock that is never set back.
            per_second: sustained requests; the configuration in force may change between two calls.
            burst: requests at once.

        Returns:
            0 where it may pass, otherwise the seconds after which it may come again (``Retry-After``).
        """
        level, at = self._buckets.get(user, (float(burst), now))
        level = min(float(burst), level + max(0.0, now - at) * per_second)
        passes = level >= 1.0
        self._buckets[user] = (level - 1.0 if passes else level, now)
        self._buckets.move_to_end(user)
        self._forget(now, per_second, burst)
        return 0.0 if passes else (1.0 - level) / per_second

    def __len__(self) -> int:
        return len(self._buckets)

    def _forget(self, now: float, per_second: float, burst: int) -> None:
        """At most two each time, so that a call costs the same whatever went before."""
        for _ in range(2):
            user, (level, at) = next(iter(self._buckets.items()))
            if level + (now - at) * per_second < burst and len(self._buckets) <= MOST_USERS:
                return
            if len(self._buckets) > 1:
                del self._buckets[user]
