"""The sandbox cloud as a provider: its HTTP API, and what each of its error codes means here."""

from __future__ import annotations

import weakref
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, cast

import httpx

from autoscaler.providers.base import (
    BadRequestError,
    CapacityError,
    Check,
    CredentialsError,
    Instance,
    InstanceState,
    LaunchSpec,
    NetworkError,
    NotFoundError,
    Provider,
    ProviderBugError,
    ProviderError,
    QuotaError,
    ThrottledError,
)
from fabric.config.sites import SandboxSite
from fabric.model.money import Tariff
from fabric.model.nodes import Market, Offer

ERRORS: Mapping[str, type[ProviderError]] = MappingProxyType(
    {
        "insufficient_capacity": CapacityError,
        "quota_exceeded": QuotaError,
        "rate_exceeded": ThrottledError,
        "unauthorized": CredentialsError,
        "invalid_request": BadRequestError,
        "unknown_offer": BadRequestError,
        "token_mismatch": BadRequestError,
        "fault_not_found": BadRequestError,
        "instance_not_found": NotFoundError,
        # Whoever answered did not see the call through: it may or may not have been carried out.
        "gateway_timeout": NetworkError,
        "internal_error": NetworkError,
    }
)

PAGE_SIZE = 200
TIMEOUT = httpx.Timeout(10.0, connect=3.0)


def from_site(site_name: str, site: SandboxSite, owner: str) -> Provider:
    """The provider of a configured sandbox site, seeing only what carries ``owner``'s tag."""
    return SandboxProvider(site_name, f"http://{site.endpoint}", owner, node_types=tuple(site.node_types))


class SandboxProvider:
    """A client of one sandbox server; safe to use from several threads."""

    def __init__(
        self, site: str, url: str, owner: str, node_types: Sequence[str] = (), page_size: int = PAGE_SIZE
    ) -> None:
        self._site = site
        self._url = url
        self._owner = owner
        self._node_types = node_types
        self._page_size = page_size
        # Proxies in the environment are for the internet, not for a server on this machine.
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False)
        # The contract has no close: connections go with the provider, or with the process.
        weakref.finalize(self, self._http.close)

    def offers(self) -> Sequence[Offer]:
        """See ``Provider.offers``."""
        body = self._call("GET", "/v1/offers")
        return [_offer(item, self._site) for item in body["offers"]]

    def launch(self, specs: Sequence[LaunchSpec]) -> Sequence[Instance | ProviderError]:
        """See ``Provider.launch``."""
        return [self._launch(spec) for spec in specs]

    def list(self) -> Sequence[Instance]:
        """See ``Provider.list``."""
        found: list[Instance] = []
        page: str | None = "0"
        while page is not None:
            query = {"owner": self._owner, "page": page, "limit": str(self._page_size)}
            body = self._call("GET", "/v1/instances", params=query)
            found += [_instance(item, self._site) for item in body["instances"]]
            page = body["next"]
        return found

    def terminate(self, instance_ids: Sequence[str]) -> Mapping[str, ProviderError | None]:
        """See ``Provider.terminate``."""
        return {instance_id: self._terminate(instance_id) for instance_id in instance_ids}

    def check(self) -> Sequence[Check]:
        """See ``Provider.check``."""
        try:
            health = self._call("GET", "/healthz")
            sold = {offer.node_type for offer in self.offers()}
            self.list()
        except ProviderError as error:
            remedy = f"is the sandbox server of site {self._site} running? `fabric up` starts it"
            return [Check("reachable", False, f"{self._url}: {error}", remedy)]
        checks = [Check("reachable", True, f"{self._url} answers")]
        other = health.get("site")
        if other != self._site:
            detail = f"{self._url} serves site {other!r}, not {self._site!r}"
            checks.append(Check("site", False, detail, f"give sites {self._site} and {other} different endpoints"))
        else:
            checks.append(Check("site", True, f"it serves site {self._site}"))
        missing = [key for key in self._node_types if f"{self._site}.{key}" not in sold]
        detail = f"not sold: {', '.join(missing)}" if missing else f"{len(sold)} node types are sold"
        remedy = "restart the sandbox server so that it reads the configuration again" if missing else ""
        return [*checks, Check("node types", not missing, detail, remedy)]

    def _launch(self, spec: LaunchSpec) -> Instance | ProviderError:
        request = {
            "token": spec.token,
            "node_type": spec.offer.node_type,
            "zone": spec.offer.zone,
            "market": spec.offer.market,
            "user_data": spec.user_data,
            "tags": dict(spec.tags),
        }
        try:
            return _instance(self._call("POST", "/v1/instances", json=request), self._site)
        except ProviderError as error:
            return error

    def _terminate(self, instance_id: str) -> ProviderError | None:
        try:
            self._call("DELETE", f"/v1/instances/{instance_id}")
        except ProviderError as error:
            return error
        return None

    def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise NetworkError(f"{method} {self._url}{path}: {error or type(error).__name__}") from error
        if not response.is_success:
            raise _error(response)
        return _json(response)


def _error(response: httpx.Response) -> ProviderError:
    """The typed error of a refusal; what is not in the table is a bug unless a gateway on the way said it."""
    where = f"{response.request.method} {response.request.url.path}"
    try:
        error = _json(response)["error"]
        code, message = str(error["code"]), str(error["message"])
    except (ProviderBugError, KeyError, TypeError):
        kind = NetworkError if response.is_server_error else ProviderBugError
        return kind(f"{where}: {response.text[:200]!r}", cloud_code=f"http {response.status_code}")
    kind = ERRORS.get(code, ProviderBugError)
    return kind(message, cloud_code=code, retry_after_s=_retry_after(response))


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return float(response.headers["retry-after"])
    except (KeyError, ValueError):
        return None


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        body: Any = response.json()
    except ValueError as error:
        raise ProviderBugError(f"{response.request.url.path} did not answer JSON: {error}") from error
    if not isinstance(body, dict):
        raise ProviderBugError(f"{response.request.url.path} did not answer a JSON object")
    return cast(dict[str, Any], body)


def _offer(item: dict[str, Any], site: str) -> Offer:
    with _strict("an offer"):
        return Offer(
            offer_id=item["id"],
            node_type=item["node_type"],
            site=site,
            zone=item["zone"],
            market=Market(item["market"]),
            tariff=Tariff(item["per_hour_micro_usd"], item["minimum_seconds"]),
            boot_seconds=item["boot_seconds"],
        )


def _instance(item: dict[str, Any], site: str) -> Instance:
    with _strict("an instance"):
        return Instance(
            instance_id=item["id"],
            site=site,
            state=InstanceState(item["state"]),
            tags=item["tags"],
            address=item["address"],
            launched_at_ms=item["launched_at_ms"],
            ended_at_ms=item["ended_at_ms"],
            reason=item["reason"],
        )


@contextmanager
def _strict(what: str) -> Generator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise ProviderBugError(f"{what} in the reply is not as it should be: {error!r}") from error
