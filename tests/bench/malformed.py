"""Malformed requests against the gateway's own description of itself: clear refusals, no 500, nothing lost.

    python -m tests.bench.malformed --requests 10000 [--seed 1]

A gateway is served over a journal of its own. Requests are made by schemathesis from ``/openapi.json`` (what is
allowed, and what is just not), as bodies of arbitrary bytes, and as connections that do not speak HTTP. Each answer
has to be one that the description has, in the form it says. Afterwards the journal has to verify, and to hold every
submission that was acknowledged.
"""

from __future__ import annotations

import argparse
import logging
import random
import socket
import sys
import tempfile
import time
import urllib.parse
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import schemathesis
import structlog
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from fabric.model.events import Event
from tests.job_servers import JobServer, job_server

_CHECKS = [content_type_conformance, response_schema_conformance, status_code_conformance]
_OPERATORS_ONLY = "ops"
# Ray is not there, and the pages that need it say so.
_NEEDS_RAY = ("/dashboard/",)
_EMPTY_ZIP = b"PK\x05\x06" + b"\0" * 18
_SCRAPS = [b"", b"\0", b"{", b"[" * 5000, b'{"entrypoint":', b"\xff\xfe", b'{"entrypoint": "a"}', _EMPTY_ZIP]
_BAD_LENGTH = b"POST /api/jobs/ HTTP/1.1\r\nContent-Length: -5\r\n"
_STARTS = [b"", b"GET /api/jobs/ HTTP/1.1\r\n", _BAD_LENGTH, b"\x16\x03\x01"]
_MADE = settings(deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))


@dataclass
class Report:
    """What came of it: answers by status code, and what should not have been."""

    requests: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)


def run(server: JobServer, requests: int, seed: int) -> Report:
    """Send that many requests; the report has everything that was wrong."""
    report = Report()
    headers = {"Authorization": f"Bearer {server.tokens[_OPERATORS_ONLY]}"}
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json", headers=headers)
    operations = [found.ok() for found in schema.get_all_operations()]
    kinds = [(each, mode) for each in operations for mode in (GenerationMode.NEGATIVE, GenerationMode.POSITIVE)]
    by_schema = requests * 7 // 10
    for operation, mode in kinds:
        _cases(operation, mode, headers, max(1, by_schema // len(kinds)), seed, report)
    left = requests - report.requests
    _bytes(server, headers, left * 8 // 10, seed, report)
    _noise(server, requests - report.requests, seed, report)
    _nothing_lost(server, report)
    return report


def _cases(
    operation: Any, mode: GenerationMode, headers: dict[str, str], count: int, seed: int, report: Report
) -> None:
    @seeded(seed)
    @settings(_MADE, max_examples=count)
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        answer = case.call(headers=headers)
        report.requests += 1
        _judge(report, case.formatted_path, answer.status_code, answer.text, f"{operation.label} {mode.value}")
        try:
            case.validate_response(answer, checks=_CHECKS)
        except Exception as error:  # whatever it is called: it says what does not conform
            report.wrong.append(f"{operation.label} {mode.value}: {error}")
        if operation.label == "POST /api/jobs/" and answer.status_code == 200:
            report.acknowledged.add(answer.json()["submission_id"])

    try:
        send()
    except (Unsatisfiable, TypeError, ValueError) as error:
        # Nothing about a request without parameters can be wrong.
        if "negative" not in str(error).lower() and mode is GenerationMode.POSITIVE:
            raise


def _bytes(server: JobServer, headers: dict[str, str], count: int, seed: int, report: Report) -> None:
    routes = ["/api/jobs/", "/v1/join", "/v1/lease", "/api/packages/gcs/a.zip", "/api/packages/gcs/b.tar.gz"]
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=30) as http:

        @seeded(seed)
        @settings(_MADE, max_examples=count)
        @given(route=st.sampled_from(routes), body=st.sampled_from(_SCRAPS) | st.binary(max_size=200))
        def send(route: str, body: bytes) -> None:
            answer = http.request("PUT" if "packages" in route else "POST", route, content=body)
            report.requests += 1
            _judge(report, route, answer.status_code, answer.text, f"bytes to {route}")
            if route == "/api/jobs/" and answer.status_code == 200:
                report.acknowledged.add(answer.json()["submission_id"])

        send()


def _noise(server: JobServer, count: int, seed: int, report: Report) -> None:
    """Connections that do not speak HTTP; the answer is a 4xx, or the connection is closed."""
    where = urllib.parse.urlsplit(server.url)
    random_ = random.Random(seed)
    for _ in range(count):
        with socket.create_connection((where.hostname or "", where.port or 80), timeout=10) as connection:
            connection.sendall(random_.choice(_STARTS) + random_.randbytes(random_.randint(1, 200)) + b"\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            first = connection.recv(64)
        report.requests += 1
        code = int(first.split()[1]) if first.startswith(b"HTTP/1.1 ") else 0
        report.codes[code] += 1
        if code >= 500:
            report.wrong.append(f"noise was answered {code}")


def _judge(report: Report, path: str, status: int, text: str, what: str) -> None:
    report.codes[status] += 1
    if status >= 500 and not (status == 503 and path.startswith(_NEEDS_RAY)):
        report.wrong.append(f"{what}: {status} {text[:200]}")
    if status >= 400 and not text.strip():
        report.wrong.append(f"{what}: {status} without a sentence")


def _nothing_lost(server: JobServer, report: Report) -> None:
    broken = server.journal.verify()
    if broken is not None:
        report.wrong.append(f"the journal does not verify: {broken}")
    kept = {entry.data["job"] for entry in server.entries(Event.JOB_SUBMITTED)}
    if report.acknowledged - kept:
        report.wrong.append(f"{len(report.acknowledged - kept)} acknowledged submissions are not in the journal")


def main() -> int:
    """Run and print the report; 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, job_server(Path(folder), waiting=100_000) as server:
        report = run(server, options.requests, options.seed)
    codes = ", ".join(f"{code or 'closed'}: {count}" for code, count in sorted(report.codes.items()))
    print(f"{report.requests} requests in {time.monotonic() - begun:.0f} s; answers {codes}")
    print(f"{len(report.acknowledged)} submissions acknowledged, all in the journal; {len(report.wrong)} wrong answers")
    for line in report.wrong[:20]:
        print(f"  {line}")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
