"""The way to Azure Resource Manager: credentials, endpoint, CA bundle and proxy as the site says, and no others.

``credentials`` of a site is a file with ``clientId``, ``tenantId`` and ``clientSecret`` or ``clientCertificatePath``,
as ``az ad sp create-for-rbac --json-auth`` writes it; left out, azure-identity's own chain is asked (environment,
workload identity, managed identity, ``az login``).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from autoscaler.providers.azure.errors import entra_code, error_of, sdk_error_of
from autoscaler.providers.base import CredentialsError, ProviderError
from fabric.config.sites import AzureSite

T = TypeVar("T")

PUBLIC_ENDPOINT = "https://management.azure.com"
TIMEOUT_S = 20.0
POLL_EVERY_S = 5.0


class Connection:
    """Clients of one site's API; safe to use from several threads. Nothing is imported or read before the first call.

    Args:
        site: the site's block of the configuration.
        poll_every_s: pause between two looks at an operation, where Azure names none.

    Attributes:
        clock_ms: Azure's clock with the last ``get``, in Unix milliseconds; 0 before.
    """

    def __init__(self, site: AzureSite, poll_every_s: float = POLL_EVERY_S) -> None:
        self._site = site
        self._poll_every_s = poll_every_s
        self._lock = threading.Lock()
        self._client: Any = None
        self._credential: Any = None
        self.clock_ms = 0

    @property
    def endpoint(self) -> str:
        """Azure Resource Manager's base URL."""
        return self._site.endpoint or PUBLIC_ENDPOINT

    def call(self, api: str, make: Callable[[Any], T]) -> T:
        """Run one call with the SDK's client.

        Args:
            api: the operation as Azure's permissions name it, for the message.
            make: what to do with a ``ComputeManagementClient``.

        Raises:
            ProviderError: what Azure or the SDK answered, by the tables.
        """
        try:
            return make(self.client())
        except ProviderError:
            raise
        except Exception as error:
            raise typed(error, api) from error

    def client(self) -> Any:
        """The SDK's client; made when first wanted.

        Raises:
            CredentialsError: no credentials, or none that can be read.
        """
        with self._lock:
            if self._client is None:
                from azure.mgmt.compute import ComputeManagementClient

                self._client = ComputeManagementClient(
                    self.credential(),
                    self._site.subscription,
                    base_url=self.endpoint,
                    credential_scopes=[self.scope],
                    transport=self._transport(),
                    retry_total=0,
                    polling_interval=self._poll_every_s,
                    connection_timeout=TIMEOUT_S,
                    read_timeout=TIMEOUT_S,
                )
            return self._client

    @property
    def scope(self) -> str:
        """What tokens are asked for."""
        return f"{self._site.audience or self.endpoint}/.default"

    def get(self, path: str, api_version: str, api: str) -> dict[str, Any]:
        """GET a resource that this SDK has no client for; the reply's JSON.

        Raises:
            ProviderError: as for any other call.
        """
        from azure.core.rest import HttpRequest

        def ask(client: Any) -> dict[str, Any]:
            request = HttpRequest("GET", f"{self.endpoint}{path}", params={"api-version": api_version})
            response = client._client.send_request(request)
            self.clock_ms = reply_time_ms(response.headers) or self.clock_ms
            response.raise_for_status()
            return cast(dict[str, Any], response.json())

        return self.call(api, ask)

    def credential(self) -> Any:
        """The credential of the site, for tokens.

        Raises:
            CredentialsError: the file that the site names cannot be used.
        """
        if self._credential is None:
            self._credential = self._make_credential()
        return self._credential

    def _make_credential(self) -> Any:
        from azure import identity

        options: dict[str, Any] = {"transport": self._transport(), "retry_total": 0}
        if self._site.authority is not None:
            options |= {"authority": self._site.authority, "disable_instance_discovery": True}
        if self._site.credentials is None:
            return identity.DefaultAzureCredential(**options)
        known = self._read_file(Path(self._site.credentials))
        try:
            if "clientCertificatePath" in known:
                certificate = known["clientCertificatePath"]
                return identity.CertificateCredential(known["tenantId"], known["clientId"], certificate, **options)
            return identity.ClientSecretCredential(
                known["tenantId"], known["clientId"], known["clientSecret"], **options
            )
        except (KeyError, ValueError, OSError) as error:
            what = f"the credentials file {self._site.credentials} cannot be used: {error}"
            raise CredentialsError(what, cloud_code="file") from error

    @staticmethod
    def _read_file(path: Path) -> dict[str, str]:
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CredentialsError(f"the credentials file {path} cannot be read: {error}", cloud_code="file") from error
        if not isinstance(content, dict):
            raise CredentialsError(f"the credentials file {path} holds no JSON object", cloud_code="file")
        return cast(dict[str, str], content)

    def _transport(self) -> Any:
        from azure.core.pipeline.transport import RequestsTransport
        from requests import Session

        session = Session()
        session.trust_env = False
        if self._site.proxy is not None:
            session.proxies = {"http": self._site.proxy, "https": self._site.proxy}
        return RequestsTransport(
            session=session, session_owner=False, connection_verify=self._site.ca or True, use_env_settings=False
        )


def typed(error: Exception, api: str) -> ProviderError:
    """The typed error of an exception of the SDK."""
    response = getattr(error, "response", None)
    if response is None:
        return sdk_error_of(error, api)
    status = int(getattr(response, "status_code", 0) or 0)
    code, message = "", getattr(error, "message", None) or str(error)
    body = getattr(error, "error", None)
    if body is not None:
        code, message = str(getattr(body, "code", "") or ""), str(getattr(body, "message", "") or message)
        # The cause is in the details where the code only says that something failed.
        for detail in getattr(body, "details", None) or ():
            if code in ("", "DeploymentFailed", "ResourceDeploymentFailure", "ResourceOperationFailure"):
                code, message = str(detail.code or code), str(detail.message or message)
    code = code or entra_code(message)
    if status == 412:
        # A condition of ours: the code's spelling differs between Azure's services.
        code = "PreconditionFailed"
    return error_of(code, message, status, api, _seconds(response.headers.get("Retry-After")))


def reply_time_ms(headers: Any) -> int:
    """Unix milliseconds of a reply by Azure's own clock; 0 where it does not say."""
    try:
        return round(parsedate_to_datetime(headers["Date"]).timestamp() * 1000)
    except (KeyError, TypeError, ValueError):
        return 0


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
