"""One team while a decision is made: what it holds, what it may still have, and whose turn it is."""

from __future__ import annotations

from collections.abc import Mapping

from fabric.admission.asks import Kind
from fabric.admission.records import Attempt
from fabric.admission.share import Account
from fabric.admission.spend import Purse, Spent
from fabric.admission.values import TeamRules, WaitReason
from fabric.model.decisions import Fact
from fabric.model.resources import UNITS


class Team:
    """One team's quota, money and share.

    Args:
        name: which.
        rules: its quota and weight.
        account: what it has used.
        half_life_s: how fast that stops to count.
        spent: what its paid attempts that are over have cost.
    """

    def __init__(self, name: str, rules: TeamRules, account: Account, half_life_s: float, spent: Spent | None) -> None:
        self.name = name
        self.rules = rules
        self.purse = Purse(rules.budgets, spent)
        self.gpus = 0
        self._account = account
        self._half_life_s = half_life_s
        self._pledged = 0.0
        self._running = 0
        self._undeclared = 0
        self._ends: list[tuple[float, int]] = []
        # Once a job of the team has found the quota full: when enough of it comes free, and what is over then.
        self._quota_at: float | None = None
        self._quota_over = 0

    def tag(self, now: float) -> int:
        """Weighted GPU-seconds used and expected to be used; the smallest chooses next. Whole, so equals are equal."""
        return round((self._account.used_at(now, self._half_life_s) + self._pledged) / self.rules.weight)

    def running(self, kind: Kind, attempt: Attempt, end: float, now: float) -> None:
        """Count an attempt that was admitted earlier."""
        self.purse.commit(attempt.admitted_at, max(end, now), attempt.price_per_hour, attempt.egress)
        self._count(kind, end, attempt.charge * max(0.0, end - now))

    def admitted(self, kind: Kind, now: float, runtime_s: float, charge: float, per_hour: int, egress: int) -> None:
        """Count an attempt that is admitted now."""
        self.purse.commit(now, now + runtime_s, per_hour, egress)
        self._count(kind, now + runtime_s, charge * runtime_s)
        if self._quota_at is not None and now + runtime_s > self._quota_at:
            self._quota_over -= kind.gpus

    def refuses(self, kind: Kind, runtime_s: float, now: float) -> tuple[WaitReason, Mapping[str, Fact]] | None:
        """What of its quota stands against one more job of a kind; None for nothing."""
        rules = self.rules
        wanted = kind.gpus
        if rules.gpus is not None and wanted > round(rules.gpus * UNITS):
            return WaitReason.OVER_QUOTA, {"gpus": wanted / UNITS, "quota": rules.gpus}
        if rules.running is not None and self._running >= rules.running:
            return WaitReason.TEAM_RUNNING, {"running": self._running, "quota": rules.running}
        if not kind.declared and self._undeclared >= rules.undeclared:
            return WaitReason.UNDECLARED_CAP, {"running": self._undeclared, "quota": rules.undeclared}
        if rules.gpus is None or not wanted:
            return None
        free = round(rules.gpus * UNITS) - self.gpus
        facts: dict[str, Fact] = {"gpus": wanted / UNITS, "held": self.gpus / UNITS, "quota": rules.gpus}
        if wanted > free:
            self._keep_quota(wanted, free, now)
            return WaitReason.TEAM_GPUS, facts
        if self._quota_at is not None and now + runtime_s > self._quota_at and wanted > self._quota_over:
            return WaitReason.TEAM_GPUS, facts
        return None

    def quota_left(self) -> int | None:
        """Units of GPU that the team may still take; None for no limit."""
        return None if self.rules.gpus is None else max(0, round(self.rules.gpus * UNITS) - self.gpus)

    def _count(self, kind: Kind, end: float, pledge: float) -> None:
        wanted = kind.gpus
        self.gpus += wanted
        self._pledged += pledge
        self._running += 1
        self._undeclared += 0 if kind.declared else 1
        if wanted:
            self._ends.append((end, wanted))

    def _keep_quota(self, wanted: int, free: int, now: float) -> None:
        """Later jobs of the team must not keep the quota from the first one that waits for it."""
        if self._quota_at is not None:
            return
        self._quota_at = now
        for end, gpus in sorted(self._ends):
            free += gpus
            if free >= wanted:
                self._quota_at, self._quota_over = end, free - wanted
                return
