"""What Azure says about a virtual machine, as the contract has it."""

from __future__ import annotations

from typing import Any

from autoscaler.providers.base import Instance, InstanceState, ProviderBugError

# https://learn.microsoft.com/azure/virtual-machines/states-billing
_POWER = {
    "PowerState/starting": InstanceState.PENDING,
    "PowerState/running": InstanceState.RUNNING,
    # Stopped from inside, a machine still costs its full price: it is to be deleted.
    "PowerState/stopping": InstanceState.ENDING,
    "PowerState/stopped": InstanceState.ENDING,
    "PowerState/deallocating": InstanceState.ENDING,
    "PowerState/deallocated": InstanceState.ENDING,
}


def instance_of(machine: Any, site: str) -> Instance:
    """One machine of a listing, with its instance view.

    Args:
        machine: the SDK's ``VirtualMachine``.
        site: the site's name.

    Raises:
        ProviderBugError: it lacks what Azure always gives.
    """
    name, tags = machine.name, machine.tags
    if not name or machine.provisioning_state is None:
        raise ProviderBugError(f"a machine in Azure's reply has no name or state: {machine!r}"[:300])
    state = _state(machine)
    return Instance(
        instance_id=name,
        site=site,
        state=state,
        tags=dict(tags or {}),
        launched_at_ms=round(machine.time_created.timestamp() * 1000) if machine.time_created else 0,
        reason=_reason(machine) if state is InstanceState.ENDING else "",
    )


def is_running(machine: Any) -> bool:
    """Whether a machine's instance view says that it runs."""
    return _power(machine) == "PowerState/running"


def is_left_over(machine: Any) -> bool:
    """Whether a machine will never run (again) and nobody has asked for its end: it is deleted on sight."""
    if machine.provisioning_state == "Deleting":
        return False
    power = _power(machine)
    if machine.provisioning_state == "Failed":
        # One whose later update failed runs all the same; without a view nobody knows.
        return machine.instance_view is not None and power not in ("PowerState/running", "PowerState/starting")
    return power in ("PowerState/stopped", "PowerState/deallocated")


def _state(machine: Any) -> InstanceState:
    provisioning = machine.provisioning_state
    if provisioning == "Deleting":
        return InstanceState.ENDING
    if is_left_over(machine):
        return InstanceState.ENDING
    found = _POWER.get(_power(machine))
    if found is not None:
        return found
    return InstanceState.RUNNING if provisioning == "Succeeded" else InstanceState.PENDING


def _reason(machine: Any) -> str:
    if machine.provisioning_state == "Failed":
        return "failed to provision"
    if _power(machine) in ("PowerState/stopped", "PowerState/deallocated"):
        return "spot reclaim" if machine.priority == "Spot" else "shutdown from inside"
    return "user"


def _power(machine: Any) -> str:
    view = machine.instance_view
    codes: list[str] = [] if view is None else [str(status.code) for status in view.statuses or ()]
    return next((code for code in codes if code.startswith("PowerState/")), "")
