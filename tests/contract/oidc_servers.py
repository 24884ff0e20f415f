"""The OpenID Connect providers that the contract is held against.

``Provider`` is oidc-provider-mock, somebody else's server in a process of its own, behind plain http on loopback or
https. ``Issuer`` is a web server that publishes the keys a test chose, for what a well-behaved provider never does.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

REDIRECT = "http://127.0.0.1/callback"
SERVE = """
import sys, json, uvicorn
from datetime import timedelta
from oidc_provider_mock import app
port, certificate, key = int(sys.argv[1]), sys.argv[2] or None, sys.argv[3] or None
made = app(access_token_max_age=timedelta(seconds=int(sys.argv[4])))
uvicorn.run(made, interface="wsgi", port=port, ssl_certfile=certificate, ssl_keyfile=key, log_level="warning")
"""


class Provider:
    """A real provider in a process of its own.

    Args:
        port: where it listens on loopback.
        tls: certificate and key for https; None for plain http.
        life_s: how long its tokens count.
    """

    def __init__(self, port: int, tls: tuple[Path, Path] | None = None, life_s: int = 3600) -> None:
        self.issuer = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        self._verify: ssl.SSLContext | bool = ssl.create_default_context(cafile=tls[0]) if tls else True
        certificate, key = (str(tls[0]), str(tls[1])) if tls else ("", "")
        self._arguments = [sys.executable, "-W", "ignore", "-c", SERVE, str(port), certificate, key, str(life_s)]
        self._port = port
        self.start()

    def start(self) -> None:
        """Start it, with a new signing key."""
        self._process = subprocess.Popen(self._arguments, env={"AUTHLIB_INSECURE_TRANSPORT": "1"})
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("the provider did not start")

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(timeout=10)

    def login(self, user: str, client: str = "fabric", **claims: object) -> str:
        """Log a user in by the authorization code flow (RFC 6749, 4.1); its ID token."""
        with httpx.Client(base_url=self.issuer, verify=self._verify) as browser:
            assert browser.put(f"/users/{user}", json=claims).status_code == 204
            query = {"client_id": client, "redirect_uri": REDIRECT, "response_type": "code", "scope": "openid email"}
            there = browser.post("/oauth2/authorize", params=query, data={"sub": user})
            code = httpx.URL(there.headers["location"]).params["code"]
            form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT}
            answer = browser.post("/oauth2/token", data=form, auth=(client, "any"))
            assert answer.status_code == 200, answer.text
            token: str = answer.json()["id_token"]
            return token

    def public_key(self) -> dict[str, Any]:
        """Its signing key as it publishes it."""
        key: dict[str, Any] = httpx.get(f"{self.issuer}/jwks", verify=self._verify).json()["keys"][0]
        return key


class Key:
    """A signing key of a test's own issuer."""

    def __init__(self, name: str | None, algorithm: str = "RS256", bits: int = 2048) -> None:
        self.name, self.algorithm = name, algorithm
        self.private: Any = (
            ec.generate_private_key(ec.SECP256R1())
            if algorithm == "ES256"
            else rsa.generate_private_key(public_exponent=65537, key_size=bits)
        )

    def public(self) -> dict[str, Any]:
        """As a JWK."""
        family = ECAlgorithm if self.algorithm == "ES256" else RSAAlgorithm
        named = {} if self.name is None else {"kid": self.name}
        return {**family.to_jwk(self.private.public_key(), as_dict=True), **named, "use": "sig"}

    def sign(self, claims: Mapping[str, object], **header: Any) -> str:
        """A token."""
        named = {} if self.name is None else {"kid": self.name}
        return jwt.encode(dict(claims), self.private, algorithm=self.algorithm, headers={**named, **header})


class Issuer:
    """A web server that answers what a test says; every request is counted by its path."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.about: dict[str, Any] = {}
        self.failing = False
        self.stuck = threading.Event()
        self.released = threading.Event()
        self.asked: list[str] = []
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                if issuer.stuck.is_set():
                    issuer.released.wait(20)
                body = json.dumps(issuer.answer(self.path)).encode()
                self.send_response(500 if issuer.failing else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def answer(self, path: str) -> object:
        """The discovery document, or the key set."""
        if path == "/jwks":
            return {"keys": self.keys}
        return {"issuer": self.url, "jwks_uri": f"{self.url}/jwks", **self.about}

    def claims(self, **changed: object) -> dict[str, object]:
        """Good claims, with some changed; None leaves one out."""
        now = int(time.time())
        good: dict[str, object] = {
            "iss": self.url,
            "aud": "fabric",
            "sub": "7",
            "iat": now,
            "exp": now + 600,
            "email": "mia@example.org",
            "team": "vision",
        }
        return {name: value for name, value in {**good, **changed}.items() if value is not None}

    def close(self) -> None:
        """End it."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
