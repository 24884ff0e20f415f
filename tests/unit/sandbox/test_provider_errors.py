"""Each row of the provider's error table, and whatever is not in it, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from autoscaler.providers.base import NetworkError, ProviderBugError, ProviderError
from autoscaler.providers.sandbox import ERRORS, SandboxProvider
from autoscaler.sandbox.errors import STATUS, ErrorCode

Answer = tuple[int, str]


@pytest.fixture
def answering() -> Iterator[Callable[[int, str], SandboxProvider]]:
    """A provider whose cloud gives this status and body to every call."""
    answer: list[Answer] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer[-1]
            self.send_response(status)
            self.send_header("content-length", str(len(body.encode())))
            if status == 429:
                self.send_header("retry-after", "7")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()

    def provider(status: int, body: str) -> SandboxProvider:
        answer.append((status, body))
        return SandboxProvider("sand", f"http://127.0.0.1:{server.server_address[1]}", "me")

    yield provider
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_table_has_a_row_for_each_code_of_the_cloud_and_no_other():
    assert set(ERRORS) == {code.value for code in ErrorCode} == {code.value for code in STATUS}


@pytest.mark.parametrize("code", list(ErrorCode))
def test_each_code_is_its_own_kind_of_error(answering: Callable[[int, str], SandboxProvider], code: ErrorCode):
    body = json.dumps({"error": {"code": code, "message": "the cloud's own words"}})
    with pytest.raises(ProviderError) as raised:
        answering(STATUS[code], body).offers()

    assert type(raised.value) is ERRORS[code]
    assert raised.value.cloud_code == code
    assert raised.value.message == "the cloud's own words"
    assert raised.value.retry_after_s == (7 if code is ErrorCode.RATE_EXCEEDED else None)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (502, "<html>bad gateway</html>", NetworkError),
        (503, '{"detail": "not ours"}', NetworkError),
        (404, "nothing here", ProviderBugError),
        (418, '{"error": {"code": "teapot", "message": "short and stout"}}', ProviderBugError),
        (200, "not json", ProviderBugError),
        (200, "[]", ProviderBugError),
        (200, '{"offers": [{"id": "x"}]}', ProviderBugError),
    ],
)
def test_what_is_not_in_the_table_is_never_taken_for_something_else(
    answering: Callable[[int, str], SandboxProvider], status: int, body: str, error: type[ProviderError]
):
    with pytest.raises(ProviderError) as raised:
        answering(status, body).offers()

    assert type(raised.value) is error
