"""Budgets: limits on what is spent in an hour, a day, a month (UTC calendar) or altogether.

Three amounts are told apart in each window:

* *accrued*: what has been spent in it so far;
* *committed*: accrued, plus what the launches that exist or may exist are bound to cost still: their minimum, and
  the hold time after they join. What runs beyond its hold time is extended from tick to tick;
* *unavoidable*: what would be spent if everything were given back now: Ray moves the work away first.

A new launch must fit between committed and the limit, so launching cannot overrun a budget; and ``drain`` looks
at what is unavoidable, so machines are given back in time to stay inside it, and none is given back merely
because it was bought.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Literal

from fabric.model.decisions import DRAIN_DEADLINE_S
from fabric.model.money import BudgetRoom, MicroUSD
from fabric.money.ledger import Ledger
from fabric.money.life import HOUR_MS, Life

Per = Literal["hour", "day", "month", "total"]
WHOLE_FABRIC = "fabric"
_SITE = "site/"
_FOR_EVER = 1 << 62
# From the last work on a node to the end of charging: ticks, the cloud's call, the machine's own end.
ENDING_S = 60.0


class BudgetAction(StrEnum):
    """What is done when a part of a budget is used, mildest first."""

    WARN = "warn"
    NO_NEW_LAUNCHES = "no_new_launches"
    DRAIN = "drain"


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """One budget of the configuration, in plain values.

    Attributes:
        scope: ``fabric`` for everything, ``site/<name>`` for one site.
        per: the window, by the UTC calendar; ``total`` never ends.
        limit: micro-USD that may be spent in each window.
        at: ``(percent of the limit, action)``.
    """

    scope: str
    per: Per
    limit: MicroUSD
    at: tuple[tuple[float, BudgetAction], ...] = ()

    @staticmethod
    def of(scope: str, per: Per, limit: MicroUSD, at: Mapping[str, str]) -> BudgetRule:
        """A rule from the words of ``fabric.yaml``, for example ``at={"80%": "warn", "100%": "drain"}``.

        Raises:
            ValueError: a key is not a percentage, or an action is unknown.
        """
        graded = sorted((float(part.strip().removesuffix("%")), BudgetAction(action)) for part, action in at.items())
        return BudgetRule(scope, per, limit, tuple(graded))

    def covers(self, site: str) -> bool:
        """Whether what is spent at ``site`` counts."""
        return self.scope == WHOLE_FABRIC or self.scope == _SITE + site


@dataclass(frozen=True, slots=True)
class Reserve:
    """How long, in seconds, a launch is bound to cost money.

    Attributes:
        hold_s: least time a node is kept once it has joined.
        boot_s: from the launch to joining, where it has not joined yet.
        drain_s: from the wish to give a node back until no work is on it, at the latest.
        ending_s: from there to the end of charging.
    """

    hold_s: float
    boot_s: float = 120.0
    drain_s: float = DRAIN_DEADLINE_S
    ending_s: float = ENDING_S

    def wind_down_ms(self, life: Life) -> int:
        """How long, in milliseconds, ``life`` costs money still if it is given back now.

        The end of a node that joined is intended only once Ray has drained it; work that never began needs no time.
        """
        drains = life.joined_ms is not None and life.ending is None
        return round((self.ending_s + (self.drain_s if drains else 0.0)) * 1000)


@dataclass(frozen=True, slots=True)
class BudgetState:
    """One budget now. Amounts are micro-USD.

    Attributes:
        rule: the budget.
        since_ms, until_ms: the present window, Unix milliseconds; ``until_ms`` is None for ``total``.
        accrued, committed, unavoidable: see the module.
        left: what may still be committed; never negative.
        actions: what the rule calls for now.
    """

    rule: BudgetRule
    since_ms: int
    until_ms: int | None
    accrued: MicroUSD
    committed: MicroUSD
    unavoidable: MicroUSD
    left: MicroUSD
    actions: frozenset[BudgetAction]


def states(rules: Sequence[BudgetRule], ledger: Ledger, now_ms: int, reserve: Reserve) -> tuple[BudgetState, ...]:
    """Every budget as it stands at ``now_ms``, in the order of ``rules``.

    One machine at 3.60 USD an hour that has run 30 minutes beyond its hold time, under 5 USD a day:

    >>> from fabric.model.money import USD, Tariff
    >>> life = Life("t", site="sky", tariff=Tariff(3_600_000), exists=True, told_ms=0, joined_ms=0)
    >>> rule = BudgetRule.of("fabric", "day", 5 * USD, {"30%": "warn"})
    >>> state = states([rule], Ledger.of([life]), 1_800_000, Reserve(hold_s=600, drain_s=0, ending_s=60))[0]
    >>> state.accrued, state.committed, state.left, sorted(state.actions)
    (1800000, 1860000, 3140000, [<BudgetAction.WARN: 'warn'>])
    """
    return tuple(_state(rule, ledger, now_ms, reserve) for rule in rules)


def rooms(rules: Sequence[BudgetRule], ledger: Ledger, now_ms: int, reserve: Reserve) -> tuple[BudgetRoom, ...]:
    """What the brain needs to know of the budgets: one room per scope, the tightest where a scope has several."""
    tightest: dict[str, BudgetRoom] = {}
    for state in states(rules, ledger, now_ms, reserve):
        scope = state.rule.scope
        drain = BudgetAction.DRAIN in state.actions
        shut = drain or BudgetAction.NO_NEW_LAUNCHES in state.actions
        known = tightest.get(scope, BudgetRoom(scope, state.left))
        tightest[scope] = BudgetRoom(
            scope,
            left=min(known.left, state.left),
            no_new_launches=known.no_new_launches or shut,
            drain=known.drain or drain,
        )
    return tuple(tightest.values())


def window(per: Per, at_ms: int) -> tuple[int, int]:
    """Begin and end, in Unix milliseconds, of the UTC calendar window that holds ``at_ms``; the end is not in it."""
    if per == "total":
        return 0, _FOR_EVER
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    begin = at.replace(minute=0, second=0, microsecond=0)
    if per == "hour":
        return _ms(begin), _ms(begin + timedelta(hours=1))
    begin = begin.replace(hour=0)
    if per == "day":
        return _ms(begin), _ms(begin + timedelta(days=1))
    begin = begin.replace(day=1)
    return _ms(begin), _ms((begin + timedelta(days=31)).replace(day=1))


def _state(rule: BudgetRule, ledger: Ledger, now_ms: int, reserve: Reserve) -> BudgetState:
    since, until = window(rule.per, now_ms)
    lives = [life for life in ledger.unsettled.values() if rule.covers(life.site)]
    bound = [(life, _bound_until(life, now_ms, reserve)) for life in lives]
    before = _settled(rule, ledger, since, until)
    open_lives = [life for life in lives if not life.pending]
    accrued = before + sum(_spent(life, since, until, _known_until(life, now_ms)) for life in open_lives)
    unavoidable = before + sum(
        _spent(life, since, until, max(now_ms + reserve.wind_down_ms(life), _known_until(life, now_ms)))
        for life in open_lives
    )
    committed = before + sum(_spent(life, since, until, end) for life, end in bound)
    left = rule.limit - committed
    last = max((end for _, end in bound), default=now_ms)
    begin, end = since, until
    while end <= last:
        # What is bound to run on is spent in the windows to come: there must be room there as well.
        begin, end = window(rule.per, end)
        to_come = _settled(rule, ledger, begin, end) + sum(_spent(life, begin, end, stop) for life, stop in bound)
        left = min(left, rule.limit - to_come)
    actions = frozenset(
        action
        for percent, action in rule.at
        if (unavoidable if action is BudgetAction.DRAIN else committed) * 100 >= rule.limit * percent
    )
    until_ms = None if rule.per == "total" else until
    return BudgetState(rule, since, until_ms, accrued, committed, unavoidable, max(0, left), actions)


def _settled(rule: BudgetRule, ledger: Ledger, since_ms: int, until_ms: int) -> MicroUSD:
    """What ended instances cost in a window; windows begin and end with an hour."""
    first, last = since_ms // HOUR_MS, until_ms // HOUR_MS
    return sum(amount for (site, hour), amount in ledger.settled.items() if first <= hour < last and rule.covers(site))


def _spent(life: Life, since_ms: int, until_ms: int, end_ms: int) -> MicroUSD:
    """What ``life`` costs in a window, if it costs no more after ``end_ms``."""
    return life.spent(since_ms, min(until_ms, end_ms + 1))


def _known_until(life: Life, now_ms: int) -> int:
    """Up to when its costs are a fact: a machine that exists has begun, even if our clock is behind the cloud's."""
    return max(now_ms, life.launched_ms or 0)


def _bound_until(life: Life, now_ms: int, reserve: Reserve) -> int:
    """Until when ``life`` is bound to cost money."""
    now_ms = _known_until(life, now_ms)
    wind_down = now_ms + reserve.wind_down_ms(life)
    if life.ending is not None:
        return wind_down
    hold = round(reserve.hold_s * 1000)
    if life.joined_ms is not None:
        return max(life.joined_ms + hold, wind_down)
    return max((life.launched_ms or now_ms) + round(reserve.boot_s * 1000), now_ms) + hold


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
