"""Endpoint, CA bundle, proxy and credentials, from ``fabric.yaml`` alone; and a server that is killed in between."""

from __future__ import annotations

import datetime
import ipaddress
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from autoscaler.providers.base import BadRequestError, CredentialsError, Instance, NetworkError
from autoscaler.providers.gcp import GcpProvider
from autoscaler.providers.gcp.connect import Connection
from autoscaler.providers.registry import provider_for
from fabric.config.sites import GcpSite
from tests.conftest import wait_until
from tests.contract.gcp.serving import ROOT, SITE, GcpServer, site
from tests.sandboxes import unused_port


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for loopback that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "compute on loopback")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert, secret = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return cert, secret


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcpServer]:
    """A server behind TLS that only its own certificate signs."""
    folder = tmp_path_factory.mktemp("gcp-tls")
    cert, key = certificate(folder)
    server = GcpServer(folder, "--cert", str(cert), "--key", str(key), scheme="https", ca=cert).start()
    yield server
    server.stop()


def test_a_private_endpoint_behind_its_own_ca_is_reached_with_the_bundle_of_the_site(private, owner):
    with_ca = private.site(ca=str(private.folder / "cert.pem"))
    assert all(check.ok for check in private.provider(owner, site=with_ca).check())

    checks = private.provider(owner, site=private.site()).check()
    assert not checks[0].ok
    assert "CA bundle" in checks[0].remedy
    with pytest.raises(NetworkError, match="CERTIFICATE_VERIFY_FAILED"):
        private.provider(owner, site=private.site()).list()


def test_calls_and_tokens_go_through_the_proxy_of_the_site_and_no_other(google, owner, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_port()}")
    assert list(google.provider(owner).list()) == [], "the environment's proxy is not asked"

    # Nobody listens at the endpoint: only a proxy can answer for it.
    nobody = f"http://127.0.0.1:{unused_port()}"
    account = json.loads(google.account.read_text()) | {"token_uri": f"{nobody}/token"}
    elsewhere = google.folder / "elsewhere.json"
    elsewhere.write_text(json.dumps(account))
    through = site({"endpoint": nobody, "proxy": google.url, "credentials": str(elsewhere)})
    assert list(google.provider(owner, site=through).list()) == []


def test_google_s_own_chain_is_asked_where_the_site_names_nothing(private, owner, monkeypatch):
    bare = site({"endpoint": private.url, "ca": str(private.folder / "cert.pem")})
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(private.account))
    assert list(private.provider(owner, site=bare).list()) == []

    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(private.folder / "nothing.json"))
    with pytest.raises(CredentialsError):
        private.provider(owner, site=bare).list()


def test_an_emulator_on_this_machine_gets_no_credentials_unless_a_file_is_named(monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file")
    for named in ({}, {"credentials": "anonymous"}):
        connection = Connection(site({"endpoint": "http://127.0.0.1:9", **named}))
        transport = connection.client("instances").transport
        assert type(transport._session.credentials).__name__ == "AnonymousCredentials"


def test_credentials_are_never_sent_in_the_clear(owner, google):
    clear = site({"endpoint": "http://compute.example.org", "credentials": str(google.account)})
    with pytest.raises(BadRequestError, match="in the clear"):
        GcpProvider(SITE, clear, owner).list()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("not json", "cannot be read"),
        ("{}", "the type ''"),
        ('{"type": "external_account", "credential_source": {"executable": {"command": "id"}}}', "runs no program"),
        ('{"type": "service_account"}', "client_email"),
    ],
)
def test_a_credentials_file_that_is_none_says_what_is_wrong_with_it(tmp_path, owner, content, words):
    file = tmp_path / "credentials.json"
    if content is not None:
        file.write_text(content)
    here = site({"endpoint": "https://127.0.0.1:9", "credentials": str(file)})
    with pytest.raises(CredentialsError, match=words):
        GcpProvider(SITE, here, owner).list()


def test_other_kinds_of_credentials_are_google_s_own_formats(tmp_path):
    source = {"url": "http://127.0.0.1:9/token"}
    kinds = {
        "identity_pool": {
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/p",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": "https://sts.googleapis.com/v1/token",
            "credential_source": source,
        },
        "credentials": {"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"},
    }
    for module, content in kinds.items():
        file = tmp_path / f"{module}.json"
        file.write_text(json.dumps(content))
        connection = Connection(site({"endpoint": "https://127.0.0.1:9", "credentials": str(file)}))
        session = connection.client("instances").transport._session
        assert type(session.credentials).__module__.endswith(module)


def test_the_public_endpoint_is_that_of_the_universe_of_the_credentials(google, tmp_path):
    assert Connection(site({})).endpoint() == "https://compute.googleapis.com"
    assert Connection(site({"endpoint": "https://psc.example.org/compute/v1"})).endpoint() == "https://psc.example.org"

    file = tmp_path / "sovereign.json"
    file.write_text(json.dumps(json.loads(google.account.read_text()) | {"universe_domain": "s3nsapis.fr"}))
    sovereign = Connection(site({"credentials": str(file)}))
    assert sovereign.client("instances").transport._host == "https://compute.s3nsapis.fr"
    assert sovereign.iam_endpoint() == "https://cloudresourcemanager.s3nsapis.fr"


def test_a_killed_server_is_doubt_and_nothing_is_lost_when_it_is_back(tmp_path, owner, spec):
    server = GcpServer(tmp_path).start()
    provider, first, second = server.provider(owner), spec(), spec()
    (instance,) = provider.launch([first])
    assert isinstance(instance, Instance)
    server.kill()
    (doubt,) = provider.launch([second])
    assert type(doubt) is NetworkError
    with pytest.raises(NetworkError):
        provider.list()

    server.start()
    # Tokens were in memory only, so the first call signs in again.
    again = [one for one in provider.launch([first, second]) if isinstance(one, Instance)]
    assert again[0].instance_id == instance.instance_id
    assert {one.instance_id for one in provider.list()} == {one.instance_id for one in again}
    provider.terminate([one.instance_id for one in again])
    wait_until(lambda: not server.ask("state")["instances"], what="the end")
    server.stop()


def test_the_registry_makes_the_provider_and_the_sdk_is_imported_with_the_first_call(google, owner):
    assert isinstance(provider_for(SITE, google.site(), owner), GcpProvider)
    code = (
        "import sys; import autoscaler.providers.gcp; "
        "bad = [name for name in sys.modules if name.startswith(('google.cloud', 'google.auth', 'requests'))]; "
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert isinstance(google.site(), GcpSite)
