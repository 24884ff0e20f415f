"""Which provider serves a kind of site. A new cloud is one file and one entry point; nothing here changes for it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from autoscaler.providers.base import Provider

GROUP = "elastic_ai_fabric.providers"

# What this distribution registers under GROUP itself, for a checkout that was never installed.
BUILT_IN = {
    "sandbox": "autoscaler.providers.sandbox:from_site",
    "aws": "autoscaler.providers.aws:from_site",
    "gcp": "autoscaler.providers.gcp:from_site",
    "azure": "autoscaler.providers.azure:from_site",
}


class UnknownSiteKindError(LookupError):
    """No provider is installed for a kind of site; says which kinds there are."""


def provider_for(site_name: str, site: Any, owner: str) -> Provider:
    """Make the provider of one site. Its module is imported only now.

    Args:
        site_name: the site's name in the configuration.
        site: its block of the configuration; ``site.kind`` selects the provider, or ``site.provider`` where that is
            ``other``.
        owner: value of the owner tag; the provider lists nothing else.

    Raises:
        UnknownSiteKindError: nobody registered that kind.
    """
    kind = site.provider if site.kind == "other" else site.kind
    return _factory(kind)(site_name, site, owner)


def kinds() -> tuple[str, ...]:
    """Every kind of site that can be bought from, sorted."""
    return tuple(sorted(BUILT_IN.keys() | {point.name for point in entry_points(group=GROUP)}))


def _factory(kind: str) -> Callable[[str, Any, str], Provider]:
    for point in entry_points(group=GROUP, name=kind):
        return point.load()
    if kind in BUILT_IN:
        module, _, name = BUILT_IN[kind].partition(":")
        return getattr(import_module(module), name)
    raise UnknownSiteKindError(f"no provider is installed for sites of kind {kind}; there are: {', '.join(kinds())}")
