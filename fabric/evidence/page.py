"""The report of a period as one page that needs nothing else and is fit to print."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def page(report: Mapping[str, Any]) -> str:
    """A report of ``fabric.evidence.report`` as HTML; everything in it that came from outside is escaped."""
    environment = Environment(
        loader=PackageLoader("fabric.evidence", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"time": _time, "day": _day, "last_day": _last_day}
    return environment.get_template("report.html.j2").render(report=report)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def _last_day(end: float) -> str:
    """The day that a period ends with: midnight belongs to the day before."""
    return _day(end - 1e-3)
