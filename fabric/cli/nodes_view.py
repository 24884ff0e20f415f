"""Tables of nodes: those that exist or have been asked for, and launches that ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from fabric.cli.receipts import at
from fabric.cli.screen import plain, span, table
from fabric.model.money import format_usd

Row = Mapping[str, Any]

_STYLES = {
    "running": "green",
    "draining": "yellow",
    "ending": "yellow",
    "lost": "red",
    "dead": "bold red",
}


def nodes_table(nodes: Iterable[Row], now: float) -> Table:
    """Nodes that exist or have been asked for, your own first.

    Args:
        nodes: as the controller tells them, with ``cost_micro_usd``.
        now: Unix seconds.
    """
    rows = sorted(nodes, key=lambda node: (node["market"] != "owned", not node["is_head"], node["id"]))
    found = table("node", "node type", "state", ">for", ">GPUs used", "offer", ">price", ">cost so far", "Ray")
    for node in rows:
        owned = node["market"] == "owned"
        cost = node["cost_micro_usd"]
        found.add_row(
            plain(node["instance"]),
            plain(node["node_type"]),
            _phase(node),
            span(now - node["since"]) if node["since"] else "",
            _used(node["gpus"], node["gpus_free"], node["phase"]),
            "yours" if owned else plain(node["offer"] or node["market"]),
            "" if owned else f"{format_usd(node['per_hour_micro_usd'])}/h",
            format_usd(cost, 4) if cost else "",
            node["ray_node_id"][:8],
        )
    if not rows:
        found.add_row(Text("none", style="dim"))
    return found


def ended_table(ended: Iterable[Row]) -> Table:
    """Launches that had a machine and ended, the newest last, and what the money was for."""
    found = table("node", "offer", "started", "ended", ">lived", ">cost", "spent on")
    for launch in ended:
        found.add_row(
            plain(launch["token"]),
            plain(launch["offer"] or launch["market"]),
            at(launch["launched_at"]),
            at(launch["ended_at"]) + (", when it was noticed" if launch["estimated"] else ""),
            span(launch["ended_at"] - launch["launched_at"]),
            format_usd(launch["cost_micro_usd"], 4) if launch["priced"] else "its price is not known",
            launch["cause"].replace("_", " "),
        )
    if not found.row_count:
        found.add_row(Text("none", style="dim"))
    return found


def _phase(node: Row) -> Text:
    idle = f", idle {span(node['idle_s'])}" if node["phase"] == "running" and (node["idle_s"] or 0) >= 1 else ""
    return Text(node["phase"] + idle, style=_STYLES.get(node["phase"], "cyan"))


def _used(total: float | None, free: float | None, phase: str) -> str:
    if total is None or free is None or phase not in ("running", "draining"):
        return ""
    return f"{total - free:g} of {total:g}" if total else ""
