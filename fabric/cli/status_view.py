"""The status as tables and lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fabric.cli.demo_view import thresholds
from fabric.model.money import format_usd

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

Told = Mapping[str, Any]

_STYLE = {"running": "green", "dead": "red", "ending": "yellow", "draining": "yellow"}


def render(told: Told, now: float) -> RenderableType:
    """Everything ``fabric status`` shows; ``told`` is what ``--json`` prints."""
    from rich.console import Group
    from rich.text import Text

    controller = told["controller"]
    parts: list[RenderableType] = [Text.from_markup(line) for line in _problems(told)]
    if controller is not None:
        parts += [*_lines(controller, now), _types_table(controller), nodes_table(controller["nodes"], now)]
    money = told["money"]
    if money is not None:
        rate = format_usd(money["per_hour_micro_usd"])
        split = ", ".join(f"{name} {format_usd(money[name + '_micro_usd'])}" for name in ("work", "idle", "waste"))
        parts.append(
            Text.assemble(("Money ", "bold"), f"{rate} per hour now; {format_usd(money['total_micro_usd'])} so far")
            + Text(f" ({split}), {money['live']} instances live")
        )
    parts.append(Text.assemble(("Processes ", "bold"), _processes(told["processes"])))
    return Group(*parts)


def nodes_table(nodes: Sequence[Told], now: float) -> Table:
    """One row a node."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Nodes", title_justify="left")
    for column in ("node", "type", "state", "GPUs", "price", "for", "Ray node"):
        table.add_column(column, overflow="fold")
    for node in sorted(nodes, key=lambda node: (not node["is_head"], node["site"], node["node_type"], node["id"])):
        used = node["gpus"] - node["gpus_free"]
        owned = node["market"] == "owned"
        idle = f", idle {node['idle_s']:.0f} s" if node["phase"] == "running" and node["idle_s"] >= 1 else ""
        table.add_row(
            node["instance"] or node["id"],
            node["node_type"],
            Text(node["phase"] + idle, style=_STYLE.get(node["phase"], "cyan")),
            f"{used:g}/{node['gpus']:g}",
            "yours" if owned else f"{format_usd(node['per_hour_micro_usd'])}/h {node['market']}",
            _age(now - (node["joined_at"] or node["launched_at"] or node["since"] or now)),
            node["ray_node_id"][:12],
        )
    return table


def _problems(told: Told) -> list[str]:
    controller = told["controller"]
    if controller is None:
        return [
            f"[red]The controller does not answer on {told['controller_address']}.[/] This is what the journal says."
        ]
    lines = []
    if controller["tick_error"]:
        lines.append(f"[red]The last tick failed:[/] {controller['tick_error']}")
    if controller["ray"]["error"]:
        lines.append(f"[red]The Ray head does not answer:[/] {controller['ray']['error']}")
    if controller["config"]["problems"]:
        lines.append("[red]The edited configuration is not taken; the last good one is in force:[/]")
        lines += [f"  {problem}" for problem in controller["config"]["problems"]]
    for site in controller["sites"]:
        if site["error"]:
            lines.append(f"[red]Site {site['name']} does not answer:[/] {site['error']}")
        lines += [f"[red]Site {site['name']} waits for a person:[/] {stop}" for stop in site.get("stopped", [])]
    lines += [
        f"[red]{node['instance']} is dead[/]; nothing is bought for that by itself"
        for node in controller["nodes"]
        if node["phase"] == "dead"
    ]
    return lines


def _lines(controller: Told, now: float) -> list[RenderableType]:
    from rich.text import Text

    queue, gpus = controller["queue"], controller["gpus"]
    burst = controller["baseline"]
    lines: list[RenderableType] = [
        Text.assemble(("Fabric ", "bold"), f"{controller['fabric']}, up for {_age(now - controller['started_at'])}"),
        Text.assemble(
            ("GPUs ", "bold"),
            ", ".join(f"{where} {gpus[where]['used']:g} of {gpus[where]['total']:g} in use" for where in gpus),
        ),
        Text.assemble(
            ("Queue ", "bold"),
            f"{queue['gpus']:g} GPUs, {queue['cpus']:g} CPUs wanted by {queue['requests']} requests beyond what is "
            f"free or coming; burst {'open for ' + _age(now - burst['open_since']) if burst['open'] else 'closed'}",
        ),
        Text.assemble(("Baseline ", "bold"), thresholds(controller) + _above(burst["thresholds"], now)),
    ]
    if controller["last_decision"]["sentences"]:
        last = controller["last_decision"]
        lines.append(Text.assemble((f"Decision {last['seq']} ", "bold"), " ".join(last["sentences"])))
    return lines


def _above(thresholds_told: Sequence[Told], now: float) -> str:
    for threshold in thresholds_told:
        if threshold["above_since"] is not None:
            wants = f"{threshold['gpus'] or threshold['cpus']:g} {'GPUs' if threshold['gpus'] else 'CPUs'}"
            return f"; above {wants} for {_age(now - threshold['above_since'])}"
    return "; the queue is below"


def _types_table(controller: Told) -> Table:
    from rich.table import Table

    table = Table(title="Node types", title_justify="left")
    for column in ("type", "plan", "requested", "observed", "ending", "at most", "GPUs each"):
        table.add_column(column, justify="left" if column == "type" else "right")
    for kind in controller["node_types"]:
        table.add_row(
            kind["name"],
            *(str(kind[name]) for name in ("plan", "requested", "observed", "ending", "maximum")),
            f"{kind['gpus']:g}",
        )
    return table


def _processes(processes: Sequence[Told]) -> str:
    if not processes:
        return "none: nothing is up under supervision here"
    bad = [f"{process['name']} is {process['state']}" for process in processes if process["state"] != "RUNNING"]
    running = len(processes) - len(bad)
    return f"{running} running" + (f"; {', '.join(bad)}" if bad else "")


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
