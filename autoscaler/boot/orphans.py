"""Processes that outlive their parents: they fall to the agent, which ends them when the node ends.

When a raylet dies without a word, the drivers of jobs on its node live on: Ray's own watcher is killed with the rest of
the worker's processes, and the driver's shell with it, but not what that shell had started (Ray 2.60, measured). The
job is started again elsewhere, so what is left of it here must not go on working.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Collection

import psutil

# <linux/prctl.h>
_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 2.0


def adopt() -> bool:
    """Become the parent of every orphan below this process (``prctl(2)``); False where the system cannot."""
    with contextlib.suppress(OSError, AttributeError):
        return ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    return False


class Undertaker:
    """Takes note of the end of orphans, so that they leave the process table.

    A child that ended a while ago and that nobody has waited for is an orphan: whoever starts a process here waits.
    """

    def __init__(self, patience_s: float = 5.0) -> None:
        self._patience_s = patience_s
        self._dead_since: dict[int, float] = {}

    def bury(self, now: float, own: Collection[int] = ()) -> None:
        """Look once.

        Args:
            now: monotonic seconds.
            own: children that somebody here looks at only now and then.
        """
        dead: dict[int, float] = {}
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error, ChildProcessError):
                if child.pid in own or child.status() != psutil.STATUS_ZOMBIE:
                    continue
                dead[child.pid] = since = self._dead_since.get(child.pid, now)
                if now - since >= self._patience_s:
                    os.waitpid(child.pid, os.WNOHANG)
        self._dead_since = dead


def end_all() -> int:
    """End every process below this one, the patient ones by force; how many there were."""
    found = psutil.Process().children(recursive=True)
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(found, timeout=_GRACE_S)
    # What was started meanwhile is there, too.
    for process in {*alive, *psutil.Process().children(recursive=True)}:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return len(found)
