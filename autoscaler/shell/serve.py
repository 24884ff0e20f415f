"""A few read-only pages over HTTP: health, status, metrics. One thread a request, no framework."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6
from typing import Any
from urllib.parse import parse_qs

import structlog


@dataclass(frozen=True, slots=True)
class Page:
    """What one path answers: a status code, a content type and a body."""

    code: int
    content_type: str
    body: bytes

    @staticmethod
    def of_json(value: Mapping[str, Any], code: int = 200) -> Page:
        """A JSON object."""
        return Page(code, "application/json", json.dumps(value, default=str).encode())


Handler = Callable[[], Page]
Asked = Callable[[Mapping[str, str]], Page]


class Server:
    """Serves pages on one address until closed.

    Args:
        address: ``host:port``.
        pages: by path, for GET.
        actions: by path, for POST without a body.
        asked: by path, for GET with a query, of which the first value of each name is handed over.

    Raises:
        OSError: the address is taken.
    """

    def __init__(
        self,
        address: str,
        pages: Mapping[str, Handler],
        actions: Mapping[str, Handler] | None = None,
        asked: Mapping[str, Asked] | None = None,
    ) -> None:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        routes = {
            "GET": {**{path: _unasked(page) for path, page in pages.items()}, **(asked or {})},
            "POST": {path: _unasked(page) for path, page in (actions or {}).items()},
        }

        class _Requests(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _answer(self, routes["GET"])

            def do_POST(self) -> None:
                _answer(self, routes["POST"])

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class _Server(ThreadingHTTPServer):
            address_family = AF_INET6 if ":" in host else AF_INET
            daemon_threads = True

        self._server = _Server((host, int(port)), _Requests)
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def metrics_page(exposition: Callable[[], bytes]) -> Handler:
    """The Prometheus page."""
    return lambda: Page(200, "text/plain; version=0.0.4; charset=utf-8", exposition())


def _unasked(handler: Handler) -> Asked:
    return lambda _: handler()


def _answer(request: BaseHTTPRequestHandler, routes: Mapping[str, Asked]) -> None:
    path, _, query = request.path.partition("?")
    handler = routes.get(path)
    if handler is None:
        page = Page.of_json({"error": "there is no such page", "pages": sorted(routes)}, 404)
    else:
        try:
            page = handler({name: values[0] for name, values in parse_qs(query).items()})
        except Exception:
            structlog.get_logger().exception("a page failed", path=request.path)
            page = Page.of_json({"error": "this page failed; the log says how"}, 500)
    request.send_response(page.code)
    request.send_header("Content-Type", page.content_type)
    request.send_header("Content-Length", str(len(page.body)))
    request.end_headers()
    request.wfile.write(page.body)
