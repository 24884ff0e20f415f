"""The boot script: what it holds, what it checks, and that the machine ends with its agent."""

from __future__ import annotations

import os
import platform
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.boot.script import EXIT_CODES, USER_DATA_LIMIT, BootSpec, environment, render
from autoscaler.boot.settings import SettingsError, take_settings
from fabric.gateway.refusals import Versions
from fabric.model.events import Event
from tests.conftest import wait_until
from tests.unit.gateway.serving import Gateway

ROOT = Path(__file__).parents[3]
PYTHON = ".".join(platform.python_version_tuple()[:2])
SPEC = BootSpec(
    token="fab-0123456789abcdef0123",
    site="sky",
    node_type="sky.box",
    ticket="the-ticket",
    gateway="http://127.0.0.1:9",
    python=PYTHON,
    ray="2.60.0",
    resources={"CPU": 4, "GPU": 1, "memory": 2**34},
    labels={"fabric/site": "sky"},
)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


def run(script: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    path = folder / "boot.sh"
    path.write_text(script)
    base = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["/bin/sh", str(path)], env=base | environ, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def interpreter(folder: Path, agent: str) -> str:
    """A machine's Python whose checks pass and that runs ``agent``, a line of sh, in place of the module."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\ncase "$1" in\n-c) echo {PYTHON} ;;\n-) cat >/dev/null ;;\n-m) {agent} ;;\nesac\n')
    path.chmod(0o755)
    return str(path)


def test_the_script_is_clean_posix_shell(tmp_path: Path) -> None:
    path = tmp_path / "boot.sh"
    path.write_text(render(replace(SPEC, end_command="shutdown -h now", labels={"a": 'it\'s "$(id)" `x`\\'})))
    done = subprocess.run(["shellcheck", "-s", "sh", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_script_fits_into_user_data_and_says_so_when_it_does_not() -> None:
    assert len(render(SPEC).encode()) < USER_DATA_LIMIT / 2
    with pytest.raises(ValueError, match="the limit is 16384"):
        render(replace(SPEC, labels={f"label-{index}": "x" * 200 for index in range(100)}))


def test_a_script_without_a_pinned_certificate_is_never_made_for_https() -> None:
    with pytest.raises(ValueError, match="fingerprint"):
        replace(SPEC, gateway="https://10.0.0.1:8400")


@settings(max_examples=25, deadline=None)
@given(value=TEXT)
def test_every_value_arrives_in_the_agent_as_it_was_given(value: str, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("machine")
    python = interpreter(folder, f"cat /proc/self/environ > {folder}/environ")
    done = run(
        render(replace(SPEC, labels={"x": value}, end_command=value and ": " + value, work_dir=value)),
        folder,
        FABRIC_PYTHON=python,
        FABRIC_END_COMMAND="",
    )
    assert done.returncode == 0, done.stderr
    environ = dict(item.split(b"=", 1) for item in (folder / "environ").read_bytes().split(b"\0") if item)
    told = {name.decode(): text.decode() for name, text in environ.items()}
    expected = environment(replace(SPEC, labels={"x": value}, work_dir=value)) | {"FABRIC_PYTHON": python}
    assert {name: told[name] for name in expected} == expected


def test_what_the_machine_says_about_itself_wins(tmp_path: Path) -> None:
    python = interpreter(tmp_path, 'echo "$FABRIC_METADATA_URL $FABRIC_WORK_DIR $FABRIC_TICKET"')
    done = run(
        render(replace(SPEC, work_dir="/told", metadata_url="http://told")),
        tmp_path,
        FABRIC_PYTHON=python,
        FABRIC_METADATA_URL="http://real",
        FABRIC_TICKET="forged",
    )
    assert done.stdout == "http://real /told the-ticket\n"


def test_without_a_python_it_says_so_and_ends_the_machine(tmp_path: Path) -> None:
    done = run(render(replace(SPEC, end_command=f"/usr/bin/touch {tmp_path}/ended")), tmp_path, PATH="/nowhere")
    assert done.returncode == 10
    assert "no python3 on this machine" in done.stderr
    assert (tmp_path / "ended").exists()


HERE = Versions(platform.python_version(), "2.60.0")
PYTHON_DIFFERS = f"Python is {HERE.python} here and 3.99 in the cluster; use Python 3.99"
RAY_DIFFERS = "Ray is 2.60.0 here and 2.99.0 in the cluster; install ray==2.99.0"


@pytest.mark.parametrize(
    ("wanted", "head", "code", "sentence", "reason"),
    [
        ({"python": "3.99"}, Versions("3.99.1", "2.60.0"), 11, PYTHON_DIFFERS, "python_version"),
        ({"ray": "2.99.0"}, Versions(HERE.python, "2.99.0"), 13, RAY_DIFFERS, "ray_version"),
        # The head was downgraded after the script was made: the machine must not take the ticket with it.
        ({"ray": "2.99.0"}, HERE, 13, RAY_DIFFERS, "boot_checks"),
    ],
)
def test_another_version_is_said_here_and_in_the_journal_and_ends_the_machine(
    tmp_path: Path, wanted: dict[str, str], head: Versions, code: int, sentence: str, reason: str
) -> None:
    gateway = Gateway(tmp_path, tls=True, ours=head)
    try:
        end = f"touch {tmp_path}/ended"
        where = {"gateway": gateway.url, "fingerprint": gateway.fingerprint, "ticket": gateway.intend("fab-1").text}
        done = run(render(replace(SPEC, end_command=end, **where, **wanted)), tmp_path)
        assert done.returncode == code and code in EXIT_CODES
        assert sentence in done.stderr
        assert (tmp_path / "ended").exists()
        (refused,) = gateway.entries(Event.JOIN_REFUSED)
        assert (refused.data["token"], refused.data["reason"]) == ("fab-1", reason)
        assert gateway.entries(Event.NODE_JOINED) == []
    finally:
        gateway.close()


def test_a_refusal_by_version_is_told_to_the_gateway_only_under_its_own_certificate(
    https: Gateway, tmp_path: Path
) -> None:
    spec = replace(SPEC, ray="2.99.0", gateway=https.url, fingerprint="0" * 64, ticket=https.intend("fab-1").text)
    done = run(render(spec), tmp_path)
    assert "the gateway could not be told: its certificate is not the expected one" in done.stderr
    assert https.entries(Event.JOIN_REFUSED) == https.entries(Event.NODE_JOINED) == []


def test_without_ray_it_says_what_to_install(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec "{os.path.realpath(sys.executable)}" -I "$@"\n')
    bare.chmod(0o755)
    done = run(render(SPEC), tmp_path, FABRIC_PYTHON=str(bare))
    assert done.returncode == 12
    assert re.search(r"Ray is not installed for .*; install ray==2\.60\.0", done.stderr)


def test_without_the_package_it_says_what_to_install(tmp_path: Path) -> None:
    installed = tmp_path / "ray-2.60.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: ray\nVersion: 2.60.0\n")
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec "{os.path.realpath(sys.executable)}" -S "$@"\n')
    bare.chmod(0o755)
    done = run(render(SPEC), tmp_path, FABRIC_PYTHON=str(bare), PYTHONPATH=str(tmp_path))
    assert done.returncode == 14
    assert "elastic-ai-fabric is not installed for" in done.stderr


def test_a_machine_ends_when_its_agent_is_killed_without_a_word(tmp_path: Path) -> None:
    python = interpreter(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    script = tmp_path / "boot.sh"
    script.write_text(render(replace(SPEC, end_command=f"touch {tmp_path}/ended", interpreter=python)))
    process = subprocess.Popen(["/bin/sh", str(script)], stderr=subprocess.DEVNULL)
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), what="the agent")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert process.wait(timeout=10) == 128 + signal.SIGKILL
    assert (tmp_path / "ended").exists()


def test_a_machine_that_is_asked_to_stop_lets_its_agent_finish_first(tmp_path: Path) -> None:
    agent = (
        f"trap 'sleep 0.3; touch {tmp_path}/finished; exit 0' TERM; touch {tmp_path}/up; while :; do sleep 0.1; done"
    )
    script = tmp_path / "boot.sh"
    python = interpreter(tmp_path, agent)
    script.write_text(
        render(replace(SPEC, end_command=f"test -e {tmp_path}/finished && touch {tmp_path}/ended", interpreter=python))
    )
    process = subprocess.Popen(["/bin/sh", str(script)], stderr=subprocess.DEVNULL)
    wait_until((tmp_path / "up").exists, what="the agent")
    process.terminate()
    assert process.wait(timeout=10) == 0
    assert (tmp_path / "ended").exists()


def test_the_agent_takes_its_settings_out_of_the_environment() -> None:
    environ = environment(replace(SPEC, end_command="true", object_store_bytes=10**8)) | {"PATH": "/bin"}
    taken = take_settings(environ)
    assert (taken.token, taken.ticket, taken.rented) == (SPEC.token, "the-ticket", True)
    assert (taken.resources, taken.labels, taken.object_store_bytes) == (SPEC.resources, SPEC.labels, 10**8)
    assert set(environ) == {"PATH", "RAY_AUTH_MODE", "FABRIC_TOKEN", "FABRIC_SITE", "FABRIC_NODE_TYPE"}
    assert "the-ticket" not in repr(taken)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("FABRIC_TOKEN", "", "FABRIC_TOKEN is not set"),
        ("FABRIC_RESOURCES", "{", "FABRIC_RESOURCES is not JSON"),
        ("FABRIC_RESOURCES", '{"CPU": "4"}', "FABRIC_RESOURCES is not a JSON object of int or float"),
        ("FABRIC_LABELS", "[]", "FABRIC_LABELS is not a JSON object of str"),
        ("FABRIC_LEASE_S", "soon", "FABRIC_LEASE_S is 'soon'"),
        ("FABRIC_BOOT_DEADLINE_S", "-1", "FABRIC_BOOT_DEADLINE_S is '-1'"),
        ("FABRIC_OBJECT_STORE_BYTES", "1GiB", "FABRIC_OBJECT_STORE_BYTES is '1GiB'"),
    ],
)
def test_a_bad_setting_is_named(name: str, value: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(complaint)):
        take_settings(environment(SPEC) | {name: value})


def test_every_exit_code_and_every_refusal_is_on_the_page_about_joining() -> None:
    page = (ROOT / "docs" / "howto" / "join-a-node.md").read_text()
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.M)} == set(EXIT_CODES)
    # What people are told, rather than nodes, is on the pages about access and the Jobs API.
    for_people = ("callers.py", "dashboard.py")
    files = [path for path in (ROOT / "fabric" / "gateway").glob("*.py") if path.name not in for_people]
    source = "".join(path.read_text() for path in files)
    codes = set(re.findall(r"RefusalError\(\s*[\w.]+,\s*\"(\w+)\"", source))
    assert len(codes) > 10
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.M)) == codes
