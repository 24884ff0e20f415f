"""The doctor finds what would keep the fabric from running here, and says what to do about it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner

from autoscaler.boot.trust import Certificate, cluster_token_file, ensure_certificate
from fabric.cli.made_for import MadeFor, made_for
from fabric.cli.main import cli
from fabric.cli.run_dir import Record, RunDir
from fabric.cli.state_checks import QUICK_ENTRIES
from fabric.journal.base import Draft
from fabric.journal.sqlite import SqliteJournal
from fabric.model.events import Event
from tests.unit.cli.surgery import Place, place_in, state_of

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def place(tmp_path: Path, free_port: Callable[[], int]) -> Place:
    return place_in(tmp_path, free_port)


def test_where_nothing_is_wrong_nothing_fails_and_the_exit_code_is_0(place: Place) -> None:
    cluster_token_file(place.state)
    place.state.chmod(0o700)
    with closing(place.journal()) as journal:
        journal.append([Draft(Event.FABRIC_STARTED, {"process": "test"})])
    findings = place.findings(0)
    for name in ("Python", "Ray", "configuration", "ports", "secrets", "state directory", "cluster token", "journal"):
        assert state_of(findings, name) == {"ok"}, name
    assert state_of(findings, "clock") <= {"ok", "warn"}


def test_before_the_first_start_nothing_is_missing(place: Place) -> None:
    findings = place.findings(0)
    told = " ".join(finding["detail"] for finding in findings)
    assert told.count("fabric up makes") == 4  # state directory, secrets, token, journal
    assert not place.state.exists(), "the doctor only looks"


def test_a_port_somebody_else_has_is_named_with_who_has_it(place: Place) -> None:
    with socket.create_server(("127.0.0.1", place.ports["gateway"])):
        (found,) = place.failures("ports")
    assert f"127.0.0.1:{place.ports['gateway']} (listen.gateway)" in found["detail"]
    assert f"process {os.getpid()}" in found["detail"]


def test_a_secret_that_others_can_read_is_named_with_the_remedy(place: Place) -> None:
    token = cluster_token_file(place.state)
    token.chmod(0o644)
    (found,) = place.failures("secrets")
    assert str(token) in found["detail"]
    assert "0644" in found["detail"]
    assert "chmod" in found["remedy"]


@pytest.mark.parametrize(("mode", "state"), [(0o700, "ok"), (0o755, "warn"), (0o777, "fail")])
def test_a_state_directory_is_private(place: Place, mode: int, state: str) -> None:
    place.state.mkdir()
    place.state.chmod(mode)
    assert state_of(place.findings(1 if state == "fail" else 0), "state directory") == {state}


def test_an_empty_cluster_token_fails(place: Place) -> None:
    cluster_token_file(place.state).write_text("\n")
    (found,) = place.failures("cluster token")
    assert "no token" in found["detail"]


def test_a_cluster_token_that_is_gone_while_the_fabric_is_up_fails(place: Place) -> None:
    run = RunDir.of(place.config)
    run.create(Record(str(place.config), str(place.state), time.time()), place.config.read_bytes())
    try:
        (found,) = place.failures("cluster token")
    finally:
        run.remove()
    assert "gone" in found["detail"]


def test_a_shell_that_uses_another_token_is_warned(place: Place) -> None:
    ours = cluster_token_file(place.state)
    other = place.root / "other.token"
    other.write_text("0" * 64)
    place.environment = {"RAY_AUTH_TOKEN": "", "RAY_AUTH_TOKEN_PATH": str(other)}
    assert state_of(place.findings(0), "cluster token") == {"warn"}
    place.environment = {"RAY_AUTH_TOKEN": "", "RAY_AUTH_TOKEN_PATH": str(ours)}
    assert state_of(place.findings(0), "cluster token") == {"ok"}


def tamper(journal: Path, seq: int) -> None:
    """Change one entry behind the journal's back."""
    with closing(sqlite3.connect(journal)) as database:
        database.execute("DROP TRIGGER IF EXISTS entries_are_never_changed")
        database.execute("UPDATE entries SET data = replace(data, 'one', 'two') WHERE seq = ?", (seq,))
        database.commit()


