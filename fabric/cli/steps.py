"""Progress of something that takes a while: steps with a spinner on a terminal, sparse lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live


@dataclass(slots=True)
class Step:
    """One step: what it is called, what it says now, and when it was done (None: not yet)."""

    name: str
    detail: str = ""
    done_after_s: float | None = None


class Steps:
    """A list of steps that is shown while it changes.

    Args:
        console: where to show it.
        quiet: show nothing (for ``--json``).
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._begun = time.monotonic()
        self._steps: dict[str, Step] = {}
        self._live: Live | None = None

    @contextmanager
    def shown(self) -> Iterator[Steps]:
        """Show the steps for the length of the block."""
        if self._quiet or not self._console.is_terminal:
            yield self
            return
        from rich.live import Live

        with Live(get_renderable=self._draw, console=self._console, refresh_per_second=8) as self._live:
            yield self
        self._live = None

    def doing(self, name: str, detail: str = "") -> None:
        """A step is under way; ``detail`` says how far."""
        step = self._steps.setdefault(name, Step(name))
        step.detail = detail

    def done(self, name: str, detail: str = "") -> None:
        """A step is done; said once."""
        step = self._steps.setdefault(name, Step(name))
        if step.done_after_s is not None:
            return
        step.detail, step.done_after_s = detail, time.monotonic() - self._begun
        if not self._quiet and self._live is None:
            self._console.print(_line(step), highlight=False)

    def is_done(self, name: str) -> bool:
        """Whether a step has been reported done."""
        step = self._steps.get(name)
        return step is not None and step.done_after_s is not None

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.text import Text

        lines: list[RenderableType] = []
        for step in self._steps.values():
            if step.done_after_s is not None:
                lines.append(Text.from_markup(_line(step)))
            else:
                text = f" {step.name}" + (f"  [dim]{step.detail}[/]" if step.detail else "")
                lines.append(Spinner("dots", Text.from_markup(text), style="cyan"))
        return Group(*lines)


def _line(step: Step) -> str:
    detail = f"  [dim]{step.detail}[/]" if step.detail else ""
    return f"[green]✓[/] {step.name}{detail} [dim]({step.done_after_s:.0f} s)[/]"
