"""Tokens at the door of the real gateway process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.fabrics import Fabric


@pytest.fixture(scope="module")
def fabric() -> Iterator[Fabric]:
    made = Fabric(more="teams: {lab: {}, web: {}}\naccess: {requests_per_second: 5, requests_burst: 40}")
    try:
        made.start("gateway")
        yield made
    finally:
        made.close()


def typed(fabric: Fabric, *arguments: str) -> str:
    command = [sys.executable, "-m", "fabric.cli", "--config", str(fabric.path), *arguments]
    done = subprocess.run(command, env=fabric.environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def ask(fabric: Fabric, token: str) -> httpx.Response:
    url = f"http://127.0.0.1:{fabric.ports['gateway']}/api/jobs/"
    return httpx.get(url, headers={"Authorization": f"Bearer {token}"}, trust_env=False)


def test_a_token_counts_as_soon_as_it_is_made_and_a_revoked_one_is_refused_within_a_second(fabric: Fabric) -> None:
    token = typed(fabric, "token", "create", "--user", "mia", "--team", "lab")
    assert ask(fabric, token).status_code == 200
    (listed,) = json.loads(typed(fabric, "token", "list", "--json"))
    typed(fabric, "token", "revoke", listed["id"])
    revoked = time.monotonic()
    while ask(fabric, token).status_code != 401:
        assert time.monotonic() - revoked < 1.0
    assert "was revoked" in ask(fabric, token).text
    for log in (fabric.log("gateway"), *fabric.directory.glob("state/*")):
        assert not log.is_file() or token.encode() not in log.read_bytes()


def test_nobody_is_let_in_without_a_token_and_the_answer_says_what_to_do(fabric: Fabric) -> None:
    for token in ("fab_0123456789_x", "x" * 3000, "a b", "fab_", "{}"):
        answer = ask(fabric, token)
        assert answer.status_code == 401
        assert "fabric token create" in answer.text or "RAY_AUTH_TOKEN" in answer.text
    assert httpx.get(f"http://127.0.0.1:{fabric.ports['gateway']}/api/jobs/", trust_env=False).status_code == 401


def test_one_user_asks_too_often_and_another_does_not_notice(fabric: Fabric) -> None:
    mia = typed(fabric, "token", "create", "--user", "mia", "--team", "lab")
    noa = typed(fabric, "token", "create", "--user", "noa", "--team", "web")
    url = f"http://127.0.0.1:{fabric.ports['gateway']}/api/jobs/"
    with httpx.Client(headers={"Authorization": f"Bearer {mia}"}, trust_env=False) as client:
        answers = [client.get(url) for _ in range(80)]
    late = [answer for answer in answers if answer.status_code == 429]
    assert late and all(int(answer.headers["retry-after"]) >= 1 for answer in late)
    assert {answer.status_code for answer in answers} == {200, 429}
    assert ask(fabric, noa).status_code == 200
