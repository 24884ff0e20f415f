"""What budgets allow: worked examples."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from fabric.model.decisions import DRAIN_DEADLINE_S
from fabric.model.money import USD, BudgetRoom, Tariff
from fabric.money.budgets import ENDING_S, BudgetAction, BudgetRule, Per, Reserve, rooms, states, window
from fabric.money.ledger import Ledger
from fabric.money.life import Life

NOON = round(datetime(2026, 3, 15, 12, 0, tzinfo=UTC).timestamp() * 1000)
MINUTE = 60_000
RESERVE = Reserve(hold_s=600, boot_s=120, drain_s=0, ending_s=60)
# 3.60 USD an hour: 60,000 micro-USD a minute.
RUNNING = Life("t", site="sky", tariff=Tariff(3_600_000), exists=True, told_ms=NOON, joined_ms=NOON)


def ledger(*lives: Life) -> Ledger:
    return Ledger.of(replace(life, token=f"{life.token}{number}") for number, life in enumerate(lives))


def rule(per: Per = "day", limit: int = 10 * USD, scope: str = "fabric", **at: str) -> BudgetRule:
    return BudgetRule.of(scope, per, limit, {f"{name[1:]}%": action for name, action in at.items()})


def test_a_rule_reads_the_words_of_the_configuration() -> None:
    at = {"100%": "drain", "80%": "warn", "95.5 %": "no_new_launches"}
    assert BudgetRule.of("fabric", "month", 5, at).at == (
        (80.0, BudgetAction.WARN),
        (95.5, BudgetAction.NO_NEW_LAUNCHES),
        (100.0, BudgetAction.DRAIN),
    )
    with pytest.raises(ValueError, match="explode"):
        BudgetRule.of("fabric", "month", 5, {"80%": "explode"})


@pytest.mark.parametrize(
    ("per", "begin", "end"),
    [
        ("hour", datetime(2028, 2, 29, 23, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
        ("day", datetime(2028, 2, 29, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
        ("month", datetime(2028, 2, 1, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
    ],
)
def test_windows_are_calendar_windows(per: Per, begin: datetime, end: datetime) -> None:
    at = datetime(2028, 2, 29, 23, 59, 59, 999000, tzinfo=UTC)
    assert window(per, round(at.timestamp() * 1000)) == (begin.timestamp() * 1000, end.timestamp() * 1000)


def test_december_ends_with_the_year() -> None:
    begin, end = window("month", round(datetime(2026, 12, 31, 23, tzinfo=UTC).timestamp() * 1000))
    assert datetime.fromtimestamp(end / 1000, UTC) == datetime(2027, 1, 1, tzinfo=UTC)
    assert datetime.fromtimestamp(begin / 1000, UTC) == datetime(2026, 12, 1, tzinfo=UTC)


def test_a_new_launch_is_reserved_for_boot_and_hold_before_the_cloud_answers() -> None:
    asked = Life("t", site="sky", tariff=Tariff(3_600_000), intended_ms=NOON)
    (state,) = states([rule()], ledger(asked), NOON, RESERVE)
    assert (state.accrued, state.committed, state.unavoidable) == (0, 12 * 60_000, 0)
    assert state.left == 10 * USD - 720_000
    (refused,) = states([rule()], ledger(replace(asked, refused=True)), NOON, RESERVE)
    assert refused.committed == 0


def test_the_minimum_is_reserved_even_where_the_hold_is_shorter() -> None:
    asked = Life("t", site="sky", tariff=Tariff(3_600_000, minimum_seconds=3600), intended_ms=NOON)
    (state,) = states([rule()], ledger(asked), NOON, RESERVE)
    assert state.committed == 3_600_000


def test_what_runs_is_bound_until_its_hold_ends_and_then_extended_from_tick_to_tick() -> None:
    committed = [
        states([rule()], ledger(RUNNING), NOON + minutes * MINUTE, RESERVE)[0].committed for minutes in (0, 5, 9, 20)
    ]
    assert committed == [600_000, 600_000, 600_000, 21 * 60_000]


def test_what_is_being_ended_is_bound_only_to_wind_down() -> None:
    going = replace(RUNNING, ending=(NOON + MINUTE, "over_budget"))
    (state,) = states([rule()], ledger(going), NOON + MINUTE, RESERVE)
    assert state.committed == state.unavoidable == 120_000


def test_what_has_joined_is_bound_to_be_drained_and_ended_and_what_never_joined_only_to_be_ended() -> None:
    reserve = replace(RESERVE, drain_s=300)
    lives = (RUNNING, replace(RUNNING, ending=(NOON, "idle")), replace(RUNNING, joined_ms=None))
    bound = [states([rule()], ledger(life), NOON, reserve)[0].unavoidable for life in lives]
    assert bound == [6 * 60_000, 60_000, 60_000]
    (late,) = states([rule()], ledger(RUNNING), NOON + 20 * MINUTE, reserve)
    assert late.committed == 26 * 60_000


def test_the_reserve_covers_what_ray_is_given_to_move_work_away() -> None:
    assert Reserve(hold_s=0).wind_down_ms(RUNNING) == round((DRAIN_DEADLINE_S + ENDING_S) * 1000)


def test_only_the_cost_inside_the_window_counts() -> None:
    before = replace(RUNNING, told_ms=NOON - 90 * MINUTE, joined_ms=NOON - 90 * MINUTE, final=None)
    over = replace(before, final=(NOON - 90 * MINUTE, NOON - 61 * MINUTE))
    (hour,) = states([rule("hour")], ledger(before, over), NOON + 10 * MINUTE, RESERVE)
    assert hour.accrued == pytest.approx(600_000, abs=1000)  # begun seconds count
    (total,) = states([rule("total")], ledger(before, over), NOON + 10 * MINUTE, RESERVE)
    assert total.accrued == 100 * 60_000 + 29 * 60_000
    assert total.until_ms is None


def test_what_is_bound_to_run_on_into_the_next_window_needs_room_there_too() -> None:
    late = NOON + 55 * MINUTE
    asked = [Life("t", site="sky", tariff=Tariff(3_600_000), intended_ms=late) for _ in range(3)]
    (state,) = states([rule("hour", limit=1_500_000)], ledger(*asked), late, RESERVE)
    assert state.committed == pytest.approx(3 * 5 * 60_000, abs=5000)
    assert state.left == pytest.approx(1_500_000 - 3 * 7 * 60_000, abs=5000)


def test_actions_follow_what_is_committed_but_draining_follows_what_is_unavoidable() -> None:
    budget = rule(limit=600_000, _50="warn", _95="no_new_launches", _100="drain")
    fresh = states([budget], ledger(RUNNING), NOON, RESERVE)[0]
    assert fresh.actions == {BudgetAction.WARN, BudgetAction.NO_NEW_LAUNCHES}
    assert (fresh.left, fresh.unavoidable) == (0, 60_000)
    in_time = states([budget], ledger(RUNNING), NOON + 9 * MINUTE, RESERVE)[0]
    assert BudgetAction.DRAIN in in_time.actions
    assert in_time.accrued == 540_000  # a minute before the money is gone


def test_rooms_hold_the_tightest_budget_of_each_scope() -> None:
    budgets = [
        rule("day", 10 * USD),
        rule("total", 5 * USD),
        rule("day", 3 * USD, "site/sky", _10="no_new_launches"),
        rule("day", 2 * USD, "site/sea"),
    ]
    assert rooms(budgets, ledger(RUNNING), NOON, RESERVE) == (
        BudgetRoom("fabric", 5 * USD - 600_000),
        BudgetRoom("site/sky", 3 * USD - 600_000, no_new_launches=True),
        BudgetRoom("site/sea", 2 * USD),
    )


def test_without_budgets_there_are_no_rooms() -> None:
    assert rooms([], ledger(RUNNING), NOON, RESERVE) == ()
