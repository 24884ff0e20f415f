"""EC2 behind the five methods."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from autoscaler.providers.aws import fleet, preflight, requests
from autoscaler.providers.aws.client import CALLS, AwsApi
from autoscaler.providers.aws.images import Images
from autoscaler.providers.aws.quotas import quota_name
from autoscaler.providers.aws.replies import instance_of
from autoscaler.providers.base import (
    TAG_OFFER,
    TAG_OWNER,
    TAG_TOKEN,
    BadRequestError,
    Check,
    Instance,
    LaunchSpec,
    NotFoundError,
    Provider,
    ProviderBugError,
    ProviderError,
    QuotaError,
)
from fabric.config.shapes import price_in
from fabric.config.sites import AwsNodeType, AwsSite
from fabric.model.money import Tariff
from fabric.model.nodes import Market, Offer

T = TypeVar("T")
R = TypeVar("R")

# DescribeInstances takes 5 to 1000; TerminateInstances wants batches of at most this.
PAGE_SIZE = 500
_SMALLEST_PAGE = 5
_BATCH = 200


def from_site(site_name: str, site: AwsSite, owner: str) -> Provider:
    """The provider of a configured AWS site, seeing only what carries ``owner``'s tag. Makes no call."""
    return AwsProvider(site_name, site, owner)


