"""How Azure is reached: endpoint, CA bundle, proxy and credentials as the site says, and no others."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from autoscaler.providers.azure import AzureProvider
from autoscaler.providers.base import CredentialsError, Instance, NetworkError
from autoscaler.providers.registry import provider_for
from tests.contract.azure.entra import CLIENT, TENANT
from tests.contract.azure.serving import ROOT, SECRET, SITE, AzureServer
from tests.sandboxes import unused_port


def test_without_the_bundle_of_the_site_the_endpoint_is_not_trusted(azure: AzureServer, owner):
    (check,) = azure.provider(owner, site=azure.site().model_copy(update={"ca": None})).check()
    assert not check.ok
    assert "ca" in check.remedy
    with pytest.raises(NetworkError, match="CERTIFICATE_VERIFY_FAILED"):
        azure.provider(owner, site=azure.site().model_copy(update={"ca": None})).list()


def test_the_proxy_is_the_site_s_and_never_the_environment_s(azure: AzureServer, owner, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_port()}")
    assert list(azure.provider(owner).list()) == []

    behind = azure.site(proxy=f"http://127.0.0.1:{unused_port()}")
    with pytest.raises(NetworkError, match=r"(?i)proxy"):
        azure.provider(owner, site=behind).list()


def test_azure_s_own_chain_is_asked_where_the_site_names_no_file(azure: AzureServer, owner, monkeypatch):
    for name, value in {"TENANT_ID": TENANT, "CLIENT_ID": CLIENT, "CLIENT_SECRET": SECRET}.items():
        monkeypatch.setenv(f"AZURE_{name}", value)
    here = azure.site().model_copy(update={"credentials": None})
    assert list(azure.provider(owner, site=here).list()) == []


@pytest.mark.parametrize(
    "content",
    ["not json", "[]", json.dumps({"clientId": CLIENT}), json.dumps({"clientId": CLIENT, "tenantId": TENANT})],
)
def test_a_credentials_file_that_is_none_says_so(azure: AzureServer, owner, tmp_path, content):
    file = tmp_path / "credentials.json"
    file.write_text(content)
    with pytest.raises(CredentialsError, match=r"credentials\.json"):
        azure.provider(owner, site=azure.site(credentials=str(file))).list()


def test_a_private_endpoint_names_what_its_tokens_are_for(azure: AzureServer, owner):
    # The test server gives tokens for its own address only.
    elsewhere = azure.site(audience="https://management.azure.com")
    with pytest.raises(CredentialsError) as refusal:
        azure.provider(owner, site=elsewhere).list()
    assert refusal.value.cloud_code == "AADSTS70011"
    assert list(azure.provider(owner, site=azure.site(audience=azure.url)).list()) == []


def test_the_registry_makes_the_provider_and_it_can_launch(azure: AzureServer, owner, spec):
    provider = provider_for(SITE, azure.site(), owner)
    assert isinstance(provider, AzureProvider)
    (made,) = azure.provider(owner).launch([spec()])
    assert isinstance(made, Instance)
    assert [one.instance_id for one in provider.list()] == [made.instance_id]
    provider.terminate([made.instance_id])


def test_the_sdk_is_imported_with_the_first_call():
    script = "import sys, autoscaler.providers.azure; sys.exit(any(n.startswith('azure.') for n in sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0
