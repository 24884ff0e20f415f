"""What a team's jobs have spent and are bound to spend, against its budgets.

The amounts are the queue's own: the price of a job's share of paid machines, from its admission on, and the egress of
its data. At admission the whole expected runtime is reserved, so admitting cannot overrun a budget. What instances
really cost is the ledger's business (``fabric.money.ledger``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from fabric.model.money import SECONDS_PER_HOUR, MicroUSD
from fabric.money.budgets import BudgetAction, BudgetRule, window
from fabric.money.life import HOUR_MS

_STOPS = (BudgetAction.NO_NEW_LAUNCHES, BudgetAction.DRAIN)


def run_cost(per_hour: MicroUSD, seconds: float, egress: MicroUSD = 0) -> MicroUSD:
    """Micro-USD for ``seconds`` at ``per_hour``, rounded up, and the egress."""
    return _up_to(per_hour, round(seconds * 1000)) + egress


@dataclass(slots=True)
class Spent:
    """Money by the hour of the UTC calendar in which it was, or will be, spent."""

    hours: dict[int, MicroUSD] = field(default_factory=dict[int, MicroUSD])

    def add(self, begin: float, end: float, per_hour: MicroUSD, egress: MicroUSD) -> None:
        """Enter one attempt that costs ``per_hour`` from ``begin`` to ``end``; egress counts when it begins."""
        for hour, amount in _by_hour(begin, end, per_hour, egress):
            self.hours[hour] = self.hours.get(hour, 0) + amount

    def within(self, since_ms: int, until_ms: int) -> MicroUSD:
        """What falls into a window; windows begin and end with an hour."""
        first, last = since_ms // HOUR_MS, until_ms // HOUR_MS
        if last - first > len(self.hours):
            return sum(amount for hour, amount in self.hours.items() if first <= hour < last)
        return sum(self.hours.get(hour, 0) for hour in range(first, last))


class Purse:
    """One team's budgets while a decision is made.

    Args:
        budgets: its budgets.
        spent: what attempts that are over have cost.
    """

    def __init__(self, budgets: tuple[BudgetRule, ...], spent: Spent | None) -> None:
        self._budgets = budgets
        self._spent = Spent(dict(spent.hours) if spent else {})

    def copy(self) -> Purse:
        """The same purse, to try something out on."""
        return Purse(self._budgets, self._spent)

    def commit(self, begin: float, end: float, per_hour: MicroUSD, egress: MicroUSD) -> None:
        """Reserve for an attempt that runs or may run."""
        if self._budgets and (per_hour or egress):
            self._spent.add(begin, end, per_hour, egress)

    def refuses(self, begin: float, end: float, per_hour: MicroUSD, egress: MicroUSD) -> BudgetRule | None:
        """The first budget that such an attempt would overrun, in any window it reaches into."""
        if not self._budgets or not (per_hour or egress):
            return None
        wanted = Spent()
        wanted.add(begin, end, per_hour, egress)
        hours = sorted(wanted.hours)
        for rule in self._budgets:
            limit, at = most(rule), hours[0] * HOUR_MS
            while at <= hours[-1] * HOUR_MS:
                since, until = window(rule.per, at)
                if self._spent.within(since, until) + wanted.within(since, until) > limit:
                    return rule
                at = until
        return None

    def left(self, rule: BudgetRule, now: float) -> MicroUSD:
        """What may still be committed in the present window."""
        since, until = window(rule.per, round(now * 1000))
        return max(0, most(rule) - self._spent.within(since, until))


def most(rule: BudgetRule) -> MicroUSD:
    """The part of a budget that new work may use: up to where its own rule says that nothing more is bought."""
    percent = min((part for part, action in rule.at if action in _STOPS), default=100.0)
    return rule.limit if percent >= 100 else int(rule.limit * percent / 100)


def _by_hour(begin: float, end: float, per_hour: MicroUSD, egress: MicroUSD) -> Iterator[tuple[int, MicroUSD]]:
    """The slices add up to what the whole costs, to the micro-dollar."""
    start, stop = round(begin * 1000), max(round(begin * 1000), round(end * 1000))
    yield start // HOUR_MS, egress
    at, before = start, 0
    while at < stop:
        until = min(stop, (at // HOUR_MS + 1) * HOUR_MS)
        so_far = _up_to(per_hour, until - start)
        yield at // HOUR_MS, so_far - before
        at, before = until, so_far


def _up_to(per_hour: MicroUSD, lived_ms: int) -> MicroUSD:
    return -(-per_hour * lived_ms // (SECONDS_PER_HOUR * 1000))