def test_a_changed_entry_of_the_journal_is_named(place: Place) -> None:
    with closing(place.journal()) as journal:
        journal.append([Draft(Event.FABRIC_STARTED, {"process": "one"}) for _ in range(5)])
    tamper(place.state / "journal.db", 3)
    (found,) = place.failures("journal")
    assert "entry 3" in found["detail"]


def test_of_a_long_journal_only_the_newest_entries_are_verified_and_it_says_so(place: Place) -> None:
    entries = QUICK_ENTRIES + 10
    with closing(place.journal()) as journal:
        journal.append([Draft(Event.FABRIC_STARTED, {"process": "one"}) for _ in range(entries)])
    tamper(place.state / "journal.db", 4)
    (found,) = [finding for finding in place.findings(0) if finding["name"] == "journal"]
    assert f"newest {QUICK_ENTRIES} of {entries}" in found["detail"]
    tamper(place.state / "journal.db", 11)
    assert "entry 11" in place.failures("journal")[0]["detail"]


def test_a_clock_that_was_set_back_is_found_by_the_newest_entry(place: Place) -> None:
    place.state.mkdir(mode=0o700)
    with closing(SqliteJournal(place.state / "journal.db", "test", lambda: time.time() + 3600)) as journal:
        journal.append([Draft(Event.FABRIC_STARTED, {"process": "one"})])
    (found,) = place.failures("clock")
    assert "future" in found["detail"]


@contextmanager
def gateway_an_hour_ahead(address: tuple[str, int], certificate: Certificate | None = None) -> Iterator[None]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate((timestamp or time.time()) + 3600, usegmt=True)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = HTTPServer(address, Answer)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_gateway_whose_clock_is_an_hour_off_fails(place: Place) -> None:
    with gateway_an_hour_ahead(("127.0.0.1", place.ports["gateway"])):
        (found,) = place.failures("gateway clock")
    assert "3600" in found["detail"] or "3599" in found["detail"]


def test_the_clock_of_a_gateway_beyond_loopback_is_read_over_https(place: Place) -> None:
    gateway = f"127.0.0.1:{place.ports['gateway']}"
    place.config.write_text(place.config.read_text().replace(gateway, f"0.0.0.0:{place.ports['gateway']}"))
    certificate = ensure_certificate(place.root / "of the gateway", "192.0.2.1")
    with gateway_an_hour_ahead(("0.0.0.0", place.ports["gateway"]), certificate):
        (found,) = place.failures("gateway clock")
    assert "3600" in found["detail"] or "3599" in found["detail"]


def test_a_temporary_folder_too_long_for_rays_sockets_fails(place: Place) -> None:
    place.write(more_ray=f", temp_dir: /tmp/{'x' * 38}")
    (found,) = place.failures("configuration")
    assert "sockets" in found["detail"]


def test_a_broken_configuration_is_one_finding_and_the_machine_is_looked_at_all_the_same(place: Place) -> None:
    place.config.write_text("sites: {}\nbrust: {}\n")
    findings = place.findings(1)
    (broken,) = [finding for finding in findings if finding["state"] == "fail"]
    assert broken["name"] == "configuration"
    assert f"{place.config}:2:1" in broken["detail"]
    assert {"Python", "Ray", "SQLite", "open files"} <= {finding["name"] for finding in findings}


def test_namespaces_need_the_command_ip(place: Place) -> None:
    place.write(network="namespaces", host="10.88.0.1")
    place.environment["PATH"] = str(place.root)
    assert any("command ip" in found["detail"] for found in place.failures("namespaces"))


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and the command ip")
def test_root_with_the_command_ip_can_have_namespaces(place: Place) -> None:
    place.write(network="namespaces", host="10.88.0.1")
    done = CliRunner().invoke(cli, ["doctor", "--json", "-c", str(place.config)], env=place.environment)
    assert state_of(json.loads(done.stdout), "namespaces") == {"ok"}


