"""What of the line may leave home, told to the burst engine as demand.

A job of one worker is demand of its shape; the burst engine may choose among the sites that it may use, and is told
them cheapest first. A job of several is a gang whose every bundle names one site, so that it is never torn apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fabric.admission.asks import Kind
from fabric.admission.outcome import BurstDemand
from fabric.admission.reach import Reach, Reaches, selector_of
from fabric.admission.spend import Purse, run_cost
from fabric.admission.team import Team
from fabric.admission.values import Away, WaitReason
from fabric.model.demand import Demand, Gang, Shape

# Reasons that more machines would end. Quotas, money and dependencies are none.
FOR_ROOM = frozenset({WaitReason.NO_ROOM, WaitReason.BEHIND_OTHERS, WaitReason.WOULD_DELAY_HEAD})
MOST_GANGS = 1_000


@dataclass(frozen=True, slots=True)
class Crowd:
    """Jobs of one kind that wait for room: how many, the first of them, and how long one of them runs."""

    kind: Kind
    count: int
    jobs: list[str]
    runtime_s: float


def affordable(kind: Kind, reach: Reach, purse: Purse, runtime_s: float, now: float) -> list[Away]:
    """The machines that could be bought for one job of a kind within its own limit and its team's budgets."""
    return [
        away
        for away in reach.aways
        if (kind.max_cost is None or run_cost(away.per_hour, runtime_s, away.egress) <= kind.max_cost)
        and purse.refuses(now, now + runtime_s, away.per_hour, away.egress) is None
    ]


def burst_of(waiting: Iterable[Crowd], reaches: Reaches, teams: Mapping[str, Team], now: float) -> BurstDemand:
    """Demand for what waits for room and may leave.

    Args:
        waiting: in the order of the line.
        reaches: where each kind may go.
        teams: what each may still have; what is asked for here counts against it.
        now: Unix seconds.
    """
    demands: list[Demand] = []
    gangs: list[Gang] = []
    purses: dict[str, Purse] = {}
    quota = {name: team.quota_left() for name, team in teams.items()}
    for crowd in waiting:
        kind, reach, team = crowd.kind, reaches.of(crowd.kind), teams[crowd.kind.team]
        purse = purses.setdefault(kind.team, team.purse.copy())
        aways = affordable(kind, reach, purse, crowd.runtime_s, now)
        if not aways:
            continue
        count, each, left = crowd.count, kind.gpus, quota[kind.team]
        if left is not None and each:
            count = min(count, left // each)
            quota[kind.team] = left - count * each
        if team.rules.budgets:
            count = _paid_for(count, aways[0], purse, crowd.runtime_s, now)
        if count and kind.ask.workers == 1 and not kind.ask.driver:
            sites = tuple(dict.fromkeys(away.site for away in aways))
            shape = Shape(kind.ask.bundle, tuple(selector_of((site,), spot=reach.where.spot) for site in sites))
            demands.append(Demand(shape, count))
        elif count:
            jobs = crowd.jobs[: min(count, MOST_GANGS - len(gangs))]
            gangs += _gangs(kind, jobs, aways[0].site, spot=reach.where.spot)
    return BurstDemand(tuple(demands), tuple(gangs))


def _paid_for(count: int, away: Away, purse: Purse, runtime_s: float, now: float) -> int:
    """How many of ``count`` the budgets reach for; they are committed, so that the next kind sees it."""
    paid = 0
    while paid < min(count, MOST_GANGS) and not purse.refuses(now, now + runtime_s, away.per_hour, away.egress):
        purse.commit(now, now + runtime_s, away.per_hour, away.egress)
        paid += 1
    return paid


def _gangs(kind: Kind, jobs: list[str], site: str, *, spot: bool) -> list[Gang]:
    selectors = (selector_of((site,), spot=spot),)
    bundles = (Shape(kind.ask.bundle, selectors),) * kind.ask.workers
    if kind.ask.driver:
        bundles += (Shape(kind.ask.driver, selectors),)
    return [Gang(job, bundles) for job in jobs]
