"""What the demo shows while it runs: a live view on a terminal, a line per event elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fabric.cli.demo_job import Progress
from fabric.journal.base import Entry
from fabric.model.events import Event
from fabric.model.money import MicroUSD, format_usd

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Status = Mapping[str, Any]

_SHADE = {"running": "green", "draining": "yellow", "ending": "yellow", "dead": "red"}
_EVERY_TRIALS = 10
_COMING = ("planned", "requested", "booting")


class DemoView:
    """Shows one status after another.

    Args:
        console: where.
        begun: monotonic seconds from which time is counted.
    """

    def __init__(self, console: Console, begun: float) -> None:
        self._console = console
        self._begun = begun
        self._status: Status = {}
        self._job: Progress | None = None
        self._spent: MicroUSD = 0
        self._decisions: dict[int, list[str]] = {}
        self._said: set[str] = set()
        self._nodes_said = ""
        self._trials_said = 0
        self._crossed = ""

    @contextmanager
    def shown(self) -> Iterator[DemoView]:
        """Show the view for the length of the block."""
        if not self._console.is_terminal:
            yield self
            return
        from rich.live import Live

        with Live(get_renderable=self.draw, console=self._console, refresh_per_second=4, transient=False):
            yield self

    def update(self, status: Status | None, job: Progress, spent: MicroUSD) -> None:
        """Take in the controller's latest account; None when it did not answer."""
        self._status, self._job, self._spent = status or self._status, job, spent
        self._note_crossing()
        if not self._console.is_terminal:
            self._say_what_changed(job)

    def decided(self, entries: Iterable[Entry]) -> None:
        """Take in new journal entries, for the decisions among them that bought something or gave it back."""
        for entry in entries:
            if entry.kind == Event.DECISION:
                acts = [text for text in entry.data["sentences"] if text.startswith(("Buying", "Giving back"))]
                if acts:
                    self._decisions[entry.seq] = acts

    def draw(self) -> RenderableType:
        """The live view."""
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        parts: list[RenderableType] = [self._queue_line(), *self._decision_lines(), Text(""), self._nodes_table()]
        if self._job is not None:
            parts += [Text(""), self._trials_line(self._job)]
        rate = format_usd(int(self._status.get("spend_per_hour_micro_usd") or 0))
        title = f"{time.monotonic() - self._begun:.0f} s · {rate} per hour now · {format_usd(self._spent, 4)} spent"
        return Panel(Group(*parts), title=title, title_align="left", border_style="cyan")

    def _queue_line(self) -> RenderableType:
        from rich.text import Text

        depth = float(self._status.get("queue", {}).get("gpus") or 0)
        text = Text.assemble(("Queue  ", "bold"), f"{depth:g} GPUs wanted beyond what is free or coming; ")
        text.append(f"the baseline allows a burst from {thresholds(self._status)}")
        is_open = self._status.get("baseline", {}).get("open")
        text.append("  BURST OPEN" if is_open else "  closed", style="bold yellow" if is_open else "dim")
        return text

    def _decision_lines(self) -> Sequence[RenderableType]:
        from rich.text import Text

        lines: list[RenderableType] = []
        for seq in sorted(self._decisions)[-2:]:
            shown = self._decisions[seq]
            more = f" (and {len(shown) - 1} more)" if len(shown) > 1 else ""
            lines.append(Text.assemble(("Decision  ", "bold"), (shown[0] + more, "italic")))
        return lines

    def _nodes_table(self) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column in ("site", "node", "GPUs in use", "state", "price"):
            table.add_column(column)
        nodes = [node for node in self._status.get("nodes", []) if not node["is_head"]]
        for node in sorted(nodes, key=lambda node: (node["market"] != "owned", node["node_type"], node["instance"])):
            used = node["gpus"] - node["gpus_free"]
            owned = node["market"] == "owned"
            bar = "█" * int(used) + "░" * int(node["gpus"] - used)
            phase = str(node["phase"])
            idle = f", idle {node['idle_s']:.0f} s" if phase == "running" and node["idle_s"] >= 1 else ""
            table.add_row(
                node["site"],
                node["instance"].rpartition("/")[2],
                bar if phase in ("running", "draining") else "",
                Text(("booting" if phase in _COMING else phase) + idle, style=_SHADE.get(phase, "cyan")),
                "yours" if owned else f"{format_usd(node['per_hour_micro_usd'])}/h {node['market']}",
            )
        return table

    def _trials_line(self, job: Progress) -> RenderableType:
        from rich.text import Text

        if not job.trials:
            return Text.assemble(("Job  ", "bold"), "submitted with ray job submit; its driver starts")
        width = 40
        full = round(width * job.done / job.trials)
        where = ", ".join(f"{count} on {site}" for site, count in sorted(job.per_site.items()))
        text = Text.assemble(("Job  ", "bold"), ("━" * full, "green"), ("━" * (width - full), "dim"))
        text.append(f" {job.done}/{job.trials} trials" + (f": {where}" if where else ""))
        if job.best:
            text.append(f"; best validation accuracy {job.best:.1%}")
        return text

    def _note_crossing(self) -> None:
        baseline = self._status.get("baseline", {})
        depth = float(self._status.get("queue", {}).get("gpus") or 0)
        if baseline.get("open") and not self._crossed:
            self._crossed = f"the queue crossed the baseline: {depth:g} GPUs wanted beyond what is free or coming"

    def _say_what_changed(self, job: Progress) -> None:
        depth = float(self._status.get("queue", {}).get("gpus") or 0)
        if depth:
            self._say_once(
                f"queue: {depth:g} GPUs wanted beyond what is free or coming; "
                f"the baseline allows a burst from {thresholds(self._status)}",
                key="depth",
            )
        if self._crossed:
            self._say_once(self._crossed)
        for seq, acts in self._decisions.items():
            for index, text in enumerate(acts):
                self._say_once(f"decision: {text}", key=f"{seq}/{index}")
        nodes = nodes_in_words(self._status)
        if nodes != self._nodes_said:
            self._nodes_said = nodes
            self._say(f"nodes: {nodes}")
        if job.done >= self._trials_said + _EVERY_TRIALS or (job.done == job.trials != self._trials_said):
            self._trials_said = job.done
            where = ", ".join(f"{count} on {site}" for site, count in sorted(job.per_site.items()))
            self._say(f"job: {job.done}/{job.trials} trials done, {where}; best validation accuracy {job.best:.1%}")

    def _say_once(self, text: str, key: str | None = None) -> None:
        if (key or text) not in self._said:
            self._said.add(key or text)
            self._say(text)

    def _say(self, text: str) -> None:
        self._console.print(
            f"[{time.monotonic() - self._begun:4.0f} s] {text}", highlight=False, markup=False, soft_wrap=True
        )


def thresholds(status: Status) -> str:
    """The baseline in words: ``3 GPUs for 2 s, or 12 GPUs at once``."""
    told = []
    for threshold in status.get("baseline", {}).get("thresholds", []):
        wants = " and ".join(
            f"{threshold[unit]:g} {unit.upper()[:-1]}s" for unit in ("gpus", "cpus") if threshold[unit]
        )
        told.append(f"{wants} {'for ' + format(threshold['for_s'], 'g') + ' s' if threshold['for_s'] else 'at once'}")
    return ", or ".join(told)


def nodes_in_words(status: Status) -> str:
    """``home 2 running; cloud 3 booting, 1 running``."""
    sites: dict[str, Counter[str]] = {}
    for node in status.get("nodes", []):
        if not node["is_head"]:
            phase = "booting" if node["phase"] in _COMING else str(node["phase"])
            sites.setdefault(node["site"], Counter())[phase] += 1
    return "; ".join(
        f"{site} " + ", ".join(f"{count} {phase}" for phase, count in sorted(phases.items()))
        for site, phases in sorted(sites.items(), key=lambda item: item[0] != "home")
    )
