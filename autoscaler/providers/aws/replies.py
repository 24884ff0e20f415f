"""What EC2 says about an instance, as the contract has it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any

from autoscaler.providers.base import Instance, InstanceState, ProviderBugError

_STATES: Mapping[str, InstanceState] = MappingProxyType(
    {
        "pending": InstanceState.PENDING,
        "running": InstanceState.RUNNING,
        "shutting-down": InstanceState.ENDING,
        # Nothing of ours stops an instance; whoever did, its disk still costs money, so its end is asked for.
        "stopping": InstanceState.ENDING,
        "stopped": InstanceState.ENDING,
        "terminated": InstanceState.ENDED,
    }
)

# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html
_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "Client.UserInitiatedShutdown": "user",
        "Client.InstanceInitiatedShutdown": "shutdown from inside",
        "Client.InstanceTerminated": "user",
        "Client.InternalError": "client error on launch",
        "Client.InvalidSnapshot.NotFound": "snapshot not found",
        "Client.VolumeLimitExceeded": "volume limit",
        "Server.SpotInstanceTermination": "spot reclaim",
        "Server.SpotInstanceShutdown": "spot reclaim",
        "Server.InsufficientInstanceCapacity": "no capacity",
        "Server.InternalError": "server error on launch",
        "Server.ScheduledStop": "scheduled retirement",
        "Server.CapacityBlockExpired": "capacity block expired",
    }
)

_WHEN = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")


def instance_of(item: Mapping[str, Any], site: str) -> Instance:
    """One entry of a reservation.

    Raises:
        ProviderBugError: it lacks what EC2 always gives.
    """
    try:
        state = _STATES[item["State"]["Name"]]
        launched = _milliseconds(item["LaunchTime"])
        tags = {tag["Key"]: tag.get("Value", "") for tag in item.get("Tags", ())}
        return Instance(
            instance_id=item["InstanceId"],
            site=site,
            state=state,
            tags={key: value for key, value in tags.items() if not key.startswith("aws:")},
            address=item.get("PrivateIpAddress", ""),
            launched_at_ms=launched,
            ended_at_ms=_ended(item, launched) if state is InstanceState.ENDED else None,
            reason=_reason(item) if state in (InstanceState.ENDED, InstanceState.ENDING) else "",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ProviderBugError(f"an instance in EC2's reply is not as it should be: {error!r}") from error


def reply_time_ms(reply: Mapping[str, Any]) -> int:
    """Unix milliseconds at which the cloud answered, by its own clock; 0 where it did not say."""
    date = reply.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return _milliseconds(parsedate_to_datetime(date))
    except (TypeError, ValueError):
        return 0


def _ended(item: Mapping[str, Any], launched: int) -> int | None:
    """When it ended, to the second; EC2 says so only in a sentence, and not in every one."""
    found = _WHEN.search(item.get("StateTransitionReason", ""))
    if not found:
        return None
    ended = _milliseconds(datetime.strptime(found.group(1), "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC))
    return max(ended, launched)


def _reason(item: Mapping[str, Any]) -> str:
    code = item.get("StateReason", {}).get("Code", "")
    return _REASONS.get(code, code) or item.get("StateTransitionReason", "") or "unknown"


def _milliseconds(when: datetime) -> int:
    return round(when.timestamp() * 1000)
