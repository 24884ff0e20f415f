"""The status as a screen: tables of sites, node types and nodes, the queue against the baseline, and money."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from fabric.cli.nodes_view import nodes_table
from fabric.cli.screen import line, plain, silence, span, table
from fabric.model.money import format_usd

Status = Mapping[str, Any]
Row = Mapping[str, Any]

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


def _head(status: Status, now: float) -> list[RenderableType]:
    config = status["config"]
    lines: list[RenderableType] = []
    if not status["controller"]["answers"]:
        lines.append(line(status["fabric"], silence(status, now)))
    elif status["ok"]:
        lines.append(line(status["fabric"], Text(f"runs; last tick {span(now - status['last_tick'])} ago")))
    else:
        since = f", the last good one {span(now - status['last_tick'])} ago" if status["last_tick"] else ""
        error = plain(status["tick_error"]) or "it has not finished its first tick"
        lines.append(line(status["fabric"], Text(f"the controller runs but does not decide{since}: {error}", "red")))
    ray = status["ray"]
    if ray["error"]:
        lines.append(line("Ray", Text(f"{ray['address']}: {plain(ray['error'])}", "red")))
    lines.append(line("Configuration", Text(f"{plain(config['path'])}  {config['digest'][:12]}")))
    if config["problems"]:
        lines.append(line("", Text("the edited file is not taken; the last good one stays in force:", "red")))
        lines += [line("", Text(plain(problem), "red")) for problem in config["problems"]]
    return lines


def _dead(nodes: Sequence[Row], now: float) -> list[RenderableType]:
    return [
        line(
            "Dead",
            Text(
                f"{plain(node['instance'])} has not been in the cluster for {span(now - (node['since'] or now))}; "
                "nothing is bought because of that alone",
                "bold red",
            ),
        )
        for node in nodes
        if node["phase"] == "dead"
    ]


def _sites(status: Status, now: float) -> RenderableType:
    spent = status["money"]["by_site"] if status["money"] else {}
    found = table("site", "kind", ">nodes", ">offers", ">now", ">spent", "state")
    for site in status["sites"]:
        money = spent.get(site["name"], {"per_hour_micro_usd": 0, "spent_micro_usd": 0})
        rents = site["kind"] != "onprem"
        troubles = [text for text in (site["error"], *site["stopped"]) if text]
        listed = site["listed_at"]
        found.add_row(
            site["name"],
            site["kind"],
            str(sum(node["site"] == site["name"] and node["phase"] != "dead" for node in status["nodes"])),
            str(site["offers"]) if rents and site["offers"] is not None else "",
            f"{format_usd(money['per_hour_micro_usd'])}/h" if rents else "",
            format_usd(money["spent_micro_usd"], 4) if rents else "",
            Text(plain("; ".join(troubles)), "red")
            if troubles
            else (f"listed {span(now - listed)} ago" if listed else ""),
        )
    return found


def _node_types(kinds: Iterable[Row]) -> RenderableType:
    found = table("node type", ">GPUs each", ">plan", ">requested", ">observed", ">ending", ">at most")
    for kind in kinds:
        short = kind["observed"] < kind["plan"] - kind["requested"]
        found.add_row(
            kind["name"],
            f"{kind['gpus']:g}",
            str(kind["plan"]),
            _count(kind["requested"], "cyan"),
            Text(str(kind["observed"]), "red" if short else ""),
            _count(kind["ending"], "yellow"),
            str(kind["maximum"]),
        )
    return found


def _gpus(status: Status) -> list[RenderableType]:
    gpus = status["gpus"]
    if gpus is None:
        return []
    told = [
        f"{where} {gpus[key]['used']:g} of {gpus[key]['total']:g} in use"
        for key, where in (("home", "at home"), ("burst", "rented"))
    ]
    return [line("GPUs", Text(", ".join(told)))]


def _queue(status: Status, now: float) -> list[RenderableType]:
    queue, baseline = status["queue"], status["baseline"]
    if queue is None or baseline is None:
        return [line("Queue", Text("only the controller knows", "dim"))]
    waits = f"{queue['gpus']:g} GPUs and {queue['cpus']:g} CPUs in {queue['requests']} requests"
    beyond = "wait beyond what is free or coming at home" if queue["requests"] else "wait"
    lines: list[RenderableType] = [line("Queue", Text(f"{waits} {beyond}"))]
    if baseline["open"]:
        which = baseline["open_threshold"]
        by = f", by threshold {which + 1}" if which is not None else ""
        burst = Text(f"open for {span(now - baseline['open_since'])}{by}", "bold yellow")
    else:
        burst = Text("closed")
    lines.append(line("Burst", burst))
    found = table("baseline", ">queue now", "")
    for threshold in baseline["thresholds"]:
        above = threshold["above_since"]
        now_at = " and ".join(f"{queue[unit]:g} {name}" for unit, name in _UNITS if threshold[unit])
        found.add_row(
            threshold_in_words(threshold),
            now_at,
            Text("below", "dim") if above is None else Text(f"reached for {span(now - above)}", "yellow"),
        )
    return [*lines, Padding(found, (0, 0, 0, 15))]


_UNITS = (("gpus", "GPUs"), ("cpus", "CPUs"))


def threshold_in_words(threshold: Row) -> str:
    """One threshold of the baseline: ``3 GPUs for 2 s``, ``12 GPUs at once``."""
    wants = " and ".join(f"{threshold[unit]:g} {name}" for unit, name in _UNITS if threshold[unit])
    return f"{wants} for {span(threshold['for_s'])}" if threshold["for_s"] else f"{wants} at once"


def _money(status: Status) -> list[RenderableType]:
    money, budgets = status["money"], status["budgets"] or ()
    if money is None:
        return [line("Money", Text("there is no journal to count it from", "red"))]
    parts = [f"{name} {format_usd(money[f'{name}_micro_usd'], 4)}" for name in ("work", "idle", "waste")]
    lines: list[RenderableType] = [
        line(
            "Money",
            Text(
                f"{format_usd(money['per_hour_micro_usd'])} per hour now; "
                f"{format_usd(money['spent_micro_usd'], 4)} spent so far ({', '.join(parts)})"
            ),
        )
    ]
    for budget in budgets:
        # What is committed has what is accrued in it.
        used, limit = budget["committed_micro_usd"], budget["limit_micro_usd"]
        window = f"{budget['scope']} {_PER.get(budget['per'], 'in all')}"
        told = (
            f"{window}: {format_usd(used)} of {format_usd(limit)} spent or promised, "
            f"{format_usd(budget['left_micro_usd'])} left"
        )
        acts = f" ({', '.join(budget['actions'])})" if budget["actions"] else ""
        lines.append(line("Budget", Text(told + acts, "yellow" if acts else "")))
    return lines


def _decision(decision: Row, now: float) -> list[RenderableType]:
    if not decision["seq"]:
        return [line("Last decision", Text("none yet", "dim"))]
    title = Text(f"{span(now - decision['at'])} ago, entry {decision['seq']} of the journal", "dim")
    return [
        line("Last decision", title),
        *(line("", Text(plain(sentence))) for sentence in decision["sentences"]),
    ]


def _processes(processes: Sequence[Row]) -> list[RenderableType]:
    if not processes:
        return []
    up = [process["name"] for process in processes if process["state"] == "RUNNING"]
    lines: list[RenderableType] = [_GAP, line("Processes", Text(f"{', '.join(up) or 'none'} running"))]
    lines += [
        line("", Text(f"{process['name']} {process['state'].lower()}: {plain(process['detail'])}", "red"))
        for process in processes
        if process["state"] != "RUNNING"
    ]
    return lines


def _count(number: int, style: str) -> Text:
    return Text(str(number), style=style if number else "dim")
