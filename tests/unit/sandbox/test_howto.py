"""The how-to says what the code does: every fault in it is accepted, every code and variable is in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from autoscaler.sandbox.errors import STATUS, ErrorCode
from autoscaler.sandbox.faults import FAULT, Fault
from tests.sandboxes import SandboxServer

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "howto" / "sandbox.md").read_text()
EXAMPLES = [json.loads(text) for text in re.findall(r"^\| `(\{\"kind\".*?\})` \|", PAGE, re.M)]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["kind"])
def test_every_fault_in_the_how_to_is_one(example: dict[str, object]):
    FAULT.validate_python(example)


def test_every_kind_of_fault_is_in_the_how_to():
    kinds = {get_args(model.model_fields["kind"].annotation)[0] for model in get_args(get_args(Fault)[0])}

    assert {example["kind"] for example in EXAMPLES} == kinds


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_error_code_is_in_the_how_to_with_its_status(code: ErrorCode):
    (row,) = (line for line in PAGE.splitlines() if line.startswith("|") and f"`{code}`" in line.split("|")[1])

    assert str(STATUS[code]) in row.split("|")[2]


def test_what_a_machine_is_told_is_what_the_how_to_says(shared: SandboxServer):
    shared.launch("told", "env")
    shared.wait_for("told", "ended")
    told = {line.partition("=")[0] for line in shared.console("told").splitlines() if line.startswith("FABRIC_")}

    assert told - {"FABRIC_SANDBOX_INSTANCE"} == set(re.findall(r"^\| `(FABRIC_\w+)`", PAGE, re.M))


def test_every_call_is_in_the_how_to(shared: SandboxServer):
    paths = {path.partition("/{")[0] for path in shared.get("/openapi.json")["paths"]}

    assert [path for path in paths - {"/healthz"} if path not in PAGE] == []
