"""Room in every budget, from the ledger's fold of the same journal that everything else is decided from."""

from __future__ import annotations

import threading
from collections.abc import Callable

from fabric.config.schema import Config
from fabric.journal.base import Entry
from fabric.model.money import BudgetRoom
from fabric.money.budgets import BudgetRule, BudgetState, Reserve, rooms, states
from fabric.money.ledger import Ledger, fold


class Purse:
    """Keeps the ledger up to date and says what each budget still allows.

    Args:
        config: the configuration in force.
    """

    def __init__(self, config: Callable[[], Config]) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._ledger = Ledger()
        self._unread: list[Entry] = []

    def take(self, entry: Entry) -> None:
        """Take one entry of the journal into account, in order."""
        with self._lock:
            self._unread.append(entry)

    def rooms(self, now: float) -> tuple[BudgetRoom, ...]:
        """What each scope may still commit at ``now``, Unix seconds."""
        rules, reserve = self._terms()
        return rooms(rules, self.ledger(), round(now * 1000), reserve) if rules else ()

    def states(self, now: float) -> tuple[BudgetState, ...]:
        """Every budget as it stands at ``now``, Unix seconds."""
        rules, reserve = self._terms()
        return states(rules, self.ledger(), round(now * 1000), reserve)

    def ledger(self) -> Ledger:
        """The ledger as of the newest entry that was taken."""
        with self._lock:
            if self._unread:
                self._ledger, self._unread = fold(self._unread, self._ledger), []
            return self._ledger

    def _terms(self) -> tuple[list[BudgetRule], Reserve]:
        config = self._config()
        rules = [BudgetRule.of(block.scope, block.per, block.limit, dict(block.at)) for block in config.budgets]
        return rules, Reserve(hold_s=config.burst.hold)
