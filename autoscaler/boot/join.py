"""Joining: a ticket, or the credential of an earlier join, is traded for what a node needs."""

from __future__ import annotations

import json
import platform
import random
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from autoscaler.boot.link import Answer, GatewayLink, UnreachableError
from autoscaler.boot.private import write_private
from autoscaler.boot.settings import Settings

_RETRIED = frozenset({408, 425, 429})


class RefusedError(Exception):
    """The gateway said no for good; the message is its sentence."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What the gateway answered, and the monotonic time at which it was asked (from which the lease counts)."""

    asked_at: float
    lease_s: float
    ray_address: str
    token_file: Path
    credential: str = field(repr=False)
    labels: Mapping[str, str] = field(default_factory=dict)


def join(
    settings: Settings, link: GatewayLink, clock: Callable[[], float], say: Callable[[str], None], pause: Pause
) -> Joined:
    """Ask until the gateway answers. Network errors and 5xx are asked again, with growing pauses.

    Args:
        settings: who asks, and where its files are.
        link: the gateway.
        clock: monotonic seconds.
        say: called with each new reason for waiting.
        pause: waits; returns True when the asking has to stop.

    Raises:
        RefusedError: the gateway refused, or ``pause`` said stop.
    """
    proofs = _proofs(settings)
    said = ""
    for delay in _delays():
        asked_at = clock()
        try:
            answer = link.post("/v1/join", proofs[0] | _facts(settings.work_dir))
            if answer.status == 200:
                return _keep(settings, answer, asked_at)
            reason = answer.sentence or f"the gateway answered {answer.status}"
            if 400 <= answer.status < 500 and answer.status not in _RETRIED:
                if len(proofs) == 1 or answer.code != "credential_unknown":
                    raise RefusedError(reason)
                # A credential from an earlier fabric; the ticket is newer.
                proofs.pop(0)
                continue
        except UnreachableError as error:
            reason = str(error)
        if reason != said:
            say(f"cannot join yet: {reason}")
            said = reason
        if pause(delay):
            break
    raise RefusedError("stopped while joining")


Pause = Callable[[float], bool]


def _proofs(settings: Settings) -> list[dict[str, Any]]:
    """What we can show, best first: a credential if there is one of this token, then the ticket."""
    proofs: list[dict[str, Any]] = []
    try:
        kept = json.loads(_credential_file(settings).read_text(encoding="utf-8"))
        if kept["token"] == settings.token:
            proofs.append({"token": kept["token"], "credential": kept["credential"]})
    except (OSError, ValueError, KeyError, TypeError):
        pass
    if settings.ticket:
        proofs.append({"ticket": settings.ticket})
    if not proofs:
        raise RefusedError(
            f"there is neither a ticket nor the credential of an earlier join in {settings.work_dir}; "
            "make a join script with `fabric nodes join-script`"
        )
    return proofs


def _facts(work_dir: Path) -> dict[str, Any]:
    try:
        ray = version("ray")
    except PackageNotFoundError:
        ray = ""
    return {
        "nonce": _nonce(work_dir),
        "python": platform.python_version(),
        "ray": ray,
        "clock": time.time(),
        "hostname": socket.gethostname(),
    }


def _nonce(work_dir: Path) -> str:
    """Kept on disk before it is sent: an agent that died between question and answer can ask again."""
    path = work_dir / "nonce"
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        nonce = secrets.token_hex(16)
        write_private(path, nonce.encode())
        return nonce


def _keep(settings: Settings, answer: Answer, asked_at: float) -> Joined:
    body = answer.body
    try:
        if body["token"] != settings.token:
            raise RefusedError(f"the ticket belongs to {body['token']}, but this machine is {settings.token}")
        token_file = settings.work_dir / "cluster.token"
        write_private(token_file, str(body["cluster_token"]).encode())
        kept = {"token": body["token"], "credential": body["credential"]}
        write_private(_credential_file(settings), json.dumps(kept).encode())
        return Joined(
            asked_at=asked_at,
            lease_s=float(body["lease_s"]),
            ray_address=str(body["ray_address"]),
            token_file=token_file,
            credential=str(body["credential"]),
            labels={**settings.labels, **body["labels"]},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnreachableError(f"the gateway's answer lacks something: {error}") from error


def _credential_file(settings: Settings) -> Path:
    return settings.work_dir / "credential"


def _delays() -> Iterator[float]:
    """Growing pauses with jitter, so that a hundred machines do not knock at once."""
    delay = 0.5
    while True:
        yield delay * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        delay = min(delay * 2, 10.0)
