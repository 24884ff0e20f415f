"""The status as a screen: tables of sites, node types and nodes, the queue against the baseline, and money."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fabric.model.money import format_usd

Status = Mapping[str, Any]
Row = Mapping[str, Any]

_STYLES = {
    "running": "green",
    "draining": "yellow",
    "ending": "yellow",
    "lost": "red",
    "dead": "bold red",
}
_PER = {period: f"per {period}" for period in ("hour", "day", "month")}
_GAP = Text("")


def status_view(status: Status) -> RenderableType:
    """Everything that ``fabric status`` shows; ``status`` has the keys of its ``--json``."""
    now = float(status["at"])
    parts: list[RenderableType] = [
        *_head(status, now),
        *_dead(status["nodes"], now),
        _GAP,
        _sites(status, now),
        _GAP,
        _node_types(status["node_types"]),
        _GAP,
        nodes_table(status["nodes"], now),
        _GAP,
        *_gpus(status),
        *_queue(status, now),
        _GAP,
        *_money(status),
        _GAP,
        *_decision(status["last_decision"], now),
    ]
    return Group(*parts, *_processes(status["processes"]))


def nodes_table(nodes: Iterable[Row], now: float) -> Table:
    """Nodes that exist or have been asked for, your own first.

    Args:
        nodes: as the controller tells them; ``cost_micro_usd`` adds a column.
        now: Unix seconds.
    """
    rows = sorted(nodes, key=lambda node: (node["market"] != "owned", not node["is_head"], node["id"]))
    costs = any("cost_micro_usd" in node for node in rows)
    table = _table(
        "node", "node type", "state", ">for", ">GPUs used", "bought as", *([">cost"] if costs else []), "Ray"
    )
    for node in rows:
        cells = [
            _plain(node["instance"]),
            _plain(node["node_type"]),
            _phase(node),
            span(now - node["since"]) if node["since"] else "",
            _used(node["gpus"], node["gpus_free"], node["phase"]),
            "yours" if node["market"] == "owned" else f"{format_usd(node['per_hour_micro_usd'])}/h {node['market']}",
        ]
        if costs:
            cost = node.get("cost_micro_usd", 0)
            cells.append(format_usd(cost, 4) if cost else "")
        table.add_row(*cells, node["ray_node_id"][:8])
    if not rows:
        table.add_row(Text("none", style="dim"))
    return table


def span(seconds: float) -> str:
    """A length of time for people: ``7 s``, ``12 min``, ``3 h 5 min``, ``2 d 4 h``."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if minutes < 60:
        return f"{minutes} min"
    if hours < 24:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def _head(status: Status, now: float) -> list[RenderableType]:
    address, config = status["controller"]["address"], status["config"]
    lines: list[RenderableType] = []
    if not status["controller"]["answers"]:
        journal = status["journal"]
        until = f"up to entry {journal['seq']}, {span(now - journal['at'])} ago" if journal["seq"] else "which is empty"
        lines.append(
            _line(
                status["fabric"],
                Text.assemble(
                    (f"the controller does not answer on {address}. ", "bold red"),
                    f"What follows is what the journal knows, {until}. Start the fabric with: fabric up",
                ),
            )
        )
    elif status["ok"]:
        lines.append(_line(status["fabric"], Text(f"runs; last tick {span(now - status['last_tick'])} ago")))
    else:
        since = f", the last good one {span(now - status['last_tick'])} ago" if status["last_tick"] else ""
        error = _plain(status["tick_error"]) or "it has not finished its first tick"
        lines.append(_line(status["fabric"], Text(f"the controller runs but does not decide{since}: {error}", "red")))
    if status["stopping"]:
        lines.append(_line("", Text("the fabric is stopping: everything is given back", "yellow")))
    ray = status["ray"]
    if ray["error"]:
        lines.append(_line("Ray", Text(f"{ray['address']}: {_plain(ray['error'])}", "red")))
    lines.append(_line("Configuration", Text(f"{_plain(config['path'])}  {config['digest'][:12]}")))
    if config["problems"]:
        lines.append(_line("", Text("the edited file is not taken; the last good one stays in force:", "red")))
        lines += [_line("", Text(_plain(problem), "red")) for problem in config["problems"]]
    return lines


