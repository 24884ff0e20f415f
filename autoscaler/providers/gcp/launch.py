"""Making instances: all inserts at once, then all their operations until each has an answer.

A stock-out comes inside the operation, after Google has accepted the call. What a failed operation leaves behind is
cleared away; what could not be read is doubt, never a refusal, and the same token finds it again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from autoscaler.providers.base import (
    BadRequestError,
    Instance,
    InstanceState,
    LaunchSpec,
    NetworkError,
    NotFoundError,
    ProviderError,
    ThrottledError,
)
from autoscaler.providers.gcp.errors import of_operation
from autoscaler.providers.gcp.instances import Instances
from autoscaler.providers.gcp.reply import Found, done, end_of, unix_ms
from autoscaler.providers.gcp.request import by_bulk_insert, instance, instance_name, request_id
from fabric.config.sites import GcpSite

T = TypeVar("T")
R = TypeVar("R")

WAIT_S = 60.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_AT_ONCE = 16


@dataclass(slots=True)
class _Launch:
    """One launch on its way.

    Attributes:
        operation: the insert's, once Google has accepted it.
        result: what the caller is given.
        zones: where the instance may be.
        doubts: why its operation could not be read.
    """

    spec: LaunchSpec
    name: str
    operation: Any = None
    result: Found | ProviderError | None = None
    zones: Sequence[str] = ()
    doubts: list[ProviderError] = field(default_factory=list[ProviderError])


class Launcher:
    """Makes instances for one site.

    Args:
        name: the site's name; node types are ``<name>.<key>``.
        site: its block.
        instances: the calls.
        failed: told the zone and name of what a failed operation may have left behind.
        wait_s: longest wait for operations, in seconds; an instance that is still being made then counts as made.
    """

    def __init__(
        self,
        name: str,
        site: GcpSite,
        instances: Instances,
        failed: Callable[[str, str], None],
        wait_s: float = WAIT_S,
    ) -> None:
        self._types = {f"{name}.{key}": block for key, block in site.node_types.items()}
        self._site = site
        self._instances = instances
        self._failed = failed
        self._wait_s = wait_s
        # Operations that ended in throttling, by token: Google would answer the same requestId with the same failure.
        self._spent: Counter[str] = Counter()

    def launch(self, specs: Sequence[LaunchSpec]) -> list[Found | ProviderError]:
        """One result per spec, in their order."""
        launches = [_Launch(spec, instance_name(spec.token)) for spec in specs]
        with ThreadPoolExecutor(min(_AT_ONCE, len(specs)) or 1, thread_name_prefix="gcp-launch") as pool:
            _each(pool, self._insert, launches)
            self._await(pool, launches)
            _each(pool, self._settle, [launch for launch in launches if launch.result is None])
        return [
            launch.result or NetworkError(f"nothing is known of {launch.name}", cloud_code="no answer")
            for launch in launches
        ]

    def _insert(self, launch: _Launch) -> None:
        spec = launch.spec
        block = self._types.get(spec.offer.node_type)
        if block is None:
            what = f"this site sells no {spec.offer.node_type}"
            launch.result = BadRequestError(what, cloud_code="node type")
            return
        try:
            resource, request = instance(self._site, block, spec), request_id(spec, self._spent[spec.token])
            if spec.offer.zone:
                launch.zones = [spec.offer.zone]
                launch.operation = self._instances.insert(spec.offer.zone, resource, request)
            elif not by_bulk_insert(block):
                launch.result = BadRequestError(f"{spec.offer.offer_id} names no zone", cloud_code="zone")
            else:
                launch.zones = block.zones
                self._insert_anywhere(launch, resource, request)
        except ProviderError as error:
            if error.cloud_code in ("alreadyExists", "http 409"):
                launch.result = self._existing(launch)
            elif isinstance(error, NotFoundError):
                launch.result = BadRequestError(error.message, cloud_code=error.cloud_code)
            else:
                launch.result = error

    def _insert_anywhere(self, launch: _Launch, resource: dict[str, Any], request: str) -> None:
        """A name is unique in its zone only, so the other zones are looked through first."""
        try:
            launch.result = self._checked(launch, self._look(launch))
        except NotFoundError:
            launch.operation = self._instances.insert_anywhere(launch.zones, resource, request)

    def _look(self, launch: _Launch) -> Found:
        """The instance, in whichever zone it is."""
        for zone in launch.zones[:-1]:
            with suppress(NotFoundError):
                return self._instances.get(zone, launch.name)
        return self._instances.get(launch.zones[-1], launch.name)

    def _await(self, pool: ThreadPoolExecutor, launches: Sequence[_Launch]) -> None:
        """Read the operations until all are done or the time is over; pauses grow, so 100 launches are few calls."""
        deadline, pause = time.monotonic() + self._wait_s, _FIRST_PAUSE_S
        while pending := [launch for launch in launches if launch.operation is not None and not _done(launch)]:
            if time.monotonic() + pause > deadline:
                return
            time.sleep(pause)
            pause = min(pause * 1.6, _LONGEST_PAUSE_S)
            _each(pool, self._read, pending)

    def _read(self, launch: _Launch) -> None:
        try:
            launch.operation = self._instances.operation(launch.spec.offer.zone, str(launch.operation.name))
        except ProviderError as error:
            launch.doubts.append(error)

    def _settle(self, launch: _Launch) -> None:
        """The result of a launch whose insert was accepted."""
        if _done(launch) and (error := of_operation(launch.operation)) is not None:
            if error.cloud_code == "RESOURCE_ALREADY_EXISTS":
                launch.result = self._existing(launch)
                return
            self._again(launch, spent=isinstance(error, ThrottledError))
            launch.result = error
            return
        try:
            launch.result = self._checked(launch, self._look(launch))
        except NotFoundError as error:
            launch.result = self._ended(launch) if _done(launch) else _doubt(launch, error)
        except ProviderError as error:
            launch.result = _doubt(launch, error)

    def _existing(self, launch: _Launch) -> Found | ProviderError:
        """What the name of the launch already has: an earlier launch of the same token, or something else."""
        try:
            return self._checked(launch, self._look(launch))
        except NotFoundError as error:
            # What has the name is a disk that an earlier attempt left: away with it, and then once more.
            self._again(launch)
            return _doubt(launch, error)
        except ProviderError as error:
            return _doubt(launch, error)

    def _again(self, launch: _Launch, spent: bool = True) -> None:
        """Clear away what a failed attempt left; ``spent``: the same token may be tried once more."""
        if spent:
            self._spent[launch.spec.token] += 1
        for zone in launch.zones:
            self._failed(zone, launch.name)

    def _checked(self, launch: _Launch, there: Found) -> Found | ProviderError:
        if there.instance.token == launch.spec.token and there.offer == launch.spec.offer.offer_id:
            return there
        has = f"token {there.instance.token!r} and offer {there.offer!r}"
        wanted = f"token {launch.spec.token!r} and offer {launch.spec.offer.offer_id!r}"
        what = f"{there.instance.instance_id} exists already with {has}, not with {wanted}"
        return BadRequestError(what, cloud_code="alreadyExists")

    def _ended(self, launch: _Launch) -> Found | ProviderError:
        """The instance of a token that was launched before and is gone, as Google's operations tell it."""
        try:
            zone, number = self._made(launch)
            end = end_of(self._instances.operations_on(zone, [number])) if number else None
        except ProviderError as error:
            return _doubt(launch, error)
        if end is None:
            return NetworkError(f"{launch.name} was made and is not shown yet", cloud_code="not shown")
        ended = Instance(
            instance_id=f"{zone}/{launch.name}",
            site=launch.spec.offer.site,
            state=InstanceState.ENDED,
            tags=dict(launch.spec.tags),
            launched_at_ms=unix_ms(str(launch.operation.insert_time)),
            ended_at_ms=end.at_ms,
            reason=end.reason,
        )
        return Found(ended, number, launch.spec.offer.offer_id)

    def _made(self, launch: _Launch) -> tuple[str, int]:
        """Zone and number of what an operation made; no number where that is not known (yet)."""
        if launch.spec.offer.zone:
            return launch.spec.offer.zone, int(launch.operation.target_id)
        for zone in launch.zones:
            if number := self._instances.made_by(zone, str(launch.operation.operation_group_id)):
                return zone, number
        return "", 0


def _done(launch: _Launch) -> bool:
    return launch.operation is not None and done(launch.operation)


def _doubt(launch: _Launch, error: ProviderError) -> NetworkError:
    """Google accepted the launch and what came of it could not be read: whatever the reason, it may exist."""
    words = "; ".join(dict.fromkeys(str(doubt) for doubt in [*launch.doubts[-1:], error]))
    what = f"{launch.name} was asked for, and what came of it is unknown: {words}"
    return NetworkError(what, cloud_code=error.cloud_code, retry_after_s=error.retry_after_s)


def _each(pool: ThreadPoolExecutor, act: Callable[[T], R], items: Iterable[T]) -> list[R]:
    return list(pool.map(act, items))
