"""Google's credentials as a site names them, and Google's own chain where it names none."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from autoscaler.providers.base import BadRequestError, CredentialsError
from fabric.config.sites import GcpSite

ANONYMOUS = "anonymous"
SCOPES = (
    "https://www.googleapis.com/auth/compute",
    # For the preflight's question which permissions these credentials have.
    "https://www.googleapis.com/auth/cloud-platform.read-only",
)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def credentials_of(site: GcpSite, request: Any) -> Any:
    """The SDK's credentials for a site.

    Args:
        site: the site's block.
        request: a ``google.auth`` transport, by which tokens are fetched.

    Raises:
        BadRequestError: the endpoint is no place to send credentials to.
        CredentialsError: the file is not there, or not one of Google's.
        google.auth.exceptions.GoogleAuthError: Google's own chain has none.
    """
    endpoint = urlsplit(site.endpoint or "")
    if endpoint.scheme == "http" and endpoint.hostname not in _LOOPBACK:
        what = f"{site.endpoint} would carry credentials in the clear"
        raise BadRequestError(f"{what}; name an https endpoint, or one on this machine", cloud_code="endpoint")
    if site.credentials == ANONYMOUS or (site.credentials is None and endpoint.scheme == "http"):
        return import_module("google.auth.credentials").AnonymousCredentials()
    if site.credentials is None:
        return import_module("google.auth").default(scopes=SCOPES, request=request)[0]
    return _from_file(Path(site.credentials))


def _from_file(path: Path) -> Any:
    """Credentials of one of the kinds that are no more than what they say; a file that runs a program is refused."""
    try:
        info: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CredentialsError(f"the credentials file {path} cannot be read: {error}", cloud_code="file") from error
    told = cast(dict[str, Any], info) if isinstance(info, dict) else {}
    kind = str(told.get("type", ""))
    if kind == "service_account":
        module: Any = import_module("google.oauth2.service_account")
        return module.Credentials.from_service_account_info(told, scopes=SCOPES)
    if kind == "authorized_user":
        module = import_module("google.oauth2.credentials")
        return module.Credentials.from_authorized_user_info(told)
    source: Any = told.get("credential_source", {})
    if kind == "external_account" and "executable" not in source:
        aws = str(source.get("environment_id", "")).startswith("aws")
        module = import_module("google.auth.aws" if aws else "google.auth.identity_pool")
        return module.Credentials.from_info(told, scopes=SCOPES)
    raise CredentialsError(
        f"the credentials file {path} has the type {kind!r}; give one of type service_account, authorized_user, or "
        "external_account that runs no program",
        cloud_code="file",
    )
