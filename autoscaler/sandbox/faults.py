"""Faults one can script: what each is called, where it strikes and how often.

A fault with ``times`` strikes that often and is gone; without, it stands until it is cleared. Where nothing is
said (node type, zone, market, operation) it strikes everywhere.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, model_validator

from autoscaler.sandbox.errors import CloudError, ErrorCode
from autoscaler.sandbox.store import Record, Store
from autoscaler.sandbox.wire import Body, Bought, Text
from fabric.config.units import dollars_per_hour, seconds
from fabric.model.money import MicroUSD
from fabric.model.nodes import Market

FAULT_LIMIT = 1000


class Operation(StrEnum):
    """Calls that can be made to fail."""

    OFFERS = "offers"
    LAUNCH = "launch"
    LIST = "list"
    TERMINATE = "terminate"


def _duration(value: Any) -> Any:
    return seconds(value) if isinstance(value, str) else value


def _price(value: Any) -> Any:
    return dollars_per_hour(value) if isinstance(value, str) else value


Times = Annotated[int | None, Field(ge=1, le=1_000_000)]
Seconds = Annotated[float, BeforeValidator(_duration, json_schema_input_type=float | str), Field(ge=0, le=86400)]
HourlyPrice = Annotated[MicroUSD, BeforeValidator(_price, json_schema_input_type=int | str), Field(ge=0)]


class _Anywhere(Body):
    times: Times = None
    node_type: Text | None = None
    zone: Text | None = None
    market: Bought | None = None

    def strikes(self, node_type: str, zone: str, market: Market) -> bool:
        """Whether a launch of this offer is meant."""
        return (
            self.node_type in (None, node_type, node_type.partition(".")[2])
            and self.zone in (None, zone)
            and self.market in (None, market)
        )


class Capacity(_Anywhere):
    """Launches are refused for want of machines."""

    kind: Literal["capacity"]


class Quota(_Anywhere):
    """Launches are refused because the account may not have more."""

    kind: Literal["quota"]


class Throttled(Body):
    """Calls are refused with 429 and ``Retry-After``."""

    kind: Literal["throttled"]
    times: Times = None
    operation: Operation | None = None
    retry_after: Seconds = 1.0


class Credentials(Body):
    """Calls are refused with 401."""

    kind: Literal["credentials"]
    times: Times = None
    operation: Operation | None = None


class LostReply(Body):
    """The call is carried out; then the connection breaks off, or a proxy answers 504."""

    kind: Literal["lost_reply"]
    times: Times = None
    operation: Literal[Operation.LAUNCH, Operation.TERMINATE] = Operation.LAUNCH
    how: Literal["drop", "gateway_timeout"] = "drop"


class SlowBoot(_Anywhere):
    """New instances take longer to boot."""

    kind: Literal["slow_boot"]
    by: Seconds = Field(description="added to the boot delay")


class NeverBoot(_Anywhere):
    """New instances stay pending for ever, and are charged."""

    kind: Literal["never_boot"]


class Unlisted(_Anywhere):
    """New instances are missing from listings for a while (eventual consistency)."""

    kind: Literal["unlisted"]
    for_: Seconds = Field(alias="for")


class IgnoreTerminate(Body):
    """Terminate says yes and does nothing."""

    kind: Literal["ignore_terminate"]
    times: Times = None
    instance: Text | None = Field(default=None, description="id or token; any if left out")


class SpotReclaim(Body):
    """The cloud takes spot instances back: one now, or each after a random time.

    With ``rate_per_hour`` every running spot instance is reclaimed after an exponentially distributed time with
    that rate, the same for the same seed and token.
    """

    kind: Literal["spot_reclaim"]
    times: Times = None
    instance: Text | None = Field(default=None, description="id or token")
    rate_per_hour: float | None = Field(default=None, gt=0, le=1_000_000)
    notice: Seconds = 120.0
    seed: int = 0

    @model_validator(mode="after")
    def _one_of_both(self) -> SpotReclaim:
        if (self.instance is None) == (self.rate_per_hour is None):
            raise ValueError("give either an instance or a rate_per_hour")
        return self


class Crash(Body):
    """The hardware under an instance fails: everything on it is killed, without notice."""

    kind: Literal["crash"]
    instance: Text = Field(description="id or token")


class PriceSet(Body):
    """New instances cost this from now on; running ones keep the price of their launch."""

    kind: Literal["price"]
    node_type: Text
    zone: Text | None = None
    market: Bought
    per_hour: HourlyPrice = Field(description="`0.35 USD/h`, or micro-USD per hour")


Fault = Annotated[
    Capacity | Quota | Throttled | Credentials | LostReply | SlowBoot | NeverBoot | Unlisted | IgnoreTerminate
    | SpotReclaim | Crash | PriceSet,
    Field(discriminator="kind"),
]  # fmt: skip
FAULT: TypeAdapter[Fault] = TypeAdapter(Fault)


class FaultView(Body):
    """A fault as accepted: ``id`` is null when it was carried out at once and nothing stands."""

    id: int | None
    remaining: int | None
    fault: Fault


class FaultList(Body):
    """Everything that may still strike."""

    faults: list[FaultView]


class Faults:
    """The standing faults, asked at each place where one can strike."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, fault: Fault, now_ms: int) -> FaultView:
        """Let ``fault`` stand."""
        remaining = getattr(fault, "times", None)
        with self._store.transaction():
            if len(self._store.faults()) >= FAULT_LIMIT:
                raise CloudError(ErrorCode.INVALID_REQUEST, f"{FAULT_LIMIT} faults stand already; clear some")
            number = self._store.add_fault(fault.model_dump(mode="json", by_alias=True), remaining, now_ms)
        return FaultView(id=number, remaining=remaining, fault=fault)

    def standing(self) -> list[FaultView]:
        """Every fault that may still strike, oldest first."""
        return [
            FaultView(id=stored.seq, remaining=stored.remaining, fault=FAULT.validate_python(stored.fault))
            for stored in self._store.faults()
        ]

    def clear(self, number: int | None = None) -> int:
        """Remove one or all; how many."""
        return self._store.clear_faults(number)

    def guard(self, operation: Operation) -> None:
        """Refuse the call if throttling or bad credentials are scripted for it."""

        def meant(fault: Fault) -> bool:
            return isinstance(fault, Throttled | Credentials) and fault.operation in (None, operation)

        fault = self._strike(meant)
        if isinstance(fault, Throttled):
            raise CloudError(ErrorCode.RATE_EXCEEDED, f"too many {operation} calls", retry_after_s=fault.retry_after)
        if isinstance(fault, Credentials):
            raise CloudError(ErrorCode.UNAUTHORIZED, f"these credentials may not call {operation}")

    def refuse_launch(self, node_type: str, zone: str, market: Market) -> None:
        """Refuse the launch if a shortage is scripted for its offer."""
        fault = self._strike(lambda f: isinstance(f, Capacity | Quota) and f.strikes(node_type, zone, market))
        if isinstance(fault, Capacity):
            message = f"no {node_type} left in zone {zone} ({market})"
            raise CloudError(ErrorCode.INSUFFICIENT_CAPACITY, message)
        if isinstance(fault, Quota):
            raise CloudError(ErrorCode.QUOTA_EXCEEDED, f"the quota for {node_type} ({market}) is used up")

    def boot_delay_ms(self, normal_s: float, node_type: str, zone: str, market: Market) -> int | None:
        """Milliseconds from launch to boot, None for never."""
        fault = self._strike(lambda f: isinstance(f, SlowBoot | NeverBoot) and f.strikes(node_type, zone, market))
        if isinstance(fault, NeverBoot):
            return None
        return round(1000 * (normal_s + (fault.by if isinstance(fault, SlowBoot) else 0.0)))

    def unlisted_ms(self, node_type: str, zone: str, market: Market) -> int:
        """Milliseconds for which listings hide a new instance."""
        fault = self._strike(lambda f: isinstance(f, Unlisted) and f.strikes(node_type, zone, market))
        return round(1000 * fault.for_) if isinstance(fault, Unlisted) else 0

    def lost_reply(self, operation: Operation) -> LostReply | None:
        """How the reply to a call that was carried out gets lost, if it does."""
        fault = self._strike(lambda f: isinstance(f, LostReply) and f.operation == operation)
        return fault if isinstance(fault, LostReply) else None

    def ignores_terminate(self, record: Record) -> bool:
        """Whether this terminate call is to do nothing."""

        def meant(fault: Fault) -> bool:
            return isinstance(fault, IgnoreTerminate) and fault.instance in (None, record.id, record.token)

        return self._strike(meant) is not None

    def reclaims(self) -> list[tuple[int, int, SpotReclaim]]:
        """Standing reclaim rates: number, when scripted (Unix ms), and the rate."""
        found = [(s.seq, s.created_at_ms, FAULT.validate_python(s.fault)) for s in self._store.faults()]
        return [(seq, at_ms, fault) for seq, at_ms, fault in found if isinstance(fault, SpotReclaim)]

    def used(self, number: int) -> None:
        """Count a strike of a reclaim rate."""
        self._store.use_fault(number)

    def _strike(self, meant: Callable[[Fault], bool]) -> Fault | None:
        """The oldest standing fault that is meant, its strike counted."""
        with self._store.transaction():
            for stored in self._store.faults():
                fault = FAULT.validate_python(stored.fault)
                if meant(fault):
                    self._store.use_fault(stored.seq)
                    return fault
        return None


def reclaim_after_ms(fault: SpotReclaim, token: str) -> int:
    """Milliseconds an instance runs before this rate takes it: exponential, fixed by seed and token."""
    chance = random.Random(f"{fault.seed}/{token}").random()  # noqa: S311 - weather, not secrets
    return round(3_600_000 * -math.log(1.0 - chance) / (fault.rate_per_hour or 1.0))
