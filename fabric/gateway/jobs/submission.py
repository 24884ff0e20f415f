"""The body of a submit request: read, and checked with the words of Ray's own server.

The rules are those of Ray 2.60 (``JobSubmitRequest`` in ``ray/dashboard/modules/job/common.py`` and the label rules of
``ray/_private/label_utils.py``), so that a client is told the same by both. Stricter is only what the queue, the
journal and the file system need: finite numbers, text that can be stored, ids that can be part of a path.
"""

from __future__ import annotations

import json
import math
import re
import secrets
import string
from typing import Any, NoReturn, cast

from fabric.gateway.jobs.refusals import bad_request

LONGEST_ID = 128
_KNOWN = (
    "entrypoint",
    "submission_id",
    "job_id",
    "runtime_env",
    "metadata",
    "entrypoint_num_cpus",
    "entrypoint_num_gpus",
    "entrypoint_memory",
    "entrypoint_resources",
    "entrypoint_label_selector",
)
_ID = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.:=+@-]{{0,{LONGEST_ID - 1}}}")
_LIKE_AN_ATTEMPT = re.compile(r".*\.[0-9]+")
_LETTERS = sorted(set(string.ascii_letters + string.digits) - set("IloO0"))
_LABEL = r"([a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?)"
_LABEL_PREFIX = re.compile(rf"({_LABEL}?(\.{_LABEL}?)*)")
_SELECTOR = re.compile(rf"!?(?:in)?\({_LABEL}(?:, ?{_LABEL})*\)|!?{_LABEL}")
_AND_SO_ON = "beginning and ending with an alphanumeric character ([a-z0-9A-Z]) with dashes (-), underscores (_),"


def read_submission(body: bytes) -> dict[str, Any]:
    """A submit request, its types checked, without the keys that are null.

    Raises:
        RefusalError: 400 with what is wrong.
    """
    data = _strip(_json(body))
    unknown = next((key for key in data if key not in _KNOWN), None)
    if unknown is not None:
        _type_error(f"JobSubmitRequest.__init__() got an unexpected keyword argument {unknown!r}")
    if "entrypoint" not in data:
        _type_error("JobSubmitRequest.__init__() missing 1 required positional argument: 'entrypoint'")
    if not isinstance(data["entrypoint"], str):
        _type_error(f"entrypoint must be a string, got {type(data['entrypoint'])}")
    for key in ("submission_id", "job_id"):
        if not isinstance(data.get(key, ""), str):
            _type_error(f"{key} must be a string if provided, got {type(data[key])}")
    _check_texts(data, "metadata")
    _check_quantities(data)
    _check_texts(data, "entrypoint_label_selector")
    _check_labels(data.get("entrypoint_label_selector") or {})
    _check_runtime_env(data)
    return data


def submission_id(data: dict[str, Any]) -> str:
    """The id the job gets: the one asked for, else one as Ray makes them.

    Raises:
        RefusalError: 400: the id cannot be one.
    """
    asked: str = data.get("submission_id") or data.get("job_id") or ""
    if not asked:
        return "raysubmit_" + "".join(secrets.choice(_LETTERS) for _ in range(16))
    if not _ID.fullmatch(asked):
        raise bad_request(
            "bad_submission_id",
            f"The submission id {asked[:60]!r} cannot be used: write 1 to {LONGEST_ID} letters, digits, or one of "
            "'_.:=+@-', beginning with a letter, a digit or '_', for example train-17.",
        )
    if _LIKE_AN_ATTEMPT.fullmatch(asked):
        raise bad_request(
            "bad_submission_id",
            f"The submission id {asked!r} cannot be used: an id with a dot and a number at its end names a later "
            f"attempt of a job. Write for example {asked.replace('.', '-')}.",
        )
    return asked


