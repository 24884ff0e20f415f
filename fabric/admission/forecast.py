"""When a waiting job would start at home, if nothing bursts and every job runs as long as it is taken to.

Two bounds, and the later one is said. No job starts before its own workers fit on the nodes that come free; that is
worked out node by node. And none starts before the work ahead of it in the line is done; that is worked out as a fluid:
so many GPU-seconds ahead, so many GPUs free from each moment on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from fabric.admission.asks import Ask, Kind
from fabric.admission.holds import Hold, Release
from fabric.admission.reach import Reach
from fabric.admission.reserve import earliest
from fabric.admission.space import Space, Where


class Forecast:
    """Start times at home.

    Args:
        space: the nodes as they were left by the decision.
        releases: what comes free, in order of time.
        holds: what running jobs hold, for the fluid.
        started: charge and expected end of what was admitted by the decision.
        home: sites of your own.
        cluster: GPUs' worth of the whole home.
        now: Unix seconds.
    """

    def __init__(
        self,
        space: Space,
        releases: Sequence[Release],
        holds: Iterable[Hold],
        started: Iterable[tuple[str, float, float]],
        home: frozenset[str],
        cluster: float,
        now: float,
    ) -> None:
        self._space, self._releases, self._home, self._now = space, releases, home, now
        ends = [(hold.end, hold.attempt.charge) for hold in holds if hold.placement and hold.placement.site in home]
        ends += [(end, charge) for site, charge, end in started if site in home]
        self._times, self._done, self._rates = _fluid(sorted(ends), cluster, now)
        self._shadows: dict[tuple[Ask, Where], float | None] = {}

    def start(self, kind: Kind, reach: Reach, ahead: float) -> float | None:
        """When one job of a kind would start that has ``ahead`` GPU-seconds before it; None where it never fits."""
        if not reach.could_fit & self._home:
            return None
        shadow = self._shadow(kind.ask, reach)
        flow = self._when(ahead)
        return None if shadow is None or flow is None else max(shadow, flow)

    def _shadow(self, ask: Ask, reach: Reach) -> float | None:
        key = (ask, reach.where)
        if key not in self._shadows:
            starts = [self._earliest(site, ask, reach.where) for site in sorted(reach.could_fit & self._home)]
            self._shadows[key] = min((at for at in starts if at is not None), default=None)
        return self._shadows[key]

    def _earliest(self, site: str, ask: Ask, where: Where) -> float | None:
        if self._space.find(site, ask, where, for_long=False):
            return self._now
        start = earliest(self._space, self._releases, site, ask, where)
        return None if start is None else start.at

    def _when(self, ahead: float) -> float | None:
        """The moment by which ``ahead`` GPU-seconds can have been worked off."""
        step = max(0, bisect_right(self._done, ahead) - 1)
        rate = self._rates[step]
        left = ahead - self._done[step]
        if left <= 0:
            return self._times[step]
        return self._times[step] + left / rate if rate > 0 else None


def _fluid(
    ends: Sequence[tuple[float, float]], cluster: float, now: float
) -> tuple[list[float], list[float], list[float]]:
    """Moments, GPU-seconds that can have been done by each, and GPUs free from each on."""
    rate = max(0.0, cluster - sum(charge for _, charge in ends))
    times, done, rates = [now], [0.0], [rate]
    for end, charge in ends:
        done.append(done[-1] + rates[-1] * (end - times[-1]))
        times.append(end)
        rates.append(min(cluster, rates[-1] + charge))
    return times, done, rates
