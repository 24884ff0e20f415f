"""Properties of the ledger and the budgets that hold for any journal whatever."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.journal.base import Entry
from fabric.model.decisions import DRAIN_DEADLINE_S
from fabric.model.events import Event
from fabric.model.money import USD, Tariff, format_usd, usd
from fabric.money.budgets import ENDING_S, BudgetAction, BudgetRule, Per, Reserve, rooms, states, window
from fabric.money.ledger import Cause, Ledger, fold

EPOCH_MS = 1_700_000_000_000
SPAN_MS = 3 * 86_400_000
SITES = ("sky", "sea")
TICK_MS = 5000

moments = st.integers(EPOCH_MS, EPOCH_MS + SPAN_MS)
tariffs = st.builds(Tariff, st.integers(0, 50 * USD), st.integers(0, 7200))
causes = st.sampled_from(["idle", "cancel", "join_deadline", "node_lost", "over_budget", "lease_lapsed", ""])


@st.composite
def launches(draw: st.DrawFn, token: str) -> list[Entry]:
    """The entries of one launch, in any order, with any of them missing."""
    at = draw(moments)
    begin = at + draw(st.integers(-2000, 60_000))
    end = begin + draw(st.integers(0, SPAN_MS // 2))
    tariff = draw(tariffs)
    site = draw(st.sampled_from(SITES))
    told = {"instance": f"i-{token}", "site": site}
    intent = {
        "site": site,
        "node_type": f"{site}.big",
        "offer": f"{site}.big//spot",
        "market": draw(st.sampled_from(["spot", "on-demand", "owned"])),
        "per_hour": tariff.per_hour,
        "minimum_seconds": tariff.minimum_seconds,
    }
    ending = {"cause": draw(causes), "idle_s": draw(st.floats(0, 10_000))}
    if draw(st.booleans()):
        del ending["idle_s"]
    possible = [
        (Event.LAUNCH_INTENDED, at, intent),
        (Event.LAUNCH_ACCEPTED, draw(moments), {**told, "launched_at_ms": begin}),
        (Event.LAUNCH_ACCEPTED, draw(moments), told),
        (Event.INSTANCE_ADOPTED, draw(moments), {**told, "launched_at_ms": begin}),
        (Event.LAUNCH_REFUSED, draw(moments), {"error": "capacity", "offer": "x"}),
        (Event.LAUNCH_CANCELLED, draw(moments), {"cause": "never_appeared"}),
        (Event.NODE_JOINED, draw(moments), {"site": site}),
        (Event.NODE_JOINED, draw(moments), {"site": site}),
        (Event.NODE_LOST, draw(moments), {}),
        (Event.SPOT_NOTICE, draw(moments), {}),
        (Event.LEASE_RENEWED, draw(moments), {"until": 1.0}),
        (Event.ORPHAN_FOUND, draw(moments), {**told, "cause": "unknown_instance"}),
        (Event.TERMINATE_INTENDED, draw(moments), ending),
        (Event.INSTANCE_ENDED, draw(moments), {**told, "launched_at_ms": begin, "ended_at_ms": end}),
        (Event.INSTANCE_ENDED, end, {**told, "launched_at_ms": at, "ended_at_ms": end + 9, "estimated": True}),
    ]
    chosen = draw(st.lists(st.sampled_from(range(len(possible))), unique=True))
    return [
        Entry(0, at_ms / 1000, "tester", kind, {"token": token, **data}, "", "")
        for kind, at_ms, data in (possible[index] for index in chosen)
    ]


@st.composite
def journals(draw: st.DrawFn) -> list[Entry]:
    entries = [entry for token in "abc" for entry in draw(launches(token))]
    return draw(st.permutations(entries))


rules = st.builds(
    BudgetRule,
    st.sampled_from(["fabric", "site/sky", "site/sea", "site/void"]),
    st.sampled_from(["hour", "day", "month", "total"]),
    st.integers(0, 2000 * USD),
    st.lists(st.tuples(st.integers(1, 100), st.sampled_from(list(BudgetAction))), max_size=3).map(tuple),
)
reserves = st.builds(Reserve, st.floats(0, 7200), st.floats(0, 600), st.floats(0, 600), st.floats(0, 600))


@settings(deadline=None)
@given(journals(), moments)
def test_every_micro_dollar_is_for_one_thing_and_no_amount_is_negative(entries: list[Entry], now_ms: int) -> None:
    statement = fold(entries).statement(now_ms)
    assert statement.work + statement.idle + statement.waste == statement.total
    assert sum(line.accrued for line in statement.lines) == statement.total
    assert sum(statement.by_site().values()) == statement.total
    assert sum(statement.by_offer().values()) == statement.total
    assert sum(statement.by_cause().values()) == statement.total
    for line in statement.lines:
        assert sum(line.parts.values()) == line.accrued
        assert all(amount >= 0 for amount in line.parts.values())
        if line.ended_at_ms is not None:
            assert line.accrued == line.tariff.cost(line.ended_at_ms - line.launched_at_ms)


@settings(deadline=None)
@given(journals(), st.data())
def test_the_ledger_does_not_depend_on_order_on_repetition_or_on_how_it_was_folded(
    entries: list[Entry], data: st.DataObject
) -> None:
    ledger = fold(entries)
    shuffled = data.draw(st.permutations(entries))
    repeated = [*entries, *data.draw(st.lists(st.sampled_from(entries), max_size=5))] if entries else []
    cut = data.draw(st.integers(0, len(entries)))
    assert fold(shuffled) == ledger
    assert fold(repeated) == ledger
    assert fold(entries[cut:], fold(entries[:cut])) == ledger
    assert fold(entries, ledger) is not None
    assert fold(entries, ledger) == ledger


@settings(deadline=None)
@given(journals(), moments, moments)
def test_cost_never_falls_with_time(entries: list[Entry], one: int, other: int) -> None:
    ledger = fold(entries)
    early, late = sorted((one, other))
    before, after = ledger.statement(early), ledger.statement(late)
    assert [line.token for line in before.lines] == [line.token for line in after.lines]
    assert all(a.accrued <= b.accrued for a, b in zip(before.lines, after.lines, strict=True))


@settings(deadline=None)
@given(journals(), moments)
def test_the_ledger_of_ended_instances_is_the_bill_to_the_micro_dollar(entries: list[Entry], now_ms: int) -> None:
    ended = {entry.data["token"]: entry.data for entry in entries if entry.kind == Event.INSTANCE_ENDED}
    exact = {token: data for token, data in ended.items() if "estimated" not in data}
    for line in fold(entries).statement(now_ms).lines:
        if line.token in exact:
            data = exact[line.token]
            assert line.accrued == line.tariff.cost(data["ended_at_ms"] - data["launched_at_ms"])
            assert not line.estimated


@settings(deadline=None)
@given(journals(), st.sampled_from(["hour", "day", "month"]), moments)
def test_what_the_windows_of_a_budget_saw_adds_up_to_the_total(entries: list[Entry], per: Per, now_ms: int) -> None:
    ledger, reserve = fold(entries), Reserve(0, 0, 0, 0)
    latest = max([now_ms, *(life.ended_ms or life.launched_ms or 0 for life in ledger.lives.values())])
    rule = BudgetRule("fabric", per, 10**15)
    seen, at_ms = 0, EPOCH_MS - 10_000_000
    while at_ms <= latest:
        _, until = window(per, at_ms)
        # At the end of each window, looking back at it.
        (state,) = states([rule], ledger, min(until - 1, latest), reserve)
        seen += state.accrued
        at_ms = until
    assert seen == ledger.statement(latest).total
    (total,) = states([BudgetRule("fabric", "total", 10**15)], ledger, latest, reserve)
    assert total.accrued == ledger.statement(latest).total


@settings(deadline=None)
@given(journals(), st.lists(rules, max_size=4), moments, reserves)
def test_rooms_are_never_negative_and_never_more_than_the_limit(
    entries: list[Entry], budget: list[BudgetRule], now_ms: int, reserve: Reserve
) -> None:
    ledger = fold(entries)
    found = {room.scope: room for room in rooms(budget, ledger, now_ms, reserve)}
    assert set(found) == {rule.scope for rule in budget}
    for state in states(budget, ledger, now_ms, reserve):
        assert 0 <= state.accrued <= state.committed
        assert 0 <= found[state.rule.scope].left <= state.left <= state.rule.limit
        assert state.committed + state.left <= max(state.rule.limit, state.committed)
        if BudgetAction.DRAIN in state.actions:
            assert found[state.rule.scope].drain
            assert found[state.rule.scope].no_new_launches


@settings(deadline=None)
@given(st.lists(tariffs, min_size=1, max_size=8), st.integers(0, 40 * USD), st.floats(0, 3600), moments)
def test_launching_only_what_fits_never_commits_more_than_the_limit(
    wanted: list[Tariff], limit: int, hold_s: float, now_ms: int
) -> None:
    reserve = Reserve(hold_s=hold_s, boot_s=120, drain_s=0, ending_s=0)
    rule = BudgetRule("fabric", "total", limit)
    ledger = Ledger()
    for number, tariff in enumerate(wanted):
        (room,) = rooms([rule], ledger, now_ms, reserve)
        if tariff.cost(round((120 + hold_s) * 1000)) <= room.left:
            intent = {
                "token": f"t{number}",
                "site": "sky",
                "market": "spot",
                "per_hour": tariff.per_hour,
                "minimum_seconds": tariff.minimum_seconds,
            }
            ledger = fold([Entry(0, now_ms / 1000, "c", Event.LAUNCH_INTENDED, intent, "", "")], ledger)
    (state,) = states([rule], ledger, now_ms, reserve)
    assert state.committed <= limit


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(tariffs, st.integers(0, 7200)), min_size=1, max_size=4), moments, st.floats(0, 600))
def test_what_is_given_back_at_the_limit_and_works_on_until_rays_deadline_stays_inside_it(
    running: list[tuple[Tariff, int]], spent_ms: int, hold_s: float
) -> None:
    """The machines run beyond their hold; ``spent_ms`` is when the limit would be reached if they ran on."""
    joined = [
        (f"t{number}", tariff, spent_ms - (3600 + age_s) * 1000) for number, (tariff, age_s) in enumerate(running)
    ]
    entries: list[Entry] = []
    for token, tariff, begin in joined:
        told = {"token": token, "site": "sky", "instance": token, "launched_at_ms": begin, "market": "spot"}
        price = {"per_hour": tariff.per_hour, "minimum_seconds": min(600, tariff.minimum_seconds)}
        entries += [
            Entry(0, begin / 1000, "c", kind, {**told, **price}, "", "")
            for kind in (Event.LAUNCH_INTENDED, Event.LAUNCH_ACCEPTED, Event.NODE_JOINED)
        ]
    ledger, reserve = fold(entries), Reserve(hold_s=hold_s)
    budget = BudgetRule("fabric", "total", ledger.statement(spent_ms).total + 1, ((100.0, BudgetAction.DRAIN),))
    ticks = range(spent_ms - 900_000, spent_ms + 1, TICK_MS)
    told_ms = next((at for at in ticks if rooms([budget], ledger, at, reserve)[0].drain), spent_ms)
    assert told_ms > ticks[0]
    gone_ms = told_ms + round((DRAIN_DEADLINE_S + ENDING_S) * 1000) - TICK_MS
    ends = [
        Entry(0, gone_ms / 1000, "c", kind, {"token": token, "launched_at_ms": begin, "ended_at_ms": gone_ms}, "", "")
        for token, _, begin in joined
        for kind in (Event.TERMINATE_INTENDED, Event.INSTANCE_ENDED)
    ]
    assert fold(ends, ledger).statement(gone_ms).total <= budget.limit


@settings(deadline=None)
@given(moments, st.sampled_from(["hour", "day", "month"]))
def test_windows_follow_the_utc_calendar_and_tile_time(at_ms: int, per: Per) -> None:
    begin, end = window(per, at_ms)
    assert begin <= at_ms < end
    assert window(per, begin) == window(per, end - 1) == (begin, end)
    assert window(per, end)[0] == end
    opened = datetime.fromtimestamp(begin / 1000, UTC)
    assert (opened.minute, opened.second) == (0, 0)
    assert per == "hour" or opened.hour == 0
    assert per != "month" or opened.day == 1


@settings(deadline=None)
@given(st.integers(0, 10**15))
def test_dollars_and_micro_dollars_convert_without_loss(amount: int) -> None:
    assert usd(format_usd(amount, places=6).replace("$", "").replace(",", "")) == amount


def test_every_cause_is_in_every_statement() -> None:
    assert set(Ledger().statement(0).by_cause()) == set(Cause)
