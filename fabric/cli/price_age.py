"""How old the price files are that a configuration buys by; the doctor and ``fabric validate`` say it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fabric.config.schema import Config


def stale_prices(config: Config, state: Path) -> Iterator[tuple[str, str]]:
    """Each cloud that a site buys from and that has a price file, with why it is too old; ``""`` where it is not."""
    from autoscaler.catalog.files import price_files
    from fabric.config.shapes import cloud_sites

    used = {site.kind for _, site in cloud_sites(config)}
    if not used:
        return
    today = datetime.now(UTC).date()
    for cloud, file in price_files(state / "prices").items():
        if cloud in used:
            yield cloud, file.staleness(today)
