"""A thin proxy before moto's EC2, for what moto lacks.

Client tokens, the limit of user data, dry runs, permissions, clocks, eventual consistency, and every way in which a
cloud refuses. What it adds is from Amazon's documentation:
https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html (tokens),
https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html,
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html (codes).
Everything else is moto's, and every request is held to botocore's model (``wire.py``).
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
import threading
import time
from collections import defaultdict
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from botocore.validate import ParamValidator

from tests.contract.aws.faults import LAUNCHES, Faults
from tests.contract.aws.wire import model, objections

USER_DATA_BYTES = 16 * 1024
_SKEW_S = 15 * 60
_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
_VERSION = {"2016-11-15": "ec2", "2011-06-15": "sts"}


class Proxy:
    """The proxy's life and memory.

    Attributes:
        faults: what goes wrong now.
        objections: what was wrong with requests, over its whole life.
        needed: permissions that the calls needed, as IAM names them.
        calls: every call's name and members, in order.
        most_at_once: the most launches that were under way together.
        last_key: the access key that signed the last request.
        tunnels: hosts that a tunnel was asked to.
    """

    def __init__(self, moto_port: int, tls: ssl.SSLContext | None = None) -> None:
        self.moto_port = moto_port
        self.faults = Faults()
        self.objections: list[str] = []
        self.needed: set[str] = set()
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.most_at_once = 0
        self.last_key = ""
        self.tunnels: list[str] = []
        self.under_way = 0
        self.tokens: dict[tuple[str, str], tuple[dict[str, str], bytes]] = {}
        self.token_locks: dict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)
        self.made: set[str] = set()
        self.ended: set[str] = set()
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    proxy: ClassVar[Proxy]
    protocol_version = "HTTP/1.1"
    _moto: http.client.HTTPConnection | None = None

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if target := self.headers["x-amz-target"]:
            return self._quota(target.rpartition(".")[2], json.loads(body))
        form = dict(parse_qsl(body.decode(), keep_blank_values=True))
        action, service = form.get("Action", ""), _VERSION.get(form.get("Version", ""), "ec2")
        proxy = self.proxy
        with proxy.lock:
            proxy.objections += objections(service, action, form)
            proxy.calls.append((action, form))
            proxy.needed |= permissions(service, action, form)
        if action in LAUNCHES:
            with proxy.lock:
                proxy.under_way += 1
                proxy.most_at_once = max(proxy.most_at_once, proxy.under_way)
        try:
            self._serve(service, action, form, body)
        finally:
            if action in LAUNCHES:
                with proxy.lock:
                    proxy.under_way -= 1
        return None

    def do_CONNECT(self) -> None:
        """As an HTTP proxy that lets nobody through, so that it is seen who was wanted."""
        self.proxy.tunnels.append(self.path)
        self.send_error(403)

    def finish(self) -> None:
        if self._moto is not None:
            self._moto.close()
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _serve(self, service: str, action: str, form: dict[str, str], body: bytes) -> None:
        faults = self.proxy.faults
        if faults.delay_s:
            time.sleep(faults.delay_s)
        if error := self._identity(service, action, form):
            return self._refuse(*error)
        if form.get("DryRun") == "true":
            return self._dry_run(action, form)
        if action in LAUNCHES:
            return self._launch(action, form, body)
        zone = ""
        if refusal := faults.refusal(action, zone, True):
            return self._refuse(refusal.code, refusal.message, refusal.status, refusal.headers)
        if action == "TerminateInstances":
            return self._terminate(form, deaf=faults.is_deaf())
        status, reply = self._forward(body)
        if action == "DescribeInstances" and status == 200:
            reply = self._without_hidden(reply)
        return self._answer(status, reply, action)

    def _identity(self, service: str, action: str, form: dict[str, str]) -> tuple[str, str, int] | None:
        """Who asks, when, and whether he may."""
        signed = re.match(r"AWS4-HMAC-SHA256 Credential=(\w+)/\d{8}/[\w-]+/(\w+)/", self.headers["authorization"] or "")
        if not signed or signed.group(2) != service:
            return "AuthFailure", "AWS was not able to validate the provided access credentials", 401
        self.proxy.last_key = signed.group(1)
        stamp = datetime.strptime(self.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(time.time() + self.proxy.faults.skew_s - stamp.timestamp()) > _SKEW_S:
            return "RequestExpired", "Request has expired.", 400
        for permission in sorted(permissions(service, action, form) & self.proxy.faults.denied):
            user = "arn:aws:iam::123456789012:user/fabric"
            sentence = f"You are not authorized to perform this operation. User: {user} is not authorized to perform: "
            return "UnauthorizedOperation", f"{sentence}{permission} because no identity-based policy allows it", 403
        return None

    def _dry_run(self, action: str, form: dict[str, str]) -> None:
        if action == "TerminateInstances" and form["InstanceId.1"] not in self.proxy.made:
            return self._refuse(
                "InvalidInstanceID.NotFound", f"The instance ID '{form['InstanceId.1']}' does not exist"
            )
        return self._refuse("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)

    def _launch(self, action: str, form: dict[str, str], body: bytes) -> None:
        """One launch of a token at a time; the same token and members give the same reply."""
        proxy, key = self.proxy, (action, form["ClientToken"])
        with proxy.lock:
            lock = proxy.token_locks[key]
        with lock:
            known = proxy.tokens.get(key)
            zone = form.get("Placement.AvailabilityZone", "")
            if refusal := proxy.faults.refusal(action, zone, known is None):
                return self._refuse(refusal.code, refusal.message, refusal.status, refusal.headers)
            if known is None:
                if len(base64.b64decode(form.get("UserData", ""))) > USER_DATA_BYTES:
                    return self._refuse("InvalidParameterValue", "User data is limited to 16384 bytes")
                if action == "CreateFleet" and proxy.faults.fleet_errors:
                    return self._answer(200, _nothing_found(proxy.faults.fleet_errors), action)
                status, reply = self._forward(body)
                if status != 200:
                    return self._answer(status, reply, action)
                proxy.tokens[key] = (form, reply)
                proxy.made |= set(_ids(reply))
                with proxy.faults.lock:
                    until = time.monotonic() + proxy.faults.hide_s
                    proxy.faults.hidden |= dict.fromkeys(_ids(reply), until) if proxy.faults.hide_s else {}
            elif known[0] != form:
                sentence = (
                    "Arguments on this idempotent request are inconsistent with arguments used in previous request(s)."
                )
                return self._refuse("IdempotentParameterMismatch", sentence)
            else:
                reply = known[1]
                if action == "RunInstances" and self._state_of(_ids(reply)[0]) in ("terminated", ""):
                    return self._refuse(
                        "IdempotentInstanceTerminated",
                        "The client token you have provided is associated with a resource that is already terminated. "
                        "Please use a different client token.",
                    )
        return self._answer(200, reply, action)

    def _quota(self, action: str, request: dict[str, Any]) -> None:
        """Service Quotas, which moto does not have for EC2; the reply has the members that botocore's model knows."""
        proxy = self.proxy
        shape = model("service-quotas").operation_model(action).input_shape
        with proxy.lock:
            proxy.needed.add(f"servicequotas:{action}")
            proxy.calls.append((action, request))
            report = ParamValidator().validate(request, shape)
            proxy.objections += [report.generate_report()] if report.has_errors() else []
        if f"servicequotas:{action}" in proxy.faults.denied:
            sentence = f"User: u is not authorized to perform: servicequotas:{action}"
            return self._answer(400, json.dumps({"__type": "AccessDeniedException", "Message": sentence}).encode(), "")
        value = proxy.faults.quotas.get(request["QuotaCode"], 1000.0)
        quota = {"ServiceCode": "ec2", "QuotaCode": request["QuotaCode"], "Value": value, "Unit": "None"}
        return self._answer(200, json.dumps({"Quota": quota}).encode(), action)

    def _terminate(self, form: dict[str, str], deaf: bool) -> None:
        """Moto ends them at once and stumbles over those that have ended; EC2 repeats that they have."""
        proxy = self.proxy
        ids = [value for key, value in form.items() if key.startswith("InstanceId.")]
        if unknown := [one for one in ids if one not in proxy.made]:
            return self._refuse("InvalidInstanceID.NotFound", f"The instance IDs '{', '.join(unknown)}' do not exist")
        before = {one: "terminated" if one in proxy.ended else "running" for one in ids}
        live = [one for one in ids if one not in proxy.ended]
        if live and not deaf:
            members = "".join(f"&InstanceId.{n}={one}" for n, one in enumerate(live, 1))
            status, reply = self._forward(f"Action=TerminateInstances&Version={form['Version']}{members}".encode())
            if status != 200:
                return self._answer(status, reply, "TerminateInstances")
            proxy.ended |= set(live)
        states = {"running": (16, 32, "shutting-down"), "terminated": (48, 48, "terminated")}
        items = "".join(
            f"<item><instanceId>{one}</instanceId>"
            f"<currentState><code>{states[was][1]}</code><name>{states[was][2]}</name></currentState>"
            f"<previousState><code>{states[was][0]}</code><name>{was}</name></previousState></item>"
            for one, was in before.items()
        )
        body = f"<requestId>r</requestId><instancesSet>{items}</instancesSet>"
        reply = f'<TerminateInstancesResponse xmlns="{_NAMESPACE}">{body}</TerminateInstancesResponse>'
        return self._answer(200, reply.encode(), "TerminateInstances")

    def _without_hidden(self, reply: bytes) -> bytes:
        with self.proxy.faults.lock:
            now = time.monotonic()
            hidden = {one for one, until in self.proxy.faults.hidden.items() if until > now}
        if not hidden:
            return reply
        namespace = re.search(rb'xmlns="([^"]+)"', reply).group(1).decode()
        ElementTree.register_namespace("", namespace)
        root = ElementTree.fromstring(reply)
        space = f"{{{namespace}}}"
        reservations = root.find(f"{space}reservationSet")
        for reservation in list(reservations):
            if reservation.findtext(f"{space}instancesSet/{space}item/{space}instanceId") in hidden:
                reservations.remove(reservation)
        return ElementTree.tostring(root)

    def _state_of(self, instance_id: str) -> str:
        """The state of an instance; ``""`` where there is none."""
        query = f"Action=DescribeInstances&Version=2016-11-15&InstanceId.1={instance_id}".encode()
        status, reply = self._forward(query)
        found = re.search(rb"<instanceState>.*?<name>([a-z-]+)</name>", reply, re.S)
        return found.group(1).decode() if status == 200 and found else ""

    def _forward(self, body: bytes) -> tuple[int, bytes]:
        headers = {
            key: self.headers[key] for key in ("content-type", "authorization", "x-amz-date") if self.headers[key]
        }
        if self._moto is None:
            self._moto = http.client.HTTPConnection("127.0.0.1", self.proxy.moto_port, timeout=30)
        self._moto.request("POST", "/", body, headers)
        response = self._moto.getresponse()
        return response.status, response.read()

    def _refuse(self, code: str, message: str, status: int = 400, headers: dict[str, str] | None = None) -> None:
        error = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
        reply = f"<Response><Errors>{error}</Errors><RequestID>r</RequestID></Response>"
        self._answer(status, reply.encode(), "", headers)

    def _answer(self, status: int, reply: bytes, action: str, headers: dict[str, str] | None = None) -> None:
        if self.proxy.faults.loses(action):
            self.close_connection = True
            self.connection.close()
            return
        self.send_response(status)
        self.send_header("content-type", "text/xml")
        self.send_header("content-length", str(len(reply)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(reply)


def permissions(service: str, action: str, form: dict[str, str]) -> set[str]:
    """What a caller must be allowed for a call.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html; tags on creation need
    ``ec2:CreateTags``, an instance profile ``iam:PassRole``, a fleet the right to run what it launches.
    """
    if service == "sts":
        return set()  # GetCallerIdentity needs none
    needed = {f"ec2:{action}"}
    if any(key.startswith("TagSpecification") for key in form):
        needed.add("ec2:CreateTags")
    if any(".IamInstanceProfile." in f".{key}" for key in form):
        needed.add("iam:PassRole")
    if action == "CreateFleet":
        needed.add("ec2:RunInstances")
    return needed


def _nothing_found(errors: list[str]) -> bytes:
    """An instant fleet that made nothing, with a reason for each of its zones."""
    items = "".join(
        f"<item><errorCode>{code}</errorCode><errorMessage>as documented</errorMessage></item>" for code in errors
    )
    body = f"<requestId>r</requestId><fleetId>fleet-1</fleetId><errorSet>{items}</errorSet><fleetInstanceSet/>"
    return f'<CreateFleetResponse xmlns="{_NAMESPACE}">{body}</CreateFleetResponse>'.encode()


def _ids(reply: bytes) -> list[str]:
    return [one.decode() for one in re.findall(rb"\b(i-[0-9a-f]{17})\b", reply)]