def _dead(nodes: Sequence[Row], now: float) -> list[RenderableType]:
    return [
        _line(
            "Dead",
            Text(
                f"{_plain(node['instance'])} has not been in the cluster for {span(now - (node['since'] or now))}; "
                "nothing is bought because of that alone",
                "bold red",
            ),
        )
        for node in nodes
        if node["phase"] == "dead"
    ]


def _sites(status: Status, now: float) -> RenderableType:
    spent = status["money"]["by_site"] if status["money"] else {}
    table = _table("site", "kind", ">nodes", ">offers", ">now", ">spent", "state")
    for site in status["sites"]:
        money = spent.get(site["name"], {"per_hour_micro_usd": 0, "spent_micro_usd": 0})
        rents = site["kind"] != "onprem"
        troubles = [text for text in (site["error"], *site["stopped"]) if text]
        listed = site["listed_at"]
        table.add_row(
            site["name"],
            site["kind"],
            str(sum(node["site"] == site["name"] and node["phase"] != "dead" for node in status["nodes"])),
            str(site["offers"]) if rents and site["offers"] is not None else "",
            f"{format_usd(money['per_hour_micro_usd'])}/h" if rents else "",
            format_usd(money["spent_micro_usd"], 4) if rents else "",
            Text(_plain("; ".join(troubles)), "red")
            if troubles
            else (f"listed {span(now - listed)} ago" if listed else ""),
        )
    return table


def _node_types(kinds: Iterable[Row]) -> RenderableType:
    table = _table("node type", ">GPUs each", ">plan", ">requested", ">observed", ">ending", ">at most")
    for kind in kinds:
        short = kind["observed"] < kind["plan"] - kind["requested"]
        table.add_row(
            kind["name"],
            f"{kind['gpus']:g}",
            str(kind["plan"]),
            _count(kind["requested"], "cyan"),
            Text(str(kind["observed"]), "red" if short else ""),
            _count(kind["ending"], "yellow"),
            str(kind["maximum"]),
        )
    return table


def _gpus(status: Status) -> list[RenderableType]:
    gpus = status["gpus"]
    if gpus is None:
        return []
    told = [
        f"{where} {gpus[key]['used']:g} of {gpus[key]['total']:g} in use"
        for key, where in (("home", "at home"), ("burst", "rented"))
    ]
    return [_line("GPUs", Text(", ".join(told)))]


def _queue(status: Status, now: float) -> list[RenderableType]:
    queue, baseline = status["queue"], status["baseline"]
    if queue is None or baseline is None:
        return [_line("Queue", Text("only the controller knows", "dim"))]
    waits = f"{queue['gpus']:g} GPUs and {queue['cpus']:g} CPUs in {queue['requests']} requests"
    beyond = "wait beyond what is free or coming at home" if queue["requests"] else "wait"
    lines: list[RenderableType] = [_line("Queue", Text(f"{waits} {beyond}"))]
    if baseline["open"]:
        which = baseline["open_threshold"]
        by = f", by threshold {which + 1}" if which is not None else ""
        burst = Text(f"open for {span(now - baseline['open_since'])}{by}", "bold yellow")
    else:
        burst = Text("closed")
    lines.append(_line("Burst", burst))
    table = _table("baseline", ">queue now", "")
    for threshold in baseline["thresholds"]:
        above = threshold["above_since"]
        now_at = " and ".join(f"{queue[unit]:g} {name}" for unit, name in _UNITS if threshold[unit])
        table.add_row(
            threshold_in_words(threshold),
            now_at,
            Text("below", "dim") if above is None else Text(f"reached for {span(now - above)}", "yellow"),
        )
    return [*lines, Padding(table, (0, 0, 0, 15))]


