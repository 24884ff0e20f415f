"""Instant fleets: one launch, several zones at once, EC2 chooses.

A fleet takes its machine from a launch template, and the boot script of each launch is its own; so a template lives as
long as its fleet is asked, under a name made from the token. What a crash in between leaves is removed by listings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autoscaler.providers.aws import requests
from autoscaler.providers.aws.client import AwsApi
from autoscaler.providers.aws.errors import error_of
from autoscaler.providers.aws.replies import instance_of, reply_time_ms
from autoscaler.providers.base import (
    TAG_OWNER,
    CapacityError,
    Instance,
    InstanceState,
    LaunchSpec,
    NotFoundError,
    ProviderBugError,
    ProviderError,
    QuotaError,
)
from fabric.config.sites import AwsNodeType, AwsSite

_EXISTS = "InvalidLaunchTemplateName.AlreadyExistsException"
_OLD_MS = 15 * 60 * 1000
_DONE = 200


def launch(
    api: AwsApi, image: requests.Image, spec: LaunchSpec, site_name: str, site: AwsSite, block: AwsNodeType
) -> Instance | ProviderError:
    """One instance in whichever zone has it; a refusal as a value where EC2 says that it knows the token.

    Raises:
        ProviderError: no zone has one, or EC2 did not take the request.
    """
    try:
        api.ec2("CreateLaunchTemplate", **requests.launch_template(spec, site, block, image))
    except ProviderError as error:
        if error.cloud_code != _EXISTS:
            raise
    try:
        reply = api.ec2("CreateFleet", **requests.create_fleet(spec, site, block))
    except ProviderError as error:
        if error.cloud_code in ("IdempotentInstanceTerminated", "IdempotentParameterMismatch"):
            return error
        raise
    finally:
        _remove(api, requests.template_name(spec.token))
    ids = [instance_id for made in reply.get("Instances", []) for instance_id in made.get("InstanceIds", [])]
    if not ids:
        raise _refusal(reply.get("Errors", []))
    return _described(api, ids[0], site_name) or _just_made(ids[0], reply, spec, site_name)


def remove_old_templates(api: AwsApi, owner: str) -> None:
    """Remove launch templates of ours that nobody can be using any more; the next listing tries again what fails."""
    request: dict[str, Any] = {"Filters": [{"Name": f"tag:{TAG_OWNER}", "Values": [owner]}], "MaxResults": _DONE}
    try:
        reply = api.ec2("DescribeLaunchTemplates", **request)
    except ProviderError:
        return
    now = reply_time_ms(reply)
    for template in reply.get("LaunchTemplates", []):
        if now - round(template["CreateTime"].timestamp() * 1000) > _OLD_MS:
            _remove(api, template["LaunchTemplateName"])


def _remove(api: AwsApi, name: str) -> None:
    try:
        api.ec2("DeleteLaunchTemplate", LaunchTemplateName=name)
    except ProviderError:
        return  # gone already, or left to the next listing


def _refusal(errors: Sequence[Mapping[str, Any]]) -> ProviderError:
    """One error for all zones: what a person has to see first, then a quota, then capacity."""
    if not errors:
        return ProviderBugError("CreateFleet made nothing and did not say why")
    found = [error_of(str(item.get("ErrorCode")), str(item.get("ErrorMessage")), 0, "CreateFleet") for item in errors]
    return min(found, key=lambda error: (isinstance(error, CapacityError), isinstance(error, QuotaError)))


def _described(api: AwsApi, instance_id: str, site: str) -> Instance | None:
    try:
        reply = api.ec2("DescribeInstances", InstanceIds=[instance_id])
    except NotFoundError:
        return None  # made, and not shown yet
    items = [item for reservation in reply.get("Reservations", []) for item in reservation.get("Instances", [])]
    return instance_of(items[0], site) if items else None


def _just_made(instance_id: str, reply: Mapping[str, Any], spec: LaunchSpec, site: str) -> Instance:
    return Instance(instance_id, site, InstanceState.PENDING, dict(spec.tags), launched_at_ms=reply_time_ms(reply))