def _json(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body, parse_constant=_not_json, parse_float=_finite)
        # The journal keeps UTF-8 and knows nothing of halves of a surrogate pair.
        json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise bad_request("malformed", "The request body cannot be read: it is not JSON (RFC 8259) in UTF-8.") from None
    if not isinstance(data, dict):
        raise bad_request("malformed", 'The request body is not a JSON object such as {"entrypoint": "python x.py"}.')
    return cast("dict[str, Any]", data)


def _not_json(word: str) -> NoReturn:
    raise ValueError(word)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _strip(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value is not None}


def _check_texts(data: dict[str, Any], key: str) -> None:
    """A map of text to text."""
    value = data.get(key)
    if value is None:
        return
    if not isinstance(value, dict):
        _type_error(f"{key} must be a dict, got {type(value)}")
    for each in value.values():
        if not isinstance(each, str):
            _type_error(f"{key} values must be strings, got {type(each)}")


def _check_quantities(data: dict[str, Any]) -> None:
    for key in ("entrypoint_num_cpus", "entrypoint_num_gpus"):
        if not isinstance(data.get(key, 0), (int, float)):
            _type_error(f"{key} must be a number, got {type(data[key])}")
    if not isinstance(data.get("entrypoint_memory", 0), int):
        _type_error(f"entrypoint_memory must be an integer, got {type(data['entrypoint_memory'])}")
    resources = data.get("entrypoint_resources", {})
    if not isinstance(resources, dict):
        _type_error(f"entrypoint_resources must be a dict, got {type(resources)}")
    for value in resources.values():
        if not isinstance(value, (int, float)):
            _type_error(f"entrypoint_resources values must be numbers, got {type(value)}")


def _check_labels(selector: dict[str, str]) -> None:
    """As Ray checks label selectors, in its words."""
    for key, value in selector.items():
        prefix, _, name = key.rpartition("/")
        if "/" in key and (len(prefix) > 253 or not _LABEL_PREFIX.fullmatch(prefix)):
            _value_error(
                f"Invalid label key prefix `{prefix}`. Prefix must be a series of DNS labels "
                "separated by dots (.), not longer than 253 characters in total."
            )
        if len(name) > 63 or not re.fullmatch(_LABEL, name):
            _value_error(
                f"Invalid label key name `{name}`. Name must be 63 chars or less {_AND_SO_ON}"
                "dots (.), and alphanumerics between."
            )
        if value and not _SELECTOR.fullmatch(value):
            _value_error(
                f"Invalid label selector value `{value}`. The label selector value should contain optional operators "
                "and a label value. Supported operators are: ! and {'in'}. "
                f"Value must be 63 chars or less {_AND_SO_ON}dots (.), and alphanumerics between."
            )


def _check_runtime_env(data: dict[str, Any]) -> None:
    env = data.get("runtime_env")
    if env is None:
        return
    if not isinstance(env, dict):
        _type_error(f"runtime_env must be a dict, got {type(env)}")
    variables = env.get("env_vars")
    if variables is not None and not (
        isinstance(variables, dict) and all(isinstance(value, str) for value in variables.values())
    ):
        _type_error("runtime_env['env_vars'] must be of type Dict[str, str]")
    hook = env.get("worker_process_setup_hook")
    if hook is not None and not isinstance(hook, str):
        _value_error(
            f"Invalid type {type(hook)} for `worker_process_setup_hook`. When a job submission API is used, "
            "`worker_process_setup_hook` only allows a string type (module name)."
        )
    if not isinstance(env.get("working_dir", ""), (str, type(None))):
        _type_error(f"`working_dir` must be a string, got {type(env['working_dir'])}.")
    modules = env.get("py_modules")
    if modules is not None and not (isinstance(modules, list) and all(isinstance(each, str) for each in modules)):
        _type_error(f"`py_modules` must be a list of strings, got {type(modules)}.")


def _type_error(what: str) -> NoReturn:
    raise bad_request("bad_submission", f"TypeError: {what}")


def _value_error(what: str) -> NoReturn:
    raise bad_request("bad_submission", f"ValueError: {what}")
