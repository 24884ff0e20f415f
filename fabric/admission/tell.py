"""Why a job starts, waits, gives way or cannot run, each as plain sentences. Nothing else says it in words.

Total: facts that are missing are left out, not guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from fabric.admission.values import (
    NEVER,
    Admission,
    AdmitReason,
    Away,
    Doomed,
    DoomReason,
    Preemption,
    Waiting,
    WaitReason,
)
from fabric.model.decisions import Fact
from fabric.model.money import format_usd

Facts = Mapping[str, Fact]


def admission_sentence(admission: Admission) -> str:
    """Why a job starts, and where and for how much."""
    return f"{_ADMITTED[admission.reason](admission.facts)}{_where(admission)}"


def waiting_sentence(waiting: Waiting, now: float) -> str:
    """Place in the line, what it waits for, when it would start at home, when it may burst and for how much.

    Args:
        waiting: who waits, and why.
        now: Unix seconds.
    """
    parts = [_WAITING[waiting.reason](waiting.facts)]
    if waiting.position is not None:
        parts.insert(0, f"Position {waiting.position} of {waiting.of}.")
        parts.append(_at_home(waiting, now))
    if waiting.away is not None:
        parts.append(_away(waiting.away))
    if waiting.late:
        parts.append("Its deadline can no longer be met; it stays in the queue until you stop it.")
    elif waiting.reason in NEVER:
        parts.append("It stays in the queue until you stop it or the configuration changes.")
    return " ".join(part for part in parts if part)


def preemption_sentence(preemption: Preemption) -> str:
    """Why a running attempt is stopped."""
    lost = preemption.facts.get("lost_s")
    ran = f" after {_duration(lost)}" if isinstance(lost, (int, float)) else ""
    return f"Stopped{ran} to give way to {preemption.for_job}, which has a higher priority; it is started again."


def doomed_sentence(doomed: Doomed) -> str:
    """Why a waiting job is failed."""
    return _DOOMED[doomed.reason](doomed.facts)


def wait_text(reason: WaitReason, facts: Facts) -> str:
    """Only what a job waits for."""
    return _WAITING[reason](facts)


def _where(admission: Admission) -> str:
    if admission.reason is AdmitReason.PLAIN_RAY:
        return ""
    cost = admission.facts.get("cost_micro_usd")
    price = f", for about {format_usd(cost)}" if isinstance(cost, int) and cost else ""
    hourly = f" at {format_usd(admission.price_per_hour)} an hour" if admission.price_per_hour else ""
    egress = f", {format_usd(admission.egress)} of it to fetch its data" if admission.egress else ""
    return f" It is placed in {', '.join(admission.sites)}{hourly}{price}{egress}."


def _first_in_line(facts: Facts) -> str:
    del facts
    return "It was first in line and there is room for all of it."


def _backfill(facts: Facts) -> str:
    return f"There is room for it that {facts.get('head', 'the head of the line')} cannot use before it is done."


def _plain_ray(facts: Facts) -> str:
    del facts
    return "It declared no resources, so it starts at once and takes what Ray gives it."


def _no_room(facts: Facts) -> str:
    return f"It is next and waits for {_wanted(facts)} to come free."


def _behind_others(facts: Facts) -> str:
    return f"Jobs before it come first, and {_wanted(facts)} is not free beside them."


def _would_delay_head(facts: Facts) -> str:
    head = facts.get("head", "the first of the line")
    return (
        f"There is room for it now, but it would still run when {head} could start. "
        "A job that declares a short fabric.runtime can go first."
    )


def _giving_way(facts: Facts) -> str:
    return f"Work of lower priority is giving way to it ({_listed(facts.get('jobs', 'being stopped'))})."


def _team_gpus(facts: Facts) -> str:
    return f"Its team holds {_of_quota(facts, 'held', 'GPU')}, and it needs {_count(facts.get('gpus'), 'GPU')}."


def _team_running(facts: Facts) -> str:
    return f"Its team runs {_of_quota(facts, 'running', 'job')}."


def _undeclared_cap(facts: Facts) -> str:
    return (
        f"Its team runs {_of_quota(facts, 'running', 'job')} without declared resources. "
        "Declare what it needs (fabric.gpus, fabric.cpus) to be queued for room instead."
    )


def _team_budget(facts: Facts) -> str:
    left, cost = _money(facts, "left_micro_usd"), _money(facts, "cost_micro_usd")
    per = f" for this {facts['per']}" if facts.get("per") in ("hour", "day", "month") else ""
    return f"It would cost about {cost}, and its team's budget{per} has {left} left."


def _max_cost(facts: Facts) -> str:
    return (
        f"It would cost about {_money(facts, 'cost_micro_usd')}, "
        f"more than its fabric.max_cost of {_money(facts, 'max_cost_micro_usd')}."
    )


def _back_off(facts: Facts) -> str:
    until, attempts = facts.get("until"), facts.get("attempts")
    again = f" at {_clock(until)}" if isinstance(until, (int, float)) else " after a pause"
    return f"Its machine was lost; it is tried again{again} ({_count(attempts, 'attempt')} so far)."


def _dependency(facts: Facts) -> str:
    return f"It waits for {_listed(facts.get('waiting_for', 'another job'))} to succeed."


def _no_site(facts: Facts) -> str:
    return f"Data of class {facts.get('data_class', 'its kind')} may run at no site of the configuration."


def _never_fits(facts: Facts) -> str:
    sites = f" ({_listed(facts['sites'])})" if facts.get("sites") else ""
    return f"It needs {_wanted(facts)}, and no site where its data may go{sites} could hold that, even empty."


def _over_quota(facts: Facts) -> str:
    return f"It needs {_count(facts.get('gpus'), 'GPU')}, and its team may hold {facts.get('quota', 'fewer')}."


def _stop_asked(facts: Facts) -> str:
    by = f" by {facts['by']}" if facts.get("by") else ""
    return f"It was asked to stop{by}."


def _ending(facts: Facts) -> str:
    del facts
    return "Its last attempt is over; the result is being written."


def _dependency_failed(facts: Facts) -> str:
    return f"It was to run after {_dep(facts)}, which ended as {facts.get('phase', 'failed')}, so it cannot run."


def _dependency_unknown(facts: Facts) -> str:
    return f"It was to run after {_dep(facts)}, and there is no such job. Submit that one first."


def _dependency_deleted(facts: Facts) -> str:
    return f"It was to run after {_dep(facts)}, which was deleted, so it cannot run."


def _dependency_cycle(facts: Facts) -> str:
    return f"It was to run after {_dep(facts)}, which waits for it in turn, so neither could ever run."


def _at_home(waiting: Waiting, now: float) -> str:
    if waiting.start_at is None:
        return ""
    in_s = waiting.start_at - now
    if in_s < 1:
        return "It is expected to start at home any moment."
    return f"It is expected to start at home in {_duration(in_s)}, at {_clock(waiting.start_at)}."


def _away(away: Away) -> str:
    when = f" once the queue has been {', or '.join(away.when)}" if away.when else ""
    whole = "" if away.cost is None else f", {format_usd(away.cost)} for the whole run"
    egress = f" with {format_usd(away.egress)} to fetch its data" if away.egress else ""
    return (
        f"It may burst to {away.site}{when}: {away.nodes} x {away.node_type} "
        f"at about {format_usd(away.per_hour)} an hour{whole}{egress}, {_duration(away.boot_s)} to boot."
    )


def _wanted(facts: Facts) -> str:
    return str(facts.get("resources", "what it needs"))


def _dep(facts: Facts) -> str:
    return str(facts.get("dependency", "another job"))


def _of_quota(facts: Facts, name: str, unit: str) -> str:
    has, quota = facts.get(name), facts.get("quota")
    if not isinstance(has, (int, float)) or not isinstance(quota, (int, float)):
        return f"as many {unit}s as it may"
    return f"{has:g} of the {_count(quota, unit)} that it may"


def _count(value: Fact, one: str) -> str:
    if not isinstance(value, (int, float)):
        return f"more {one}s"
    return f"{value:g} {one if value == 1 else one + 's'}"


def _money(facts: Facts, name: str) -> str:
    amount = facts.get(name)
    return format_usd(amount) if isinstance(amount, int) else "more"


def _listed(value: Fact) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{max(0, round(seconds))} s"
    if seconds < 2 * 3600:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.3g} h" if seconds < 2 * 86400 else f"{seconds / 86400:.3g} days"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


_ADMITTED: Mapping[AdmitReason, Callable[[Facts], str]] = {
    AdmitReason.FIRST_IN_LINE: _first_in_line,
    AdmitReason.BACKFILL: _backfill,
    AdmitReason.PLAIN_RAY: _plain_ray,
}

_WAITING: Mapping[WaitReason, Callable[[Facts], str]] = {
    WaitReason.NO_ROOM: _no_room,
    WaitReason.BEHIND_OTHERS: _behind_others,
    WaitReason.WOULD_DELAY_HEAD: _would_delay_head,
    WaitReason.GIVING_WAY: _giving_way,
    WaitReason.TEAM_GPUS: _team_gpus,
    WaitReason.TEAM_RUNNING: _team_running,
    WaitReason.UNDECLARED_CAP: _undeclared_cap,
    WaitReason.TEAM_BUDGET: _team_budget,
    WaitReason.MAX_COST: _max_cost,
    WaitReason.BACK_OFF: _back_off,
    WaitReason.DEPENDENCY: _dependency,
    WaitReason.NO_SITE: _no_site,
    WaitReason.NEVER_FITS: _never_fits,
    WaitReason.OVER_QUOTA: _over_quota,
    WaitReason.STOP_ASKED: _stop_asked,
    WaitReason.ENDING: _ending,
}

_DOOMED: Mapping[DoomReason, Callable[[Facts], str]] = {
    DoomReason.DEPENDENCY_FAILED: _dependency_failed,
    DoomReason.DEPENDENCY_UNKNOWN: _dependency_unknown,
    DoomReason.DEPENDENCY_DELETED: _dependency_deleted,
    DoomReason.DEPENDENCY_CYCLE: _dependency_cycle,
}
