"""The cloud itself: what it sells, what it made, what it charges. Answers calls; ``lifecycle.py`` does the work.

Calls only write down what is wanted, and return; they may come from many threads. One thread, the lifecycle's,
boots and ends machines and writes down what happened.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from autoscaler.providers.base import TAG_OWNER, InstanceState
from autoscaler.sandbox.catalogue import Catalogue
from autoscaler.sandbox.errors import CloudError, ErrorCode, LostReplyError
from autoscaler.sandbox.faults import Crash, Fault, Faults, FaultView, LostReply, Operation, PriceSet, SpotReclaim
from autoscaler.sandbox.hypervisor import Hypervisor
from autoscaler.sandbox.lifecycle import Lifecycle
from autoscaler.sandbox.network import Network, NoAddressLeftError
from autoscaler.sandbox.store import Record, Store
from autoscaler.sandbox.wire import USER_DATA_LIMIT, Bill, BillLine, LaunchRequest
from fabric.model.money import Tariff
from fabric.model.nodes import Market

LIVE_LIMIT = 256
ENDED_LISTED_MS = 24 * 3_600_000


class Cloud:
    """One sandbox site."""

    def __init__(
        self,
        site_name: str,
        catalogue: Catalogue,
        store: Store,
        hypervisor: Hypervisor,
        network: Network,
        now_ms: Callable[[], int],
    ) -> None:
        self.site_name = site_name
        self.catalogue = catalogue
        self.store = store
        self.faults = Faults(store)
        self._hypervisor = hypervisor
        self._network = network
        self._now_ms = now_ms
        self._launching = threading.Lock()
        self.lifecycle = Lifecycle(store, self.faults, hypervisor, now_ms)

    def launch(self, request: LaunchRequest) -> Record:
        """Write a new instance down as pending, or return the one this token made before.

        Raises:
            CloudError: refused.
            LostReplyError: made, but the caller is not to hear of it.
        """
        self.faults.guard(Operation.LAUNCH)
        if len(request.user_data.encode()) > USER_DATA_LIMIT:
            message = f"user data is longer than {USER_DATA_LIMIT} bytes"
            raise CloudError(ErrorCode.INVALID_REQUEST, message)
        offer = self.catalogue.find(request.node_type, request.zone, request.market)
        with self._launching:
            record = self.store.by_token(request.token)
            if record is None:
                record = self._make(request, offer.node_type, offer.tariff, offer.boot_seconds)
            elif record.offer_id != offer.offer_id:
                message = f"token {request.token} has bought {record.offer_id}; it cannot buy {offer.offer_id}"
                raise CloudError(ErrorCode.TOKEN_MISMATCH, message)
        self.lifecycle.wake()
        self._lose_reply(self.faults.lost_reply(Operation.LAUNCH))
        return record

    def page(self, owner: str | None, after: int, limit: int) -> list[Record]:
        """Up to ``limit`` instances launched after number ``after``; ended ones are listed for a day."""
        self.faults.guard(Operation.LIST)
        now_ms = self._now_ms()
        return self.store.page(owner, after, limit, now_ms, now_ms - ENDED_LISTED_MS)

    def get(self, id_or_token: str) -> Record:
        """One instance, ended or not.

        Raises:
            CloudError: ``instance_not_found``.
        """
        record = self.store.find(id_or_token)
        if record is None:
            raise CloudError(ErrorCode.INSTANCE_NOT_FOUND, f"there is no instance {id_or_token}")
        return record

    def terminate(self, instance_id: str) -> Record:
        """Write down that an instance is to end; repeat until it is not found.

        Raises:
            CloudError: ``instance_not_found``, also for one that has ended.
            LostReplyError: accepted, but the caller is not to hear of it.
        """
        self.faults.guard(Operation.TERMINATE)
        record = self._get_live(instance_id)
        if not self.faults.ignores_terminate(record):
            self._end(record, "user")
        self._lose_reply(self.faults.lost_reply(Operation.TERMINATE))
        return self.get(instance_id)

    def script(self, fault: Fault) -> FaultView:
        """Carry a fault out at once, or let it stand.

        Raises:
            CloudError: it names an instance or an offer that does not exist, or there are too many.
        """
        if isinstance(fault, PriceSet):
            self.catalogue.set_price(fault)
        elif isinstance(fault, Crash):
            self.lifecycle.crash(self._get_live(fault.instance).id)
        elif isinstance(fault, SpotReclaim) and fault.instance is not None:
            record = self._get_live(fault.instance)
            if record.market is not Market.SPOT:
                message = f"{record.id} is not a spot instance; only those are reclaimed"
                raise CloudError(ErrorCode.INVALID_REQUEST, message)
            self.store.update(record.id, reclaim_at_ms=self._now_ms() + round(1000 * fault.notice))
            self.lifecycle.wake()
        else:
            view = self.faults.add(fault, self._now_ms())
            self.lifecycle.wake()
            return view
        return FaultView(id=None, remaining=None, fault=fault)

    def bill(self, owner: str | None = None) -> Bill:
        """Every instance there ever was, with what it costs; those that still run are counted up to now."""
        now_ms = self._now_ms()
        lines = [bill_line(record, now_ms) for record in self.store.all(owner)]
        return Bill(
            site=self.site_name,
            at_ms=now_ms,
            lines=lines,
            open_instances=sum(line.open for line in lines),
            total_micro_usd=sum(line.micro_usd for line in lines),
        )

    def end_all(self, reason: str) -> None:
        """Write down that every live instance is to end."""
        for record in self.store.live():
            self._end(record, reason)

    def console(self, record: Record, limit: int) -> str:
        """The last ``limit`` bytes an instance's user data printed."""
        return self._hypervisor.console(record.id, limit)

    def _make(self, request: LaunchRequest, node_type: str, tariff: Tariff, boot_s: float) -> Record:
        zone, market = request.zone, request.market
        self.faults.refuse_launch(node_type, zone, market)
        live = self.store.live()
        if len(live) >= LIVE_LIMIT:
            message = f"this account may have {LIVE_LIMIT} instances at once"
            raise CloudError(ErrorCode.QUOTA_EXCEEDED, message)
        try:
            address = self._network.pick_address(record.address for record in live)
        except NoAddressLeftError as error:
            raise CloudError(ErrorCode.INSUFFICIENT_CAPACITY, str(error)) from error
        now_ms = self._now_ms()
        delay_ms = self.faults.boot_delay_ms(boot_s, node_type, zone, market)
        instance_id = self._hypervisor.id_for(request.token)
        self._hypervisor.prepare(instance_id, request.user_data)
        return self.store.insert(
            {
                "id": instance_id,
                "token": request.token,
                "owner": request.tags.get(TAG_OWNER, ""),
                "node_type": node_type,
                "zone": zone,
                "market": market,
                "tags": request.tags,
                "state": InstanceState.PENDING,
                "address": address,
                "per_hour": tariff.per_hour,
                "minimum_seconds": tariff.minimum_seconds,
                "launched_at_ms": now_ms,
                "listed_at_ms": now_ms + self.faults.unlisted_ms(node_type, zone, market),
                "boot_at_ms": None if delay_ms is None else now_ms + delay_ms,
            }
        )

    def _get_live(self, id_or_token: str) -> Record:
        record = self.get(id_or_token)
        if record.state is InstanceState.ENDED:
            raise CloudError(ErrorCode.INSTANCE_NOT_FOUND, f"{record.id} has ended")
        return record

    def _end(self, record: Record, reason: str) -> None:
        self.store.update(
            record.id,
            (InstanceState.PENDING, InstanceState.RUNNING),
            state=InstanceState.ENDING,
            end_asked_at_ms=self._now_ms(),
            reason=reason,
        )
        self.lifecycle.wake()

    def _lose_reply(self, fault: LostReply | None) -> None:
        if fault is None:
            return
        if fault.how == "gateway_timeout":
            raise CloudError(ErrorCode.GATEWAY_TIMEOUT, "the proxy got no answer in time")
        raise LostReplyError


def bill_line(record: Record, now_ms: int) -> BillLine:
    """What one instance costs, or costs so far."""
    until_ms = now_ms if record.ended_at_ms is None else record.ended_at_ms
    lifetime_ms = until_ms - record.launched_at_ms
    return BillLine(
        instance=record.id,
        token=record.token,
        node_type=record.node_type,
        offer=record.offer_id,
        market=record.market,  # pyright: ignore[reportArgumentType] - only sold markets are stored
        launched_at_ms=record.launched_at_ms,
        ended_at_ms=record.ended_at_ms,
        open=record.ended_at_ms is None,
        seconds=max(record.tariff.minimum_seconds, -(-max(lifetime_ms, 0) // 1000)),
        per_hour_micro_usd=record.tariff.per_hour,
        micro_usd=record.tariff.cost(lifetime_ms),
    )