def test_the_address_of_a_bridge_that_up_has_yet_to_make_is_no_mistake(place: Place) -> None:
    subnet = "198.51.100.0/24"  # for documentation (RFC 5737): no machine has it
    place.write(network=f"namespaces, subnet: {subnet}", host="198.51.100.1")
    done = CliRunner().invoke(cli, ["doctor", "--json", "-c", str(place.config)], env=place.environment)
    findings = [found for found in json.loads(done.stdout) if found["name"] == "ports"]
    assert {found["state"] for found in findings} == {"ok"}
    (later,) = [found["detail"] for found in findings if "198.51.100.1" in found["detail"]]
    assert "fabric up makes the address" in later
    assert {str(place.ports["gateway"]), str(place.ports["ray"])} <= set(re.findall(r"\d+", later))


def test_an_address_that_nobody_makes_fails(place: Place) -> None:
    place.write(host="198.51.100.1")
    assert any("198.51.100.1" in found["detail"] for found in place.failures("ports"))


def test_python_and_ray_are_compared_with_what_the_package_requires(place: Place) -> None:
    wanted, written = made_for(), tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert made_for("no-such-package") == MadeFor(written["requires-python"], "ray[serve,default]==2.60.0")
    assert wanted.ray_version == version("ray") == "2.60.0"
    assert state_of(place.findings(0), "Ray") == {"ok"}
    (place.root / "pyproject.toml").write_text('[project]\nrequires-python = "~=3.0"\ndependencies = ["rays==1"]\n')
    assert made_for("no-such-package", place.root) == MadeFor("~=3.0", "")
    assert made_for("no-such-package", place.root / "nowhere") == MadeFor("", "")


@pytest.mark.parametrize(
    ("wanted", "version", "good"),
    [
        (">=3.11,<3.14", "3.11.0", True),
        ("<3.14,>=3.11", "3.13.7", True),
        ("<3.14, >= 3.11", "3.14.0rc1", False),
        (">=3.11,<3.14", "3.9.20", False),
        (">=3.11", "3.20.1", True),
        ("", "2.7.18", True),
    ],
)
def test_a_python_is_in_the_range_or_not(wanted: str, version: str, good: bool) -> None:
    assert MadeFor(wanted, "").takes_python(version) is good


def test_without_a_namespace_site_nothing_is_said_of_namespaces(place: Place) -> None:
    assert state_of(place.findings(0), "namespaces") == set()


def test_another_distribution_and_package_called_fabric_are_found(place: Place) -> None:
    path = place.root / "site"
    (path / "fabric").mkdir(parents=True)
    (path / "fabric" / "__init__.py").write_text("")
    (path / "fabric-3.2.2.dist-info").mkdir()
    (path / "fabric-3.2.2.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: fabric\nVersion: 3.2.2\n")
    done = subprocess.run(
        [sys.executable, "-m", "fabric.cli", "doctor", "--json", "-c", str(place.config)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    findings = [finding for finding in json.loads(done.stdout) if finding["name"] == "import name"]
    assert any("3.2.2" in finding["detail"] and finding["state"] == "fail" for finding in findings)
    assert any(str(path / "fabric") in finding["detail"] for finding in findings)


def test_in_a_terminal_each_finding_is_a_line_and_each_remedy_is_below_it(place: Place) -> None:
    cluster_token_file(place.state).chmod(0o644)
    done = CliRunner().invoke(cli, ["doctor", "-c", str(place.config)], env=place.environment)
    lines = done.stdout.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("✗")]
    assert lines[at].startswith("✗ secrets: ")
    assert lines[at + 1].startswith("    Run: chmod")
    assert done.exit_code == 1
