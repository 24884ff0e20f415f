"""What the ledger says about one launch after another: worked examples."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest

from fabric.journal.base import Entry
from fabric.model.events import Event
from fabric.model.money import USD
from fabric.money import budgets, ledger
from fabric.money.ledger import Cause, Line, fold

HOUR_MS = 3_600_000
T0 = 1_700_000_000_000


def entry(kind: Event, at_s: float, **data: object) -> Entry:
    """An entry ``at_s`` seconds into the story of launch ``t``."""
    return Entry(0, T0 / 1000 + at_s, "controller", kind, {"token": "t", **data}, "", "")


def intended(**more: object) -> Entry:
    """3.60 USD an hour, so a second is 1,000 micro-USD; a minute at least."""
    data = {"site": "sky", "node_type": "sky.big", "offer": "sky.big/a/spot", "market": "spot"}
    return entry(Event.LAUNCH_INTENDED, 0, per_hour=3_600_000, minimum_seconds=60, **{**data, **more})


def accepted() -> Entry:
    return entry(Event.LAUNCH_ACCEPTED, 2, instance="i-1", site="sky", launched_at_ms=T0 + 1000)


def ended(at_s: float, **more: object) -> Entry:
    times = {"launched_at_ms": T0 + 1000, "ended_at_ms": T0 + 1000 + round(at_s * 1000)}
    return entry(Event.INSTANCE_ENDED, at_s + 30, instance="i-1", site="sky", **{**times, **more})


def line(*entries: Entry, now_s: float = 10_000) -> Line:
    (found,) = fold(entries).statement(T0 + round(now_s * 1000)).lines
    return found


@pytest.mark.parametrize("module", [ledger, budgets], ids=lambda module: module.__name__)
def test_the_examples_in_the_docstrings_are_true(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_an_intent_alone_is_no_line_and_neither_is_a_refused_or_cancelled_one() -> None:
    for entries in (
        [intended()],
        [intended(), entry(Event.LAUNCH_REFUSED, 1, error="capacity")],
        [intended(), entry(Event.LAUNCH_CANCELLED, 90, cause="never_appeared")],
    ):
        statement = fold(entries).statement(T0 + HOUR_MS)
        assert (statement.lines, statement.total) == ((), 0)


def test_a_machine_that_runs_accrues_from_the_providers_own_time() -> None:
    found = line(intended(), accepted(), entry(Event.NODE_JOINED, 40), now_s=1801)
    assert (found.launched_at_ms, found.ended_at_ms) == (T0 + 1000, None)
    assert (found.accrued, found.cause) == (1_800_000, Cause.WORK)
    assert (found.site, found.node_type, found.offer, found.market) == ("sky", "sky.big", "sky.big/a/spot", "spot")
    assert fold([intended(), accepted()]).statement(T0).per_hour == 3_600_000


def test_a_machine_counts_its_minimum_from_its_first_moment_even_if_our_clock_is_behind() -> None:
    assert line(intended(), accepted(), now_s=-500).accrued == 60_000


def test_without_the_providers_time_the_intents_time_is_used() -> None:
    told_nothing = entry(Event.LAUNCH_ACCEPTED, 2, instance="i-1", launched_at_ms=0)
    assert line(intended(), told_nothing, now_s=100).launched_at_ms == T0


def test_an_ended_machine_costs_what_the_bill_says_whatever_the_time_is() -> None:
    story = [intended(), accepted(), entry(Event.NODE_JOINED, 40), ended(600.001)]
    for now_s in (0, 700, 10**6):
        found = line(*story, now_s=now_s)
        assert (found.accrued, found.estimated) == (601_000, False)


def test_a_launch_whose_reply_was_lost_is_counted_by_its_adoption_or_its_end() -> None:
    adopted = entry(Event.INSTANCE_ADOPTED, 60, instance="i-1", site="sky", launched_at_ms=T0 + 1000)
    assert line(intended(), adopted, now_s=101).accrued == 100_000
    assert line(intended(), ended(100)).accrued == 100_000
    refused_but_there = [intended(), entry(Event.LAUNCH_REFUSED, 9, error="provider_bug"), ended(100)]
    assert line(*refused_but_there).accrued == 100_000


def test_an_estimated_end_is_marked_and_gives_way_to_the_providers_word() -> None:
    guessed = ended(900, estimated=True)
    found = line(intended(), accepted(), guessed)
    assert (found.accrued, found.estimated) == (900_000, True)
    for story in ([guessed, ended(600)], [ended(600), guessed]):
        found = line(intended(), accepted(), *story)
        assert (found.accrued, found.estimated) == (600_000, False)


def test_idle_time_is_split_off_the_work_before_it() -> None:
    joined = entry(Event.NODE_JOINED, 40)
    # At second 501 nothing had run for 120 s; charging went on to second 601.
    drained = entry(Event.TERMINATE_INTENDED, 501, cause="idle", idle_s=120.0)
    found = line(intended(), accepted(), joined, drained, ended(600))
    assert found.parts == {Cause.WORK: 380_000, Cause.IDLE: 220_000}
    assert found.cause is Cause.WORK
    unsaid = entry(Event.TERMINATE_INTENDED, 501, cause="idle")
    assert line(intended(), accepted(), joined, unsaid, ended(600)).parts[Cause.IDLE] == 100_000
    busy = entry(Event.TERMINATE_INTENDED, 501, cause="over_budget", idle_s=0.0)
    assert line(intended(), accepted(), joined, busy, ended(600)).parts == {Cause.WORK: 600_000}


def test_a_machine_that_was_idle_since_it_joined_has_work_only_for_its_boot() -> None:
    drained = entry(Event.TERMINATE_INTENDED, 501, cause="idle", idle_s=9999.0)
    found = line(intended(), accepted(), entry(Event.NODE_JOINED, 101), drained, ended(600))
    assert found.parts == {Cause.WORK: 100_000, Cause.IDLE: 500_000}


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        ("join_deadline", Cause.FAILED_JOIN),
        ("no_answer", Cause.FAILED_JOIN),
        ("cancel", Cause.CANCELLED_BOOT),
        ("over_budget", Cause.CANCELLED_BOOT),
    ],
)
def test_a_machine_that_never_joined_is_waste_by_the_cause_of_its_end(cause: str, expected: Cause) -> None:
    found = line(intended(), accepted(), entry(Event.TERMINATE_INTENDED, 300, cause=cause), ended(310))
    assert (found.parts, found.cause) == ({expected: 310_000}, expected)


def test_a_machine_that_ended_by_itself_before_joining_is_a_failed_join() -> None:
    assert line(intended(), accepted(), ended(310)).cause is Cause.FAILED_JOIN
    assert line(intended(), accepted(), now_s=300).cause is Cause.WORK  # still booting


def test_a_lost_node_is_waste_from_the_moment_ray_lost_it_unless_it_came_back() -> None:
    story = [intended(), accepted(), entry(Event.NODE_JOINED, 40), entry(Event.NODE_LOST, 301)]
    found = line(*story, ended(600))
    assert (found.parts, found.cause) == ({Cause.WORK: 300_000, Cause.LOST: 300_000}, Cause.LOST)
    found = line(*story, entry(Event.NODE_JOINED, 310), ended(600))
    assert (found.parts, found.cause) == ({Cause.WORK: 600_000}, Cause.WORK)


def test_an_orphan_is_a_line_and_without_its_intent_its_price_is_unknown() -> None:
    orphan = entry(Event.ORPHAN_FOUND, 300, instance="i-1", site="sky", cause="unknown_instance")
    found = line(intended(), accepted(), orphan, ended(310))
    assert (found.parts, found.priced) == ({Cause.ORPHAN: 310_000}, True)
    found = line(orphan, ended(310))
    assert (found.accrued, found.priced, found.cause, found.site) == (0, False, Cause.ORPHAN, "sky")


def test_machines_one_owns_are_no_lines() -> None:
    home = entry(Event.NODE_JOINED, 5, token="onprem/home/box", site="home")
    assert fold([home]).statement(T0 + HOUR_MS).lines == ()
    assert fold([intended(market="owned"), accepted()]).statement(T0 + HOUR_MS).lines == ()


def test_totals_by_site_offer_and_cause_add_up() -> None:
    other = [
        entry(Event.LAUNCH_INTENDED, 0, token="u", site="sea", offer="sea.x//on-demand", per_hour=USD, market="spot"),
        entry(Event.LAUNCH_ACCEPTED, 0, token="u", instance="i-2", launched_at_ms=T0),
    ]
    statement = fold([intended(), accepted(), *other]).statement(T0 + HOUR_MS)
    assert statement.by_site() == {"sea": USD, "sky": 3_599_000}
    assert statement.by_offer() == {"sea.x//on-demand": USD, "sky.big/a/spot": 3_599_000}
    assert statement.by_cause()[Cause.WORK] == statement.total == 4_599_000
    assert [found.token for found in statement.lines] == ["u", "t"]


def test_entries_that_do_not_speak_of_money_leave_the_ledger_as_it_is() -> None:
    before = fold([intended(), accepted()])
    renewed = entry(Event.LEASE_RENEWED, 9, until=1.0)
    decided = Entry(0, 1.0, "controller", Event.DECISION, {}, "", "")
    assert fold([renewed, decided], before) is before
