"""The SDK behind one door: clients made from the site's block alone, and every failure as a typed error."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from autoscaler.providers.aws.errors import error_of, sdk_error_of
from autoscaler.providers.base import CredentialsError, ProviderError
from fabric.config.sites import AwsSite

# Concurrent calls that one provider makes.
CALLS = 16
_CONNECT_S = 5.0
_READ_S = 60.0

_loader_lock = threading.Lock()
_loaders: list[Any] = []


class AwsApi:
    """Calls to EC2 and STS for one site; safe to use from several threads.

    Nothing is read from the environment but credentials, and those only where the site names no file or profile.
    """

    def __init__(self, site: AwsSite) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}

    def ec2(self, api: str, **request: Any) -> Mapping[str, Any]:
        """One call to EC2, for example ``ec2("RunInstances", …)``.

        Raises:
            ProviderError: by ``autoscaler.providers.aws.errors``.
        """
        return self._call("ec2", api, request)

    def sts(self, api: str) -> Mapping[str, Any]:
        """One call to STS.

        Raises:
            ProviderError: by ``autoscaler.providers.aws.errors``.
        """
        return self._call("sts", api, {})

    def quotas(self, api: str, **request: Any) -> Mapping[str, Any]:
        """One call to Service Quotas.

        Raises:
            ProviderError: by ``autoscaler.providers.aws.errors``.
        """
        return self._call("service-quotas", api, request)

    def _call(self, service: str, api: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return self._ask(service, api, request)
        except CredentialsError:
            # Keys may be renewed outside: the next call reads them again.
            with self._lock:
                self._clients.pop(service, None)
            raise

    def _ask(self, service: str, api: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        exceptions: Any = import_module("botocore.exceptions")
        try:
            client = self._client(service)
            return getattr(client, import_module("botocore").xform_name(api))(**request)
        except exceptions.ClientError as error:
            raise _refusal(error, api) from error
        except (exceptions.BotoCoreError, import_module("botocore.parsers").ResponseParserError) as error:
            raise sdk_error_of(error, api) from error

    def _client(self, service: str) -> Any:
        # Made on first use: a profile that does not exist is an answer to a call, not a controller that cannot start.
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._make(service)
            return self._clients[service]

    def _make(self, service: str) -> Any:
        site = self._site
        core: Any = import_module("botocore.session").Session()
        core.register_component("data_loader", _loader())
        if site.credentials:
            core.set_config_variable("credentials_file", site.credentials)
        # A profile that is named, be it the default one, keeps keys in the environment from being used instead.
        profile = site.profile or ("default" if site.credentials else None)
        if profile:
            core.set_config_variable("profile", profile)
        return core.create_client(
            service,
            region_name=site.region,
            endpoint_url=self._endpoint(service),
            verify=site.ca or True,
            config=import_module("botocore.config").Config(
                connect_timeout=_CONNECT_S,
                read_timeout=_READ_S,
                # Whoever calls knows whether to try again, or elsewhere.
                retries={"total_max_attempts": 1},
                # An empty table keeps proxies of the environment out.
                proxies={"http": site.proxy, "https": site.proxy} if site.proxy else {},
                max_pool_connections=CALLS + 2,
                ignore_configured_endpoint_urls=True,
            ),
        )

    def _endpoint(self, service: str) -> str | None:
        if service == "ec2" or self._site.endpoint is None:
            return self._site.endpoint
        if service == "sts" and self._site.sts_endpoint:
            return self._site.sts_endpoint
        return beside(self._site.endpoint, "sts" if service == "sts" else "servicequotas")


def beside(endpoint: str, service: str) -> str | None:
    """Where another service is, given where EC2 is; None where the SDK knows better.

    ``https://ec2.REGION.DOMAIN`` has its neighbours beside it. A private endpoint (``vpce``) serves EC2 only. Any
    other, such as an emulator's, is taken to serve everything.
    """
    parts = urlsplit(endpoint)
    host = parts.netloc
    if ".vpce." in host:
        return None
    if host.startswith("ec2."):
        host = f"{service}.{host.removeprefix('ec2.')}"
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _loader() -> Any:
    """One reader of service models for all: EC2's has megabytes."""
    with _loader_lock:
        if not _loaders:
            _loaders.append(import_module("botocore.loaders").create_loader(None))
        return _loaders[0]


def _refusal(error: Any, api: str) -> ProviderError:
    reply = error.response
    told = reply.get("Error", {})
    status = int(reply.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return error_of(str(told.get("Code", status)), str(told.get("Message", "")) or f"HTTP {status}", status, api)
