"""Making machines: all PUTs at once, then all their operations until each has an answer.

Azure refuses at once (a size that is not sold) or minutes later, inside the operation (no room). What a refused
operation leaves behind is deleted; what could not be read is doubt, never a refusal, and the same token finds it again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from autoscaler.providers.azure.connect import typed
from autoscaler.providers.azure.machines import Machines
from autoscaler.providers.azure.memory import Memory
from autoscaler.providers.azure.permissions import WRITE
from autoscaler.providers.azure.reply import instance_of, is_left_over
from autoscaler.providers.azure.request import machine, machine_name
from autoscaler.providers.base import (
    TAG_OFFER,
    BadRequestError,
    CapacityError,
    Instance,
    LaunchSpec,
    NetworkError,
    NotFoundError,
    ProviderError,
)
from fabric.config.sites import AzureSite

WAIT_S = 90.0
_LOOK_EVERY_S = 0.25
_AT_ONCE = 16
_EXISTS = "PreconditionFailed"


@dataclass(slots=True)
class _Launch:
    """One launch on its way: its operation once Azure accepted it, and what the caller is given."""

    spec: LaunchSpec
    name: str
    operation: Any = None
    result: Instance | ProviderError | None = None


class Launcher:
    """Makes machines for one site.

    Args:
        name: the site's name; node types are ``<name>.<key>``.
        site: its block.
        machines: the calls.
        memory: machines that have ended.
        wait_s: longest wait for operations, in seconds; a machine that is still being made then counts as made.
    """

    def __init__(self, name: str, site: AzureSite, machines: Machines, memory: Memory, wait_s: float) -> None:
        self._name = name
        self._types = {f"{name}.{key}": block for key, block in site.node_types.items()}
        self._site = site
        self._machines = machines
        self._memory = memory
        self._wait_s = wait_s
        # Names whose failed machine is being deleted: a machine that ends there is not the launch's.
        self._cleared: set[str] = set()

    def launch(self, specs: Sequence[LaunchSpec]) -> list[Instance | ProviderError]:
        """One result per spec, in their order."""
        launches = [_Launch(spec, machine_name(spec.token)) for spec in specs]
        with ThreadPoolExecutor(min(_AT_ONCE, len(specs)) or 1, thread_name_prefix="azure-launch") as pool:
            list(pool.map(self._ask, launches))
            self._await(launches)
            list(pool.map(self._settle, [launch for launch in launches if launch.result is None]))
        return [launch.result or _doubt(launch, "nothing is known of it") for launch in launches]

    def _ask(self, launch: _Launch) -> None:
        block = self._types.get(launch.spec.offer.node_type)
        if block is None:
            launch.result = BadRequestError(f"this site sells no {launch.spec.offer.node_type}", cloud_code="node type")
            return
        launch.result = self._memory.ended(launch.name)
        if launch.result is not None:
            return
        try:
            launch.operation = self._machines.create(launch.name, machine(self._site, block, launch.spec))
        except ProviderError as error:
            launch.result = self._there(launch) if error.cloud_code == _EXISTS else _not_missing(error)

    def _await(self, launches: Sequence[_Launch]) -> None:
        deadline = time.monotonic() + self._wait_s
        pending = [launch for launch in launches if launch.operation is not None]
        while time.monotonic() < deadline:
            pending = [launch for launch in pending if not launch.operation.done()]
            if not pending:
                return
            # It raises how the operation ended; that is asked of each when all are over.
            with suppress(Exception):
                pending[0].operation.wait(min(_LOOK_EVERY_S, max(0.0, deadline - time.monotonic())))

    def _settle(self, launch: _Launch) -> None:
        """The result of a launch that Azure accepted."""
        failure = _failure(launch.operation)
        if failure is not None and not isinstance(failure, NetworkError):
            self._clear_away(launch.name)
        launch.result = failure or self._there(launch)

    def _there(self, launch: _Launch) -> Instance | ProviderError:
        """What the name of the launch has: this launch, an earlier one of the same token, or something else."""
        try:
            found = self._machines.get(launch.name)
        except NotFoundError:
            ended = self._memory.ended(launch.name)
            return ended or _doubt(launch, "it was made and is not shown")
        except ProviderError as error:
            return _doubt(launch, str(error), error)
        instance = instance_of(found, self._name)
        if instance.token != launch.spec.token or instance.tags.get(TAG_OFFER) != launch.spec.offer.offer_id:
            what = (
                f"a machine {launch.name} exists already, with the token {instance.token!r} and another offer or owner"
            )
            return BadRequestError(what, cloud_code=_EXISTS)
        if is_left_over(found) and found.provisioning_state == "Failed":
            self._clear_away(launch.name)
            return CapacityError(f"{launch.name} could not be started", cloud_code="Failed")
        if found.provisioning_state == "Deleting" and launch.name in self._cleared:
            return _doubt(launch, "what an attempt that failed has left is being deleted")
        return instance

    def _clear_away(self, name: str) -> None:
        """Azure keeps a machine that it could not start, with a disk and an interface that cost money.

        What cannot be deleted now is deleted with the next listing that shows it.
        """
        self._cleared.add(name)
        with suppress(ProviderError):
            self._machines.delete(name)


def _failure(operation: Any) -> ProviderError | None:
    """Why an operation failed; None if it did not, is not over, or could not be read to its end."""
    if not operation.done():
        return None
    try:
        operation.result()
    except Exception as error:
        # A failed operation is told with success. Any other status refuses the look at it, and says nothing of it.
        status = getattr(getattr(error, "response", None), "status_code", 0)
        return typed(error, WRITE) if 200 <= status < 300 else None
    return None


def _not_missing(error: ProviderError) -> ProviderError:
    """A PUT that finds nothing speaks of the group, the subnet or the image: of the request."""
    if isinstance(error, NotFoundError):
        return BadRequestError(error.message, cloud_code=error.cloud_code)
    return error


def _doubt(launch: _Launch, why: str, error: ProviderError | None = None) -> NetworkError:
    what = f"{launch.name} was asked for, and what came of it is unknown: {why}"
    return NetworkError(what, cloud_code=error.cloud_code if error else "no answer")
