"""A test server that speaks as compute.googleapis.com does, and is judged by Google's discovery document itself.

Every request and every reply is checked; what is wrong with either is kept under ``GET /control/complaints``, and a
test that leaves a complaint fails. It keeps its state in a file, so that it may be killed and started again.

    python -m tests.contract.gcp.server --port 8420 --state state.json [--cert cert.pem --key key.pem]

Tokens are made at ``/token`` for assertions signed with the key of ``--accounts``; without that option nobody is asked
who they are.
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

from tests.contract.gcp import discovery, rights
from tests.contract.gcp.catalog import Call
from tests.contract.gcp.compute import Compute
from tests.contract.gcp.faults import Faults
from tests.contract.gcp.refusal import Refusal
from tests.contract.gcp.tokens import Tokens

APIS = ("compute.v1", "cloudresourcemanager.v3")


class Lost(Exception):
    """The reply is not sent."""


class Server(ThreadingHTTPServer):
    """One project behind HTTP.

    Args:
        port: on loopback.
        state: file of the state; read when it exists.
        accounts: file with the public key by which assertions are verified; None: everybody is let in.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, state: Path, accounts: Path | None) -> None:
        self.lock = threading.Lock()
        self.faults = Faults()
        self.complaints: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.skew = 0.0
        self.file = state
        kept = json.loads(state.read_text()) if state.exists() else {}
        self.compute = Compute(kept, self.faults, self.now)
        self.tokens = Tokens(accounts, self.now)
        super().__init__(("127.0.0.1", port), Handler)

    def now(self) -> float:
        """Google's clock."""
        return time.time() + self.skew

    def answer(self, verb: str, address: str, headers: Any, text: bytes) -> tuple[int, Any, dict[str, str]]:
        """Status, body and headers of one reply.

        Raises:
            Lost: the connection is to be closed instead.
        """
        parts = urlsplit(address)
        path, query = unquote(parts.path), dict(parse_qsl(parts.query, keep_blank_values=True))
        if path.startswith("/control/"):
            return 200, self._control(path.removeprefix("/control/"), json.loads(text or b"{}")), {}
        if path == "/token":
            return self.tokens.exchange(dict(parse_qsl(text.decode())))
        if path.startswith("/discovery/"):
            return 404, {}, {}
        found = discovery.find(verb, path, *APIS)
        if found is None:
            self.complaints.append(f"{verb} {path}: no API has this address")
            return 404, Refusal(404, "notFound", "Not Found").body, {}
        method, given = found
        try:
            body = json.loads(text) if text else None
            self.complaints += discovery.request_complaints(method, given, query, body)
            reply = self._call(method, given, query, headers, body)
        except Refusal as refusal:
            self.complaints += discovery.error_complaints(refusal.status, refusal.body)
            return refusal.status, refusal.body, refusal.headers
        self.complaints += discovery.response_complaints(method, reply)
        if self.faults.take("lose_reply", method.method_id) is not None:
            raise Lost
        return 200, reply, {}

    def _call(
        self, method: discovery.Method, given: dict[str, str], query: dict[str, str], headers: Any, body: Any
    ) -> Any:
        name = method.method_id
        self.tokens.let_in(headers.get("Authorization", ""))
        self.calls.append({"method": name, "given": given, "query": query, "body": body})
        if (fault := self.faults.take("refuse", name)) is not None:
            message, headers = fault.get("message", "It is refused."), fault.get("headers")
            raise Refusal(fault["status"], fault.get("reason", ""), message, headers, fault.get("info", ""))
        denied = set(self.faults.values("denied") or ())
        if name == "cloudresourcemanager.projects.testIamPermissions":
            if self.faults.on("no_resource_manager"):
                raise Refusal(404, "notFound", "Not Found")
            return {"permissions": [one for one in body["permissions"] if one not in denied]}
        for permission in rights.needed(name, given, body):
            if permission in denied:
                what = f"Required '{permission}' permission for 'projects/{given['project']}'"
                raise Refusal(403, "forbidden", what)
        if mask := headers.get("X-Goog-FieldMask"):
            self.complaints += discovery.mask_complaints(method, mask)
            if self.faults.on("no_masks"):
                raise Refusal(400, "invalidParameter", "Invalid field selection")
        reply = self.compute.answer(name, Call(given, query, body, self.faults))
        if method.spec["httpMethod"] != "GET":
            self._keep()
        return _masked(reply, [path.split("/") for path in mask.split(",")]) if mask else reply

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
            self.tokens.expire_nothing()
        elif what == "skew":
            self.skew = body["seconds"]
        elif what == "expire":
            self.tokens.expire()
        elif what == "forget":
            self.compute.state["requests"].clear()
        elif what == "end":
            self.compute.end_by_itself(body["name"], body["kind"])
        elif what == "address":
            self.compute.give_address(body["name"], body["address"])
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
        try:
            with self.server.lock:
                status, body, headers = self.server.answer(self.command, self.path, self.headers, text)
        except Lost:
            self.close_connection = True
            return
        data = json.dumps(body).encode()
        self.send_response(status)
        for key, value in {"Content-Type": "application/json; charset=UTF-8", **headers}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = _any

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The ``Date`` of a reply, by Google's clock."""
        return super().date_time_string(timestamp or self.server.now())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what matters is under ``/control/calls``."""


def _masked(value: Any, paths: list[list[str]]) -> Any:
    """What a field mask leaves of a reply."""
    if isinstance(value, list):
        return [_masked(item, paths) for item in value]
    if not isinstance(value, dict) or not all(paths):
        return value
    left: dict[str, Any] = {}
    for key, item in value.items():
        inner = [path[1:] for path in paths if path[0] in (key, "*")]
        if inner:
            left[key] = _masked(item, inner)
    return left


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--accounts", type=Path)
    parser.add_argument("--cert", type=Path)
    parser.add_argument("--key", type=Path)
    options = parser.parse_args()
    discovery.methods(*APIS)
    server = Server(options.port, options.state, options.accounts)
    if options.cert is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.cert, options.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
