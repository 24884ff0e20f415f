"""The way to Google's API: credentials, endpoint, CA bundle and proxy as the site says, and no others.

``credentials`` of a site is a file in one of Google's own formats (service account, external account, authorised
user), the word ``anonymous``, or nothing: then Application Default Credentials are asked, as gcloud and metadata
servers give them. Over plain http nothing that is secret is sent: it is for emulators on this machine, which get no
credentials unless a file is named.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from importlib import import_module
from typing import Any, TypeVar

from autoscaler.providers.gcp.credentials import credentials_of
from autoscaler.providers.gcp.errors import of_call
from fabric.config.sites import GcpSite

T = TypeVar("T")

# Longer than Google takes to answer; operations are polled, never waited for in one call.
TIMEOUT_S = 20.0
CONNECTIONS = 32
_PUBLIC_API_VERSION = "/compute/v1"
_METADATA_SERVERS = ("http://metadata.google.internal", "http://169.254.169.254")


class Connection:
    """Clients of one site's API; safe to use from several threads. Nothing is imported or read before the first call.

    Args:
        site: the site's block of the configuration.
    """

    def __init__(self, site: GcpSite) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._session: Any = None
        self._universe = "googleapis.com"

    def call(self, what: str, make: Callable[[], T]) -> T:
        """Run one call into the SDK.

        Raises:
            ProviderError: what the SDK raised, by the table.
        """
        try:
            return make()
        except Exception as error:
            raise of_call(error, what) from error

    def client(self, service: str) -> Any:
        """The SDK's client of a service, for example ``instances``; made when first wanted.

        Raises:
            CredentialsError: no credentials, or none that can be read.
            BadRequestError: the endpoint is no place to send credentials to.
        """
        with self._lock:
            if service not in self._clients:
                session = self._open()
                package = import_module(f"google.cloud.compute_v1.services.{service}")
                name = "".join(word.capitalize() for word in service.split("_"))
                kind = getattr(package, f"{name}Client")
                transport = kind.get_transport_class("rest")(host=self.endpoint(), credentials=session.credentials)
                # The session that a transport makes for itself knows neither our CA nor our proxy.
                transport._session.close()
                transport._session = session
                transport._prep_wrapped_messages(_client_info())
                self._clients[service] = kind(transport=transport)
            return self._clients[service]

    def post(self, url: str, body: dict[str, Any]) -> Any:
        """POST JSON to another of Google's APIs, one that this SDK has no client for; the reply's JSON.

        Raises:
            ProviderError: as for any other call.
        """
        exceptions: Any = import_module("google.api_core.exceptions")

        def ask() -> Any:
            with self._lock:
                session = self._open()
            response = session.post(url, json=body, timeout=TIMEOUT_S)
            if response.status_code >= 300:
                raise exceptions.from_http_response(response)
            return response.json()

        return self.call(f"POST {url}", ask)

    def clock(self) -> float | None:
        """The API's clock in Unix seconds, from a reply's ``Date``; None where it does not say.

        Raises:
            NetworkError: it does not answer.
        """

        def ask() -> float | None:
            reply = self._plain().get(self.endpoint() + "/discovery/v1/apis", timeout=TIMEOUT_S)
            told = reply.headers.get("Date")
            return parsedate_to_datetime(told).timestamp() if told else None

        return self.call(f"GET {self.endpoint()}", ask)

    def endpoint(self) -> str:
        """Scheme and host, and the path before ``/compute/v1`` if there is one."""
        if self._site.endpoint is not None:
            return self._site.endpoint.removesuffix(_PUBLIC_API_VERSION)
        return f"https://compute.{self._universe}"

    def iam_endpoint(self) -> str:
        """Where the Resource Manager API is."""
        return self._site.iam_endpoint or self._site.endpoint or f"https://cloudresourcemanager.{self._universe}"

    def _open(self) -> Any:
        if self._session is None:
            self._session = self.call("reading credentials", self._make_session)
        return self._session

    def _make_session(self) -> Any:
        from google.auth.transport.requests import AuthorizedSession, Request

        request = Request(session=self._plain())
        credentials = credentials_of(self._site, request)
        self._universe = getattr(credentials, "universe_domain", None) or self._universe
        session = AuthorizedSession(credentials, max_refresh_attempts=1, auth_request=request)
        return self._route(session)

    def _plain(self) -> Any:
        from requests import Session

        return self._route(Session())

    def _route(self, session: Any) -> Any:
        from requests.adapters import HTTPAdapter

        for prefix in ("https://", "http://"):
            session.mount(prefix, HTTPAdapter(pool_maxsize=CONNECTIONS, pool_block=True))
        session.trust_env = False
        session.verify = self._site.ca or True
        if self._site.proxy is not None:
            session.proxies = {"http": self._site.proxy, "https": self._site.proxy}
            session.proxies |= dict.fromkeys(_METADATA_SERVERS, "")
        return session


def _client_info() -> Any:
    """Who calls, for Google's logs."""
    client_info: Any = import_module("google.api_core.gapic_v1.client_info")
    return client_info.ClientInfo(user_agent="elastic-ai-fabric")
