"""Every way the gateway says no, each with its sentence and what to do about it."""

from __future__ import annotations

import math
from dataclasses import dataclass


class RefusalError(Exception):
    """A request that is not granted.

    Attributes:
        status: the HTTP status.
        code: one word for programs.
        sentence: what is wrong, for people.
        remedy: what to do.
        retry_after_s: seconds after which the same may be asked again; None where nobody can tell.
    """

    def __init__(
        self, status: int, code: str, sentence: str, remedy: str, *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(f"{sentence} {remedy}")
        self.status = status
        self.code = code
        self.sentence = sentence
        self.remedy = remedy
        self.retry_after_s = retry_after_s

    def headers(self) -> dict[str, str]:
        """The headers that go with the answer (``Retry-After``, RFC 9110, 10.2.3)."""
        return {} if self.retry_after_s is None else {"Retry-After": str(math.ceil(max(self.retry_after_s, 1.0)))}

    def words(self) -> str:
        """What is wrong and what to do, as text."""
        return f"{self.sentence} {self.remedy}".strip()

    def body(self) -> dict[str, dict[str, str]]:
        """Make the JSON body of the answer."""
        return {"error": {"code": self.code, "sentence": self.sentence, "remedy": self.remedy}}


@dataclass(frozen=True, slots=True)
class Versions:
    """Python and Ray as one process has them, ``3.11.7`` and ``2.60.0``; an empty Ray is a missing one."""

    python: str
    ray: str

    @property
    def python_minor(self) -> str:
        """Major and minor, ``3.11``: what has to be equal over the cluster."""
        return ".".join(self.python.split(".")[:2])


def ticket_unknown() -> RefusalError:
    """Nobody in this journal made that ticket."""
    return RefusalError(
        403,
        "ticket_unknown",
        "No launch in this fabric's journal was given this join ticket.",
        "Check that the machine was started by this fabric; for an on-prem node make a new join script with "
        "`fabric nodes join-script`.",
    )


def ticket_superseded(token: str) -> RefusalError:
    """A newer ticket was issued for the same on-prem node."""
    return RefusalError(
        403,
        "ticket_superseded",
        f"A newer join ticket has been issued for {token}, so this one is not valid any more.",
        "Use the newest join script, or make another with `fabric nodes join-script`.",
    )


def ticket_used(token: str) -> RefusalError:
    """Somebody else has traded it."""
    return RefusalError(
        403,
        "ticket_used",
        f"This join ticket of {token} has already been used by another process.",
        "A ticket works once. If that was not your machine, end it: somebody has read the user data. "
        "For an on-prem node make a new join script with `fabric nodes join-script`.",
    )


def ticket_expired(token: str, late_s: float) -> RefusalError:
    """It came too late."""
    return RefusalError(
        403,
        "ticket_expired",
        f"This join ticket of {token} expired {duration(late_s)} ago.",
        "The machine took too long to boot, or its script was kept and run later. Start a new machine, or make a "
        "new join script with `fabric nodes join-script`.",
    )


def launch_ended(token: str, cause: str) -> RefusalError:
    """The journal says that this machine has to end."""
    return RefusalError(
        410,
        "launch_ended",
        f"{token} has been ended ({cause}) and cannot be part of the cluster any more.",
        "Nothing to do: the machine ends itself.",
    )


def python_version(theirs: Versions, ours: Versions) -> RefusalError:
    """Ray needs the same Python minor version on every node."""
    return RefusalError(
        409,
        "python_version",
        f"Python is {theirs.python} on this machine and {ours.python} in the cluster.",
        f"Ray needs the same minor version everywhere: use an image with Python {ours.python_minor}.",
    )


def ray_version(theirs: Versions, ours: Versions) -> RefusalError:
    """Ray needs the same Ray on every node."""
    said = f"Ray is {theirs.ray}" if theirs.ray else "Ray is not installed"
    return RefusalError(
        409,
        "ray_version",
        f"{said} on this machine and {ours.ray} in the cluster.",
        f"Install ray=={ours.ray} on the machine or its image.",
    )


def clock_skew(skew_s: float) -> RefusalError:
    """The machine's clock is far from ours; ``skew_s`` is positive when it is ahead."""
    side = "ahead of" if skew_s > 0 else "behind"
    return RefusalError(
        409,
        "clock_skew",
        f"This machine's clock is {duration(abs(skew_s))} {side} the gateway's.",
        "Tokens, leases and logs need clocks within 5 minutes: set it, for example with "
        "`timedatectl set-ntp true`, and join again.",
    )


def boot_checks(theirs: Versions) -> RefusalError:
    """The boot script found other versions than those it was made for, though they are ours now."""
    return RefusalError(
        409,
        "boot_checks",
        f"The boot script found Python {theirs.python} and Ray {theirs.ray or 'missing'}, not what it was made for.",
        "The cluster was upgraded after the script was made: make a new one, or start a new machine.",
    )


def credential_unknown() -> RefusalError:
    """The lease credential is not of that token."""
    return RefusalError(
        401,
        "credential_unknown",
        "This lease credential does not belong to that token in this fabric.",
        "Join again with a new ticket; for an on-prem node make one with `fabric nodes join-script`.",
    )


def controller_silent(silent_s: float | None) -> RefusalError:
    """Nobody would end this machine: no lease is given while the controller is dead."""
    since = "has not been seen yet" if silent_s is None else f"was last alive {duration(silent_s)} ago"
    return RefusalError(
        503,
        "controller_silent",
        f"The controller {since}, so no lease is given to machines that cost money.",
        "Start the controller; `fabric status` says what is wrong with it.",
    )


def malformed(what: str) -> RefusalError:
    """The request is not what it should be."""
    return RefusalError(400, "malformed", what, "See docs/howto/join-a-node.md for what a node sends.")


def too_large(limit: int) -> RefusalError:
    """The request body is larger than anything a node has to say."""
    return RefusalError(
        413, "too_large", f"The request body is larger than {limit} bytes.", "Send only the documented fields."
    )


def duration(seconds: float) -> str:
    """``seconds`` for people: ``2 h 5 min``, ``40 s``."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} days"
