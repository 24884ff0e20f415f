"""Named places between two statements at which a test may kill this process, to prove that any of them is safe.

``FABRIC_CRASH_AT=launch.after_call,end.before_call`` makes the process send itself SIGKILL the first time it gets to
each of them. Files named ``<FABRIC_CRASH_MARK>.<point>`` remember what has happened, so that the restarted process
goes on.
"""

from __future__ import annotations

import os
import signal

POINTS = (
    "decision.before_entry",
    "decision.after_entry",
    "launch.before_intent",
    "launch.after_intent",
    "launch.after_call",
    "launch.after_accepted",
    "end.before_intent",
    "end.after_intent",
    "end.before_call",
    "end.after_call",
    "ended.before_entry",
    "ended.after_entry",
    "adopt.before_entry",
    "adopt.after_entry",
    "orphan.before_entry",
    "orphan.after_entry",
    "cancel.before_entry",
    "cancel.after_entry",
)
JOB_POINTS = (
    "admit.before_entry",
    "admit.after_entry",
    "submit.before_call",
    "submit.after_call",
    "started.before_entry",
    "started.after_entry",
    "attempt.before_end",
    "attempt.after_end",
)


def reached(point: str) -> None:
    """Die here, once, if a test asks for it; otherwise nothing."""
    asked = os.environ.get("FABRIC_CRASH_AT")
    if not asked or point not in asked.split(","):
        return
    if point not in POINTS + JOB_POINTS:
        raise ValueError(f"{point} is not in POINTS or JOB_POINTS")
    try:
        descriptor = os.open(f"{os.environ['FABRIC_CRASH_MARK']}.{point}", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return
    os.fsync(descriptor)
    os.kill(os.getpid(), signal.SIGKILL)
