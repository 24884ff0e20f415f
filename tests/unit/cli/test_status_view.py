"""What ``fabric status`` shows of budgets."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from fabric.cli.status_view import status_view
from fabric.model.money import USD, Tariff, format_usd
from fabric.money.budgets import BudgetRule, Reserve, states
from fabric.money.ledger import Ledger
from fabric.money.life import Life
from tests.unit.cli.places import place_in, write_story

HALF_AN_HOUR_MS = 1_800_000


def test_what_a_budget_has_spent_is_counted_once_and_adds_up_with_what_is_left(tmp_path: Path) -> None:
    place = place_in(tmp_path)
    write_story(place.journal)
    life = Life("t", site="sky", tariff=Tariff(3_600_000), exists=True, told_ms=0, joined_ms=0)
    rule = BudgetRule.of("fabric", "day", 5 * USD, {})
    (state,) = states([rule], Ledger.of([life]), HALF_AN_HOUR_MS, Reserve(hold_s=3600))
    assert 0 < state.accrued < state.committed
    budget = {
        "scope": rule.scope,
        "per": rule.per,
        "limit_micro_usd": rule.limit,
        "accrued_micro_usd": state.accrued,
        "committed_micro_usd": state.committed,
        "left_micro_usd": state.left,
        "actions": [],
    }
    drawn = io.StringIO()
    Console(file=drawn, width=160).print(status_view({**place.status(), "budgets": [budget]}))
    (shown,) = (line for line in drawn.getvalue().splitlines() if line.startswith("Budget"))
    assert f"{format_usd(state.committed)} of {format_usd(rule.limit)} spent or promised" in shown
    assert f"{format_usd(rule.limit - state.committed)} left" in shown
