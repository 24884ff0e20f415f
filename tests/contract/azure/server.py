"""A test server that speaks as management.azure.com and login.microsoftonline.com do, judged by Microsoft's own types.

Every machine that is asked for and every one that is shown is checked; what is wrong with either is kept under
``/control/complaints``, and a test that leaves a complaint fails. What ``configs/iam/azure.json`` does not grant is
refused. It keeps its state in a file, so that it may be killed and started again.

    python -m tests.contract.azure.server --port 8430 --state state.json --cert cert.pem --key key.pem --secret SECRET

Faults, beside those of ``tests/contract/gcp/faults.py`` that mean the same here: ``no_room`` refuses launches of names
that are new, ``operation`` fails inside the operation and leaves the machine with its disk and interface,
``retry_after`` has every operation say how long to wait.
"""

from __future__ import annotations

import argparse
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.contract.azure import routes, schema
from tests.contract.azure.catalog import granted
from tests.contract.azure.compute import Compute, Reply
from tests.contract.azure.entra import TENANT, Entra
from tests.contract.azure.refusal import Refusal
from tests.contract.azure.routes import Call
from tests.contract.gcp.faults import Faults


class Lost(Exception):
    """The reply is not sent."""


class Server(ThreadingHTTPServer):
    """One subscription and its tenant behind HTTPS.

    Args:
        port: on loopback.
        state: file of the state; read when it exists.
        secret: of the service principal that may sign in.
        context: TLS.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, state: Path, secret: str, context: ssl.SSLContext) -> None:
        self.lock = threading.Lock()
        self.faults = Faults()
        self.complaints: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.skew = 0.0
        self.file = state
        base = f"https://127.0.0.1:{port}"
        kept = json.loads(state.read_text()) if state.exists() else {}
        self.compute = Compute(kept, self.faults, self.now, base)
        self.entra = Entra(base, secret, self.now)
        super().__init__(("127.0.0.1", port), Handler)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def now(self) -> float:
        """Azure's clock."""
        return time.time() + self.skew

    def answer(self, verb: str, address: str, headers: dict[str, str], text: bytes) -> Reply:
        """Status, body and headers of one reply.

        Raises:
            Lost: the connection is to be closed instead.
        """
        parts = urlsplit(address)
        path, query = unquote(parts.path), dict(parse_qsl(parts.query, keep_blank_values=True))
        if path.startswith("/control/"):
            return 200, self._control(path.removeprefix("/control/"), json.loads(text or b"{}")), {}
        if path == f"/{TENANT}/v2.0/.well-known/openid-configuration":
            return 200, self.entra.metadata(), {}
        if path == f"/{TENANT}/oauth2/v2.0/token":
            return *self.entra.exchange(dict(parse_qsl(text.decode()))), {}
        found = routes.find(verb, path)
        if found is None:
            self.complaints.append(f"{verb} {path}: nothing has this address")
            return 404, Refusal(404, "InvalidResourceType", "The resource type could not be found.").body, {}
        route, given = found
        try:
            reply = self._call(Call(route, given, query, headers, json.loads(text) if text else None))
        except Refusal as refusal:
            self.complaints += schema.error_complaints(refusal.status, refusal.body)
            return refusal.status, refusal.body, refusal.headers
        self.complaints += _shown_complaints(route, reply[1])
        if self.faults.take("lose_reply", route) is not None:
            raise Lost
        return reply

    def _call(self, call: Call) -> Reply:
        self.entra.let_in(call.headers.get("authorization", ""))
        self.calls.append({"route": call.route, "given": call.given, "query": call.query, "body": call.body})
        self.complaints += routes.query_complaints(call.route, call.query)
        if call.route == "machines.put":
            self.complaints += schema.request_complaints(call.body)
            if call.headers.get("if-none-match") != "*":
                self.complaints.append("a PUT that would change a machine that is there")
        if (fault := self.faults.take("refuse", call.route)) is not None:
            message = fault.get("message", "It is refused.")
            raise Refusal(fault["status"], fault.get("code", ""), message, fault.get("headers"))
        allowed = set(granted()) - set(self.faults.values("denied") or ())
        for permission in routes.needed(call.route, call.body):
            if permission not in allowed:
                what = f"The client 'fabric' does not have authorization to perform action '{permission}'."
                code = "LinkedAuthorizationFailed" if permission.endswith("/join/action") else "AuthorizationFailed"
                raise Refusal(403, code, what)
        reply = self.compute.answer(call)
        if routes.ROUTES[call.route][0] != "GET":
            self._keep()
        return reply

    def _keep(self) -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps(self.compute.state))
        fresh.replace(self.file)

    def _control(self, what: str, body: dict[str, Any]) -> Any:
        if what == "fault":
            self.faults.add(body)
        elif what == "clear":
            self.faults.clear()
            self.skew = 0.0
            self.compute.page_size = 200
            self.entra.expire_nothing()
        elif what == "skew":
            self.skew = body["seconds"]
        elif what == "page_size":
            self.compute.page_size = body["size"]
        elif what == "expire":
            self.entra.expire()
        elif what == "end":
            self.compute.end_by_itself(body["name"], body["how"])
        elif what == "calls":
            return self.calls
        elif what == "complaints":
            return self.complaints
        elif what == "state":
            self.compute.move_on()
            return self.compute.state
        return {}


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 with connections kept."""

    server: Server
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    disable_nagle_algorithm = True

    def _any(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        given = {key.lower(): value for key, value in self.headers.items()}
        try:
            with self.server.lock:
                status, body, headers = self.server.answer(self.command, self.path, given, text)
        except Lost:
            self.close_connection = True
            return
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for key, value in {"Content-Type": "application/json; charset=utf-8", **headers}.items():
            self.send_header(key, value)
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = _any

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The ``Date`` of a reply, by Azure's clock."""
        return super().date_time_string(timestamp or self.server.now())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what matters is under ``/control/calls``."""


def _shown_complaints(route: str, body: Any) -> list[str]:
    """What is wrong with the resources of a reply."""
    if route == "machines.list":
        return [complaint for one in body["value"] for complaint in schema.response_complaints(one)]
    if route in ("machines.put", "machines.get"):
        return list(schema.response_complaints(body))
    if route == "subnet.get":
        return list(schema.response_complaints(body, schema.SUBNET, schema.NETWORK))
    if route == "nsg.get":
        return list(schema.response_complaints(body, schema.SECURITY_GROUP, schema.NETWORK))
    return []


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--cert", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--secret", required=True)
    options = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.cert, options.key)
    Server(options.port, options.state, options.secret, context).serve_forever()


if __name__ == "__main__":
    main()
