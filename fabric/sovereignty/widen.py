"""What an edit of the configuration adds to where a data class may go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fabric.config.schema import HOME_ONLY, Config
from fabric.journal.base import Entry
from fabric.model.events import Event
from fabric.sovereignty.record import UnreadableRulesError, config_of
from fabric.sovereignty.rules import allowed_sites


@dataclass(frozen=True, slots=True)
class Widening:
    """One data class that may go further than before.

    Attributes:
        data_class: its name.
        sites: the sites that were added, sorted.
        spot: it may now also run on machines that the cloud can take back.
    """

    data_class: str
    sites: tuple[str, ...]
    spot: bool = False


def widened(before: Config, after: Config) -> tuple[Widening, ...]:
    """Every class that both configurations have, and that may go further in ``after``.

    It does not matter how: another list, fewer labels, or a new site that carries the labels. A class that only
    ``after`` has is new and not widened: nothing could run with it before.
    """
    found = [_widening(before, after, name) for name in (HOME_ONLY, *sorted(after.data_classes))]
    return tuple(item for item in found if item is not None)


def _widening(before: Config, after: Config, name: str) -> Widening | None:
    if name != HOME_ONLY and name not in before.data_classes:
        return None
    sites = tuple(sorted(allowed_sites(after, name) - allowed_sites(before, name)))
    spot = _no_spot(before, name) and not _no_spot(after, name)
    return Widening(name, sites, spot) if sites or spot else None


def _no_spot(config: Config, name: str) -> bool:
    block = config.data_classes.get(name)
    return block is not None and block.spot == "never"


@dataclass(slots=True)
class RulesBook:
    """The newest rules in a journal: a fold, so that edits made while nobody was watching are noticed at the start.

    A class that an edit removes is remembered: removing it and bringing it back wider is widening it.

    Attributes:
        record: the rules in force at the last entry, with every class there ever was; None before the first.
        digest: of the configuration they are from.
    """

    record: dict[str, Any] | None = None
    digest: str = ""

    def take(self, entry: Entry) -> None:
        """Take one entry in; entries without rules change nothing."""
        rules = rules_in(entry)
        if rules is None:
            return
        known = self.record["classes"] if self.record is not None else {}
        self.record = {**rules, "classes": {**known, **rules["classes"]}}
        self.digest = str(entry.data.get("digest") or entry.data.get("config_digest") or "")

    def widened_by(self, config: Config) -> tuple[Widening, ...]:
        """What ``config`` adds to the rules of the journal; nothing where it holds none, or none that can be read."""
        if self.record is None:
            return ()
        try:
            return widened(config_of(self.record), config)
        except UnreadableRulesError:
            return ()


def rules_in(entry: Entry) -> Mapping[str, Any] | None:
    """The rules that an entry brings into force; None for one that brings none."""
    if entry.kind not in (Event.CONFIG_LOADED, Event.FABRIC_STARTED):
        return None
    rules = entry.data.get("rules")
    return rules if isinstance(rules, Mapping) and "classes" in rules else None


def widening_facts(widening: Widening, path: str, digest: str, digest_before: str) -> dict[str, Any]:
    """The data of a ``class.widened`` entry."""
    return {
        "data_class": widening.data_class,
        "sites": list(widening.sites),
        "spot": widening.spot,
        "path": path,
        "digest": digest,
        "digest_before": digest_before,
    }
