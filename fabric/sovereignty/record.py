"""The rules of where data may go as the journal keeps them, so that a verdict can be computed again years later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import ValidationError

from fabric.config.schema import Config, DataClassBlock, DefaultsBlock, TeamBlock
from fabric.config.sites import AwsSite, AzureSite, CloudSiteBlock, GcpSite, OnPremSite, SandboxSite, Site

_SITES = {"onprem": OnPremSite, "sandbox": SandboxSite, "aws": AwsSite, "gcp": GcpSite, "azure": AzureSite}


class UnreadableRulesError(Exception):
    """A record of rules that this version of the fabric cannot read; says why."""


def rules_record(config: Config) -> dict[str, Any]:
    """Everything of a configuration that bears on where data may go, and on what machines run there, as JSON."""
    return {
        "default": config.defaults.data_class,
        "classes": {name: block.model_dump(mode="json") for name, block in config.data_classes.items()},
        "sites": {name: _site(site) for name, site in config.sites.items()},
        "teams": {name: team.data_class for name, team in config.teams.items()},
        "datasets": {name: data.data_class for name, data in config.datasets.items()},
    }


def _site(site: Site) -> dict[str, Any]:
    image = {"image": site.image} if isinstance(site, CloudSiteBlock) else {}
    return {"kind": site.kind, "labels": dict(site.labels), **image}


def image_of(record: Mapping[str, Any], site: str) -> str:
    """The image that a site's instances were made from; ``""`` where a record names none."""
    found = record.get("sites", {}).get(site, {})
    return str(found.get("image", "")) if isinstance(found, Mapping) else ""


def config_of(record: Mapping[str, Any]) -> Config:
    """A configuration that holds a record and nothing else: verdicts look at no more than that.

    Raises:
        UnreadableRulesError: the record is not one, or holds what this version does not know.
    """
    try:
        sites = {
            name: _SITES[site["kind"]].model_construct(kind=site["kind"], labels=dict(site["labels"]), node_types={})
            for name, site in record["sites"].items()
        }
        return Config.model_construct(
            defaults=DefaultsBlock(data_class=record["default"]),
            sites=cast(Any, sites),
            data_classes={name: DataClassBlock.model_validate(block) for name, block in record["classes"].items()},
            teams={name: TeamBlock(data_class=data_class) for name, data_class in record["teams"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, ValidationError) as error:
        raise UnreadableRulesError(f"the rules cannot be read by this version of the fabric: {error}") from error
