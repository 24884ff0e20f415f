"""What every screen is made of: the console, tables and titled lines, lengths of time, text that is only text."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text


def console() -> Console:
    """Standard output; in a pipe as wide as the tables need, so that no line is broken there."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=200 if piped else None, highlight=False, markup=False, emoji=False)


def silence(seen: Mapping[str, Any], now: float) -> Text:
    """Says that the controller does not answer, and what is shown in its place."""
    journal = seen["journal"]
    until = f"up to entry {journal['seq']}, {span(now - journal['at'])} ago" if journal["seq"] else "which is empty"
    return Text.assemble(
        (f"the controller does not answer on {seen['controller']['address']}. ", "bold red"),
        f"What follows is what the journal knows, {until}. Start the fabric with: fabric up",
    )


def table(*columns: str) -> Table:
    """A table without lines; a column whose name begins with ``>`` is set to the right."""
    found = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        right = column.startswith(">")
        found.add_column(column.removeprefix(">"), justify="right" if right else "left")
    return found


def line(title: str, text: Text) -> RenderableType:
    """A titled line; what does not fit goes on under the text, not under the title."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=14, no_wrap=True, style="bold")
    grid.add_column()
    grid.add_row(title, text)
    return grid


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


def plain(text: str) -> str:
    """Text from outside without what could move a terminal's cursor."""
    return "".join(char if char.isprintable() else "·" for char in text)
