"""Verdicts: may work on data of this class run at this site?

Total and closed: every question has an answer, and the answer is no unless the configuration proves a yes. A class, a
site or a label that is not in the configuration proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fabric.config.schema import HOME_ONLY, Config, DataClassBlock
from fabric.config.sites import OnPremSite, Site
from fabric.model.nodes import Market

SAFE_FROM_RECLAIM = (Market.OWNED, Market.ON_DEMAND)


class Rule(StrEnum):
    """What a verdict rests on."""

    HOME_ONLY = "home_only"
    ANY_SITE = "any_site"
    LISTED = "listed"
    LABELS = "labels"
    NO_SPOT = "no_spot"
    UNKNOWN_CLASS = "unknown_class"
    UNKNOWN_SITE = "unknown_site"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Allowed or denied, by which rule, and the same as a sentence."""

    allowed: bool
    rule: Rule
    sentence: str


def verdict(config: Config, data_class: str, site: str, market: Market | None = None) -> Verdict:
    """Whether work on data of ``data_class`` may run at ``site``.

    Args:
        config: the configuration in force.
        data_class: the name of a class; an unknown one is denied everywhere.
        site: the name of a site; an unknown one is denied to everybody.
        market: how the machine is bought. None asks about the site as such.
    """
    place = config.sites.get(site)
    if place is None:
        return Verdict(False, Rule.UNKNOWN_SITE, f"There is no site {site} in the configuration.")
    if data_class == HOME_ONLY:
        return _home_only(site, place)
    block = config.data_classes.get(data_class)
    if block is None:
        return Verdict(False, Rule.UNKNOWN_CLASS, f"There is no data class {data_class} in the configuration.")
    answer = _by_class(data_class, block, site, place)
    if answer.allowed and block.spot == "never" and market is not None and market not in SAFE_FROM_RECLAIM:
        sentence = f"Data of class {data_class} may not go to machines that the cloud can take back."
        return Verdict(False, Rule.NO_SPOT, sentence)
    return answer


def is_home(config: Config, site: str) -> bool:
    """Whether ``site`` is a room of your own."""
    return isinstance(config.sites.get(site), OnPremSite)


def allowed_sites(config: Config, data_class: str) -> frozenset[str]:
    """Every site at which work on data of ``data_class`` may run; empty for an unknown class."""
    return frozenset(site for site in config.sites if verdict(config, data_class, site).allowed)


def may_leave_to(config: Config, data_class: str) -> frozenset[str]:
    """The sites other than your own to which work on data of ``data_class`` may go."""
    return frozenset(site for site in allowed_sites(config, data_class) if not is_home(config, site))


def _home_only(site: str, place: Site) -> Verdict:
    if isinstance(place, OnPremSite):
        return Verdict(True, Rule.HOME_ONLY, f"{site} is your own, and data of class {HOME_ONLY} stays there.")
    return Verdict(False, Rule.HOME_ONLY, f"Data of class {HOME_ONLY} never leaves home, and {site} is not your own.")


def _by_class(name: str, block: DataClassBlock, site: str, place: Site) -> Verdict:
    if isinstance(block.sites, list):
        if site in block.sites:
            return Verdict(True, Rule.LISTED, f"Data of class {name} may go to the sites listed for it, {site} is one.")
        return Verdict(
            False, Rule.LISTED, f"Data of class {name} may go only to the sites listed for it, without {site}."
        )
    if isinstance(block.sites, dict):
        lacking = [f"{key}: {value}" for key, value in block.sites.items() if place.labels.get(key) != value]
        if block.sites and not lacking:
            return Verdict(True, Rule.LABELS, f"{site} carries every label that data of class {name} asks for.")
        missing = ", ".join(lacking) or "any: the class names none"
        return Verdict(False, Rule.LABELS, f"Data of class {name} asks for labels that {site} lacks ({missing}).")
    return Verdict(True, Rule.ANY_SITE, f"Data of class {name} may go to any site of the configuration.")