_UNITS = (("gpus", "GPUs"), ("cpus", "CPUs"))


def threshold_in_words(threshold: Row) -> str:
    """One threshold of the baseline: ``3 GPUs for 2 s``, ``12 GPUs at once``."""
    wants = " and ".join(f"{threshold[unit]:g} {name}" for unit, name in _UNITS if threshold[unit])
    return f"{wants} for {span(threshold['for_s'])}" if threshold["for_s"] else f"{wants} at once"


def _money(status: Status) -> list[RenderableType]:
    money, budgets = status["money"], status["budgets"] or ()
    if money is None:
        return [_line("Money", Text("there is no journal to count it from", "red"))]
    parts = [f"{name} {format_usd(money[f'{name}_micro_usd'], 4)}" for name in ("work", "idle", "waste")]
    lines: list[RenderableType] = [
        _line(
            "Money",
            Text(
                f"{format_usd(money['per_hour_micro_usd'])} per hour now; "
                f"{format_usd(money['spent_micro_usd'], 4)} spent so far ({', '.join(parts)})"
            ),
        )
    ]
    for budget in budgets:
        used, limit = budget["accrued_micro_usd"] + budget["committed_micro_usd"], budget["limit_micro_usd"]
        window = f"{budget['scope']} {_PER.get(budget['per'], 'in all')}"
        told = (
            f"{window}: {format_usd(used)} of {format_usd(limit)} spent or promised, "
            f"{format_usd(budget['left_micro_usd'])} left"
        )
        acts = f" ({', '.join(budget['actions'])})" if budget["actions"] else ""
        lines.append(_line("Budget", Text(told + acts, "yellow" if acts else "")))
    return lines


def _decision(decision: Row, now: float) -> list[RenderableType]:
    if not decision["seq"]:
        return [_line("Last decision", Text("none yet", "dim"))]
    title = Text(f"{span(now - decision['at'])} ago, entry {decision['seq']} of the journal", "dim")
    return [
        _line("Last decision", title),
        *(_line("", Text(_plain(sentence))) for sentence in decision["sentences"]),
    ]


def _processes(processes: Sequence[Row]) -> list[RenderableType]:
    if not processes:
        return []
    up = [process["name"] for process in processes if process["state"] == "RUNNING"]
    lines: list[RenderableType] = [_GAP, _line("Processes", Text(f"{', '.join(up) or 'none'} running"))]
    lines += [
        _line("", Text(f"{process['name']} {process['state'].lower()}: {_plain(process['detail'])}", "red"))
        for process in processes
        if process["state"] != "RUNNING"
    ]
    return lines


def _phase(node: Row) -> Text:
    idle = f", idle {span(node['idle_s'])}" if node["phase"] == "running" and (node["idle_s"] or 0) >= 1 else ""
    return Text(node["phase"] + idle, style=_STYLES.get(node["phase"], "cyan"))


def _used(total: float | None, free: float | None, phase: str) -> str:
    if total is None or free is None or phase not in ("running", "draining"):
        return ""
    return f"{total - free:g} of {total:g}" if total else ""


def _count(number: int, style: str) -> Text:
    return Text(str(number), style=style if number else "dim")


def _table(*columns: str) -> Table:
    """A table without lines; a column whose name begins with ``>`` is set to the right."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.removeprefix(">"), justify="right" if right else "left")
    return table


def _line(title: str, text: Text) -> RenderableType:
    """A titled line; what does not fit goes on under the text, not under the title."""
    line = Table.grid(padding=(0, 1, 0, 0))
    line.add_column(width=14, no_wrap=True, style="bold")
    line.add_column()
    line.add_row(title, text)
    return line


def _plain(text: str) -> str:
    """Text from outside without what could move a terminal's cursor."""
    return "".join(char if char.isprintable() else "·" for char in text)
