"""What a job declares: Ray's entrypoint flags and the ``fabric.*`` keys of its metadata, read into needs. Pure."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fabric.config.units import byte_count, dollars, name, seconds
from fabric.model.jobs import NOTHING, Needs
from fabric.model.resources import CPU, GPU, MEMORY, Resources

PREFIX = "fabric."
EXAMPLES: Mapping[str, str] = {
    "fabric.gpus": "8",
    "fabric.cpus": "16",
    "fabric.memory": "64GiB",
    "fabric.workers": "4",
    "fabric.runtime": "2h30m",
    "fabric.priority": "10",
    "fabric.data_class": "internal",
    "fabric.max_cost": "20 USD",
    "fabric.deadline": "2026-12-24T18:00:00Z",
    "fabric.restartable": "true",
    "fabric.dataset": "slides-2026",
    "fabric.after": "raysubmit_prepare,raysubmit_clean",
}
MOST_WORKERS = 10_000
MOST_NAMES = 100
_MOST_UNITS = 1_000_000.0
_MOST_BYTES = 1024.0**6
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,4})?")
_JOB = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:=+@-]{0,127}")


class DeclarationError(Exception):
    """A key of the declaration cannot be read; the text is the sentence, ``key`` the key."""

    def __init__(self, key: str, sentence: str) -> None:
        super().__init__(sentence)
        self.key = key


@dataclass(frozen=True, slots=True)
class Declared:
    """What the metadata and the flags of one submission say: its needs, and the data class asked for, if any."""

    needs: Needs
    data_class: str | None = None


def declare(submission: Mapping[str, Any], now: float) -> Declared:
    """Read a submission.

    Args:
        submission: the body of Ray's submit request, its types already checked.
        now: Unix seconds; deadlines given as a duration count from it.

    Raises:
        DeclarationError: a ``fabric.*`` key that is not known or has a bad value, or entrypoint resources that Ray
            could never grant.
    """
    metadata: Mapping[str, str] = submission.get("metadata") or {}
    for key in metadata:
        if key.startswith(PREFIX) and key not in EXAMPLES:
            raise DeclarationError(key, _not_a_key(key))
    values = _Values(metadata)
    bundle = Resources.of(
        {
            GPU: values.read("fabric.gpus", _gpus, 0.0),
            CPU: values.read("fabric.cpus", _quantity, 0.0),
            MEMORY: values.read("fabric.memory", _memory, 0.0),
        }
    )
    entrypoint = entrypoint_needs(submission)
    count = values.read("fabric.workers", _workers, 1)
    if count > 1 and not bundle:
        raise DeclarationError(
            "fabric.workers",
            f"fabric.workers is {count}, but nothing says what one worker needs. "
            "Add fabric.gpus, fabric.cpus or fabric.memory: they are per worker.",
        )
    needs = Needs(
        declared=bool(bundle) or bool(entrypoint),
        bundle=bundle,
        count=count,
        entrypoint=entrypoint,
        runtime_s=values.read("fabric.runtime", _runtime, None),
        priority=values.read("fabric.priority", _priority, 0),
        max_cost=values.read("fabric.max_cost", dollars, None),
        deadline=values.read("fabric.deadline", lambda text: _deadline(text, now), None),
        restartable=values.read("fabric.restartable", _flag, False),
        datasets=values.read("fabric.dataset", lambda text: _names(text, name), ()),
        after=values.read("fabric.after", lambda text: _names(text, _job), ()),
    )
    return Declared(needs, values.read("fabric.data_class", name, None))


def entrypoint_needs(submission: Mapping[str, Any]) -> Resources:
    """What the driver itself asks of Ray.

    Raises:
        DeclarationError: a quantity is negative, not finite, or absurdly large.
    """
    asked: dict[str, float] = {}
    flags = {"entrypoint_num_cpus": CPU, "entrypoint_num_gpus": GPU, "entrypoint_memory": MEMORY}
    for key, resource in flags.items():
        if submission.get(key):
            asked[resource] = _granted(key, submission[key])
    custom: Mapping[str, float] = submission.get("entrypoint_resources") or {}
    for resource, quantity in custom.items():
        if resource in (CPU, GPU, MEMORY) or not resource:
            raise DeclarationError(
                "entrypoint_resources",
                f"entrypoint_resources names {resource!r}. Use entrypoint_num_cpus, entrypoint_num_gpus or "
                "entrypoint_memory for it; entrypoint_resources is for custom resources.",
            )
        asked[resource] = _granted("entrypoint_resources", quantity)
    return Resources.of(asked) if asked else NOTHING


class _Values:
    def __init__(self, metadata: Mapping[str, str]) -> None:
        self._metadata = metadata

    def read(self, key: str, parse: Callable[[str], Any], default: Any) -> Any:
        """The value of ``key``, or ``default`` where it is not given."""
        text = self._metadata.get(key)
        if text is None:
            return default
        try:
            return parse(text.strip())
        except ValueError as error:
            raise DeclarationError(key, f"{key} cannot be read: {error}. Example: {key}={EXAMPLES[key]}") from None


def _granted(key: str, quantity: float) -> float:
    most = _MOST_BYTES if key == "entrypoint_memory" else _MOST_UNITS
    if not math.isfinite(quantity) or not 0 <= quantity <= most:
        raise DeclarationError(key, f"{key} is {quantity}. Write a number from 0 to {most:g}, for example 1.")
    if key == "entrypoint_num_gpus" and quantity > 1 and quantity != int(quantity):
        raise DeclarationError(
            key, f"{key} is {quantity}. Ray takes whole GPUs above 1: write for example 0.5, 1 or 2."
        )
    return float(quantity)


def _quantity(text: str) -> float:
    if not _NUMBER.fullmatch(text) or float(text) > _MOST_UNITS:
        raise ValueError(f"{_show(text)} is not a number from 0 to {_MOST_UNITS:.0f}")
    return float(text)


def _gpus(text: str) -> float:
    number = _quantity(text)
    if number > 1 and number != int(number):
        raise ValueError(f"{_show(text)} is not whole, and Ray takes whole GPUs above 1")
    return number


def _memory(text: str) -> float:
    return float(text) if re.fullmatch(r"[0-9]{1,18}", text) else float(byte_count(text))


def _workers(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= MOST_WORKERS:
        raise ValueError(f"{_show(text)} is not a whole number from 1 to {MOST_WORKERS}")
    return int(text)


def _priority(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,4}", text) or abs(int(text)) > 1000:
        raise ValueError(f"{_show(text)} is not a whole number from -1000 to 1000")
    return int(text)


def _runtime(text: str) -> float:
    duration = seconds(text)
    if duration <= 0:
        raise ValueError(f"{_show(text)} is no time at all")
    return duration


def _deadline(text: str, now: float) -> float:
    """A moment with its offset from UTC, or a duration from now."""
    if re.fullmatch(r"[0-9.]+ *(ms|s|m|h|d).*", text):
        return now + _runtime(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{_show(text)} is neither a date with a time nor a duration such as 8h") from None
    if moment.tzinfo is None:
        raise ValueError(f"{_show(text)} does not say its offset from UTC; end it with Z or for example +01:00")
    if moment.timestamp() <= now:
        raise ValueError(f"{_show(text)} has passed")
    return moment.timestamp()


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{_show(text)} is neither true nor false")
    return text.lower() == "true"


def _names(text: str, one: Callable[[str], str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(one(part.strip()) for part in text.split(",")))
    if len(names) > MOST_NAMES:
        raise ValueError(f"it names {len(names)}, more than {MOST_NAMES}")
    return names


def _job(text: str) -> str:
    if not _JOB.fullmatch(text):
        raise ValueError(f"{_show(text)} is not a submission id")
    return text


def _not_a_key(key: str) -> str:
    near = difflib.get_close_matches(key, EXAMPLES, n=1)
    hint = f"Did you mean {near[0]}, for example {near[0]}={EXAMPLES[near[0]]}?" if near else ""
    known = ", ".join(EXAMPLES)
    return f"The metadata has the key {_show(key)}, which the fabric does not know. {hint or f'It knows {known}.'}"


def _show(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:56]!r}…"