class AwsProvider:
    """One account and region; safe to use from several threads.

    Args:
        site_name: the site's name.
        site: its block, with prices and zones filled in.
        owner: value of the owner tag.
        page_size: instances a page of a listing.
    """

    def __init__(self, site_name: str, site: AwsSite, owner: str, page_size: int = PAGE_SIZE) -> None:
        self._name = site_name
        self._site = site
        self._owner = owner
        self._page_size = max(page_size, _SMALLEST_PAGE)
        self._api = AwsApi(site)
        self._images = Images(self._api, site)
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None

    def offers(self) -> Sequence[Offer]:
        """See ``Provider.offers``. Asks nobody: what is sold is what the site's block says.

        Raises:
            BadRequestError: a market of a node type has no price.
        """
        return [
            self._offer(key, block, zone, market)
            for key, block in self._site.node_types.items()
            for zone in _zones(block)
            for market in block.market
        ]

    def launch(self, specs: Sequence[LaunchSpec]) -> Sequence[Instance | ProviderError]:
        """See ``Provider.launch``. Several at a time; user data and tags differ, so each is a call of its own."""
        return self._each(self._launch, specs)

    def list(self) -> Sequence[Instance]:
        """See ``Provider.list``. EC2 shows ended instances for about an hour."""
        found = self._instances({"Name": f"tag:{TAG_OWNER}", "Values": [self._owner]})
        if any(block.fleet for block in self._site.node_types.values()):
            fleet.remove_old_templates(self._api, self._owner)
        return found

    def terminate(self, instance_ids: Sequence[str]) -> Mapping[str, ProviderError | None]:
        """See ``Provider.terminate``."""
        ids = list(dict.fromkeys(instance_ids))
        batches = [ids[begin : begin + _BATCH] for begin in range(0, len(ids), _BATCH)]
        answers: dict[str, ProviderError | None] = {}
        for answer in self._each(self._terminate, batches):
            answers |= answer
        return answers

    def check(self) -> Sequence[Check]:
        """See ``Provider.check``."""
        return preflight.checks(self._api, self._images, self._name, self._site, self._owner, self.offers, self._spec)

    def _offer(self, key: str, block: AwsNodeType, zone: str, market: Market) -> Offer:
        price = block.price and price_in(block.price, market)
        if price is None or block.price is None:
            raise BadRequestError(
                f"sites.{self._name}.node_types.{key}: no {market} price is known for {block.instance_type} in "
                f"{self._site.region}; write one under price:, or remove {market} from market:"
            )
        name = f"{self._name}.{key}"
        return Offer(
            offer_id=f"{name}/{zone}/{market}",
            node_type=name,
            site=self._name,
            zone=zone,
            market=market,
            tariff=Tariff(price, round(block.price.minimum)),
            boot_seconds=block.boot,
        )

    def _block(self, node_type: str) -> AwsNodeType:
        site, _, key = node_type.partition(".")
        if site != self._name or key not in self._site.node_types:
            raise BadRequestError(f"site {self._name} has no node type {node_type}")
        return self._site.node_types[key]

    def _launch(self, spec: LaunchSpec) -> Instance | ProviderError:
        block: AwsNodeType | None = None
        try:
            block = self._block(spec.offer.node_type)
            return self._known(spec, self._make(spec, block))
        except ProviderError as error:
            if error.cloud_code.startswith("InvalidAMIID"):
                self._images.forget()
            if isinstance(error, QuotaError) and block:
                error.family = quota_name(block.instance_type, spec.offer.market)
            return error

    def _make(self, spec: LaunchSpec, block: AwsNodeType) -> Instance | ProviderError:
        """The instance of one launch, or the refusal that another look may explain."""
        if requests.by_fleet(spec.offer, block):
            return fleet.launch(self._api, self._images.get(), spec, self._name, self._site, block)
        request = requests.run_instances(spec, self._site, block, self._images.get())
        try:
            reply = self._api.ec2("RunInstances", **request)
        except ProviderError as error:
            if error.cloud_code in ("IdempotentInstanceTerminated", "IdempotentParameterMismatch"):
                return error
            raise
        return _only(reply.get("Instances", []), self._name, "RunInstances")

    def _known(self, spec: LaunchSpec, result: Instance | ProviderError) -> Instance:
        """The result; where EC2 only says that it knows the token, the instance that it made for it."""
        if isinstance(result, Instance):
            return result
        found = self._instances({"Name": f"tag:{TAG_TOKEN}", "Values": [spec.token]})
        # A configuration that changed between two tries makes another request of the same launch; another offer is
        # another launch.
        same = [instance for instance in found if instance.tags.get(TAG_OFFER) == spec.offer.offer_id]
        if not same:
            raise result
        return same[0]

    def _instances(self, only: Mapping[str, Any]) -> list[Instance]:
        found: dict[str, Instance] = {}
        request: dict[str, Any] = {"Filters": [only], "MaxResults": self._page_size}
        while True:
            page = self._api.ec2("DescribeInstances", **request)
            for reservation in page.get("Reservations", []):
                for item in reservation.get("Instances", []):
                    instance = instance_of(item, self._name)
                    found[instance.instance_id] = instance
            if not page.get("NextToken"):
                return list(found.values())
            request["NextToken"] = page["NextToken"]

    def _terminate(self, ids: Sequence[str]) -> dict[str, ProviderError | None]:
        """One call; where one id spoils it for all, one call for each."""
        try:
            reply = self._api.ec2("TerminateInstances", InstanceIds=ids)
        except (NotFoundError, BadRequestError) as error:
            if len(ids) == 1:
                return {ids[0]: error}
            return {key: answer for one in ids for key, answer in self._terminate([one]).items()}
        except ProviderError as error:
            return dict.fromkeys(ids, error)
        answers: dict[str, ProviderError | None] = {}
        for item in reply.get("TerminatingInstances", []):
            ended = item.get("PreviousState", {}).get("Name") == "terminated"
            answers[item["InstanceId"]] = NotFoundError(f"{item['InstanceId']} has ended") if ended else None
        unsaid = ProviderBugError("TerminateInstances did not say what became of it")
        return {one: answers.get(one, unsaid) for one in ids}

    def _spec(self, offer: Offer) -> LaunchSpec:
        """A launch for dry runs."""
        token = "fabric-preflight"  # noqa: S105 - a name
        tags = {TAG_OWNER: self._owner, TAG_TOKEN: token, TAG_OFFER: offer.offer_id}
        return LaunchSpec(token, offer, "#!/bin/sh\n", tags)

    def _each(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        if len(items) <= 1:
            return [work(item) for item in items]
        return list(self._pool().map(work, items))

    def _pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(CALLS, thread_name_prefix=f"aws-{self._name}")
                # The contract has no close: threads go with the provider, or with the process.
                weakref.finalize(self, self._threads.shutdown, wait=False)
            return self._threads


def _zones(block: AwsNodeType) -> Sequence[str]:
    """Zones that are offers of their own; ``""`` leaves the choice to EC2."""
    if block.fleet and len(block.zones) > 1 and block.reservation is None:
        return [""]
    return block.zones or [""]


def _only(items: Sequence[Mapping[str, Any]], site: str, api: str) -> Instance:
    if len(items) != 1:
        raise ProviderBugError(f"{api} was asked for one instance and answered with {len(items)}")
    return instance_of(items[0], site)
