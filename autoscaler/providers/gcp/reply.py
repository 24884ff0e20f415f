"""What Google says of an instance and of an operation, as the contract's values. Pure.

Instances are named ``ZONE/NAME`` to the rest of the fabric: enough to end one, and what gcloud and the console show.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from autoscaler.providers.base import Instance, InstanceState, ProviderBugError
from autoscaler.providers.gcp.request import read_description

# https://cloud.google.com/compute/docs/instances/instance-lifecycle
STATES: Mapping[str, InstanceState] = {
    "PENDING": InstanceState.PENDING,
    "PROVISIONING": InstanceState.PENDING,
    "STAGING": InstanceState.PENDING,
    "RUNNING": InstanceState.RUNNING,
    "REPAIRING": InstanceState.RUNNING,
    "PENDING_STOP": InstanceState.ENDING,
    "STOPPING": InstanceState.ENDING,
    "SUSPENDING": InstanceState.ENDING,
    "SUSPENDED": InstanceState.ENDING,
    "DEPROVISIONING": InstanceState.ENDING,
    # Stopped, by itself or by somebody: the machine is no longer charged, its disk is until it is deleted.
    "STOPPED": InstanceState.ENDED,
    "TERMINATED": InstanceState.ENDED,
}

# What only these say may be told apart from an end that we asked for. Later rows win over earlier ones.
ENDS: Mapping[str, str] = {
    "delete": "deleted",
    "stop": "stopped",
    "compute.instances.guestTerminate": "shut itself down",
    "compute.instances.hostError": "host error",
    "compute.instances.terminateOnHostMaintenance": "host maintenance",
    "compute.instances.maxRunDurationExceeded": "max run duration",
    "compute.instances.preempted": "spot reclaim",
}

# All that is read of a listed instance; its metadata, the boot script, would be most of the reply.
FIELDS = ("id", "name", "status", "description", "creationTimestamp", "lastStopTimestamp")
INTERFACE_FIELDS = ("networkIP", "accessConfigs")


@dataclass(frozen=True, slots=True)
class Found:
    """One of our instances as Google shows it.

    Attributes:
        instance: as the contract has it.
        number: Google's numeric id, which operations name as their target.
        offer: the offer it was bought at.
    """

    instance: Instance
    number: int
    offer: str


@dataclass(frozen=True, slots=True)
class End:
    """How an instance ended.

    Attributes:
        at_ms: Unix milliseconds.
        reason: a short word.
    """

    at_ms: int
    reason: str


def found(item: Any, zone: str, site: str) -> Found:
    """Read one instance.

    A state that is in no table counts as running: the machine exists and may be charged.

    Raises:
        ProviderBugError: Google shows a time that is none.
    """
    state = STATES.get(str(item.status), InstanceState.RUNNING)
    offer, tags = read_description(str(item.description))
    launched = unix_ms(str(item.creation_timestamp))
    ended = None
    if state is InstanceState.ENDED:
        ended = max(launched, unix_ms(str(item.last_stop_timestamp or item.creation_timestamp)))
    instance = Instance(
        instance_id=f"{zone}/{item.name}",
        site=site,
        state=state,
        tags=tags,
        address=_address(item.network_interfaces),
        launched_at_ms=launched,
        ended_at_ms=ended,
        reason="stopped" if ended is not None else "",
    )
    return Found(instance, int(item.id), offer)


def end_of(operations: Iterable[Any]) -> End | None:
    """How an instance ended, by the operations that name it; None if none of them ended it."""
    ends = [operation for operation in operations if str(operation.operation_type) in ENDS and _carried_out(operation)]
    if not ends:
        return None
    order = list(ENDS)
    last_word = max(ends, key=lambda operation: order.index(str(operation.operation_type)))
    at = max(unix_ms(str(operation.end_time or operation.insert_time)) for operation in ends)
    return End(at, ENDS[str(last_word.operation_type)])


def unix_ms(text: str) -> int:
    """Unix milliseconds of a time as Google writes it (RFC 3339).

    Raises:
        ProviderBugError: it is none.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ProviderBugError(f"{text!r} is not a time", cloud_code="time") from error
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def last(link: str) -> str:
    """The last part of a resource's address: its name."""
    return link.rpartition("/")[2]


def done(operation: Any) -> bool:
    """Whether an operation is over, well or not."""
    return operation.status.name == "DONE"


def _carried_out(operation: Any) -> bool:
    return done(operation) and not operation.error.errors


def _address(interfaces: Any) -> str:
    """The public address where there is one: whoever asked for one wants it used."""
    for interface in interfaces:
        for access in interface.access_configs:
            if access.nat_i_p:
                return str(access.nat_i_p)
    return next((str(interface.network_i_p) for interface in interfaces if interface.network_i_p), "")
