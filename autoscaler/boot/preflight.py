"""Runs inside the boot script, on whatever Python 3 is there: says what differs, and tells the gateway."""

# This text travels in user data: nothing of ours can be imported, and no syntax newer than Python 3.6 used.
import hashlib
import http.client
import importlib.util
import json
import os
import platform
import socket
import ssl
import sys
import time
import urllib.parse

env = os.environ
wanted_python, wanted_ray = env["FABRIC_PYTHON_VERSION"], env["FABRIC_RAY_VERSION"]
python, ray = platform.python_version(), ""
try:
    from importlib import metadata

    ray = metadata.version("ray")
except Exception:  # noqa: S110 - whatever the cause, there is no Ray to be found
    pass


def report() -> None:
    """Say at the gateway which versions are here: it writes the refusal to its journal; the ticket stays unused."""
    url = urllib.parse.urlsplit(env["FABRIC_GATEWAY"])
    link = http.client.HTTPConnection(str(url.hostname), url.port, timeout=10)
    if url.scheme == "https":
        link.connect()
        context = ssl._create_unverified_context()  # noqa: S323 - pinned by fingerprint on the next lines
        link.sock = sock = context.wrap_socket(link.sock)
        if hashlib.sha256(sock.getpeercert(True) or b"").hexdigest() != env["FABRIC_GATEWAY_FINGERPRINT"]:
            raise OSError("its certificate is not the expected one")
    facts = {"python": python, "ray": ray, "clock": time.time(), "hostname": socket.gethostname()}
    facts.update(ticket=env["FABRIC_TICKET"], nonce="preflight", report_only=True)
    link.request("POST", "/v1/join", json.dumps(facts), {"Content-Type": "application/json"})
    link.getresponse().read()


code, sentence = 0, ""
if ".".join(python.split(".")[:2]) != wanted_python:
    code = 11
    sentence = f"Python is {python} here and {wanted_python} in the cluster; use Python {wanted_python}"
elif not ray:
    code = 12
    sentence = f"Ray is not installed for {sys.executable}; install ray=={wanted_ray}"
elif ray != wanted_ray:
    code = 13
    sentence = f"Ray is {ray} here and {wanted_ray} in the cluster; install ray=={wanted_ray}"
elif not (importlib.util.find_spec("autoscaler") and importlib.util.find_spec("autoscaler.boot")):
    code = 14
    sentence = f"elastic-ai-fabric is not installed for {sys.executable}; install it as on the head"
if code:
    print("fabric boot: " + sentence, file=sys.stderr)
if code in (11, 12, 13):
    try:
        report()
    except Exception as error:
        print(f"fabric boot: the gateway could not be told: {error}", file=sys.stderr)
sys.exit(code)
