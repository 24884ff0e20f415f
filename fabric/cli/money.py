"""The ledger as a table and as JSON."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from fabric.model.money import MicroUSD, format_usd

if TYPE_CHECKING:
    from rich.table import Table

    from fabric.money.ledger import Statement


def ledger_table(statement: Statement) -> Table:
    """Per offer: how many instances, for how long, and what they cost; the split of the money in the caption."""
    from rich.table import Table

    table = Table(title="Ledger", title_justify="left", caption=_split(statement), caption_justify="left")
    for column in ("offer", "instances", "hours", "cost"):
        table.add_column(column, justify="left" if column == "offer" else "right")
    count: dict[str, int] = defaultdict(int)
    lived_ms: dict[str, int] = defaultdict(int)
    cost: dict[str, MicroUSD] = defaultdict(int)
    for line in statement.lines:
        count[line.offer] += 1
        lived_ms[line.offer] += (line.ended_at_ms or statement.at_ms) - line.launched_at_ms
        cost[line.offer] += line.accrued
    for offer in sorted(count):
        table.add_row(offer, str(count[offer]), f"{lived_ms[offer] / 3_600_000:.3f}", dollars(cost[offer]))
    table.add_section()
    table.add_row("total", str(len(statement.lines)), "", dollars(statement.total), style="bold")
    return table


def ledger_json(statement: Statement) -> dict[str, Any]:
    """The same, with every line; amounts in micro-USD, times in Unix milliseconds."""
    return {
        "total_micro_usd": statement.total,
        "work_micro_usd": statement.work,
        "idle_micro_usd": statement.idle,
        "waste_micro_usd": statement.waste,
        "per_hour_micro_usd": statement.per_hour,
        "lines": [
            {
                "token": line.token,
                "instance": line.instance,
                "site": line.site,
                "offer": line.offer,
                "launched_at_ms": line.launched_at_ms,
                "ended_at_ms": line.ended_at_ms,
                "cost_micro_usd": line.accrued,
                "cause": line.cause.value,
            }
            for line in statement.lines
        ],
    }


def dollars(amount: MicroUSD) -> str:
    """An amount to the micro-dollar, as a bill shows it."""
    return format_usd(amount, places=6)


def _split(statement: Statement) -> str:
    return f"work {dollars(statement.work)} · idle {dollars(statement.idle)} · waste {dollars(statement.waste)}"
