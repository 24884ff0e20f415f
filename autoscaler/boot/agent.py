"""The node agent: ``python -m autoscaler.boot.agent``. Joins, starts the raylet, and ends the machine in time.

The main thread only looks at clocks, processes and flags, and so can always act: everything that talks to a
network has a thread of its own. Exit codes are those of ``autoscaler.boot.script.EXIT_CODES``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from autoscaler.boot import orphans, spot
from autoscaler.boot.guard import Guard, Verdicts
from autoscaler.boot.join import Joined, RefusedError, join
from autoscaler.boot.lease import Lease, Renewer, boot_clock
from autoscaler.boot.link import GatewayLink
from autoscaler.boot.private import private_directory
from autoscaler.boot.raylet import Raylet, end_leftover
from autoscaler.boot.settings import Settings, SettingsError, take_settings

_LOOK_EVERY_S = 0.25
_END_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Ending:
    """How this agent's work came to its end.

    Attributes:
        code: exit code.
        sentence: why, for people.
        machine: whether the machine has to end as well, if it can.
    """

    code: int
    sentence: str
    machine: bool = True


def main() -> int:
    """Run the agent with the settings in the environment; returns its exit code."""
    try:
        settings = take_settings(os.environ)
        agent = Agent(settings)
    except (SettingsError, ValueError) as error:
        say(str(error))
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop())
    try:
        ending = agent.run()
    except Exception:
        traceback.print_exc()
        ending = Ending(1, "the agent failed; this should not happen")
    say(ending.sentence)
    if ending.machine and settings.rented:
        end_machine(settings.end_command)
    return ending.code


def say(sentence: str) -> None:
    """One line of the agent's log, on standard error."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"{at} fabric agent: {sentence}", file=sys.stderr, flush=True)


def end_machine(command: str) -> None:
    """Run the command that ends this machine; tried again, because a machine that stays costs money."""
    for attempt in range(_END_ATTEMPTS):
        say("ending this machine")
        code = subprocess.run(["/bin/sh", "-c", command], check=False).returncode
        # The end may come before the command that brings it has returned.
        if code in (0, -signal.SIGTERM):
            return
        say(f"the end command failed with code {code}")
        time.sleep(2.0**attempt)


class Agent:
    """One node's agent, from join to end.

    Args:
        settings: what it was told.
        clock: monotonic seconds, suspended time included.
        wall: Unix seconds; only for what the cloud and the gateway say in Unix time, never for the lease.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = boot_clock,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._wall = wall
        self._deadline = clock() + settings.boot_deadline_s
        self._link = GatewayLink(settings.gateway, settings.fingerprint)
        self._stopped = threading.Event()
        self._reclaim_at: float | None = None

    def stop(self) -> None:
        """Ask it to stop its raylet and leave; safe to call from a signal handler or another thread."""
        self._stopped.set()

    def run(self) -> Ending:
        """Join, run the raylet, and come back when it is over; the raylet is stopped then."""
        private_directory(self._settings.work_dir)
        if not self._settings.temp_dir:
            private_directory(self._settings.session_root)
        if end_leftover(self._settings.work_dir):
            say("ended the raylet that an earlier agent of this node had left behind")
        orphans.adopt()
        joined = self._join()
        if isinstance(joined, Ending):
            return joined
        lease = Lease(joined.asked_at, joined.lease_s)
        renewer = Renewer(self._link, self._settings.token, joined.credential, lease, self._clock, say)
        raylet = Raylet(self._settings, joined)
        renewer.start()
        verdicts = Verdicts(self._link, self._settings.token, joined.credential, self._clock)
        guard = Guard(self._settings.guard_socket, verdicts, say)
        asked = False
        try:
            try:
                private_directory(self._settings.guard_socket.parent)
                guard.start()
            except OSError as error:
                return Ending(25, f"there is no guard, so there is no raylet: {error}")
            # Not in the way of the raylet: an answer is needed when the first worker is to start.
            self._background("guard-look", verdicts.look)
            raylet.start()
            guard.sweep_below(raylet.process)
            if self._settings.metadata_url:
                self._background("spot", lambda: self._look_for_notice(renewer, raylet))
            ending = self._watch(raylet, lease, renewer)
            asked = ending.code == 0
            return ending
        finally:
            self._stopped.set()
            raylet.stop(drain=asked)
            orphans.end_all()
            guard.stop()
            renewer.stop()
            if self._settings.rented and not self._settings.temp_dir:
                # What several machines of a sandbox leave on the one real disk below them.
                shutil.rmtree(self._settings.session_root, ignore_errors=True)

    def _join(self) -> Joined | Ending:
        """Join in a thread, so that the boot deadline holds whatever the network does."""
        outcome: list[Joined | Ending] = []
        finished = threading.Event()

        def ask() -> None:
            try:
                outcome.append(join(self._settings, self._link, self._clock, say, self._stopped.wait))
            except RefusedError as error:
                outcome.append(Ending(20, f"cannot join: {error}"))
            except Exception as error:
                outcome.append(Ending(1, f"joining failed: {error!r}"))
            finished.set()

        self._background("join", ask)
        while not finished.wait(_LOOK_EVERY_S) and not self._stopped.is_set():
            if self._clock() >= self._deadline:
                self._stopped.set()
                return Ending(21, "the boot deadline passed while the gateway could not be joined")
        if self._stopped.is_set():
            return Ending(0, "asked to stop while joining", machine=False)
        return outcome[0]

    def _watch(self, raylet: Raylet, lease: Lease, renewer: Renewer) -> Ending:
        up = lapsed = False
        undertaker = orphans.Undertaker()
        while not self._stopped.wait(_LOOK_EVERY_S):
            if renewer.told_to_end:
                return Ending(23, f"this machine has to end: {renewer.told_to_end}")
            how = raylet.ended()
            if how:
                return self._raylet_ended(raylet, how, up)
            if raylet.unguarded():
                return Ending(25, "the raylet would start workers without the guard: another version of Ray?")
            if not up and raylet.up():
                up = True
                say(f"the raylet is up as node {raylet.node_id}")
            now = self._clock()
            undertaker.bury(now, own=(raylet.pid,))
            if not up and now >= self._deadline:
                return Ending(21, f"the boot deadline passed before the raylet was up: {raylet.last_words()}")
            if lease.lapsed(now) and self._settings.rented:
                return Ending(22, "the lease lapsed: nobody is there who would end this machine")
            if lease.lapsed(now) is not lapsed:
                lapsed = not lapsed
                say("the lease lapsed; this machine is owned and stays" if lapsed else "there is a lease again")
        return Ending(0, "asked to stop", machine=False)

    def _raylet_ended(self, raylet: Raylet, how: str, up: bool) -> Ending:
        if self._reclaim_at is not None:
            return Ending(24, f"{how} after the spot notice")
        return Ending(24, f"{how}" if up else f"{how} before it was up: {raylet.last_words()}")

    def _look_for_notice(self, renewer: Renewer, raylet: Raylet) -> None:
        def on_notice(reclaim_at: float) -> None:
            self._reclaim_at = reclaim_at
            say(f"the cloud takes this machine back in {reclaim_at - self._wall():.0f} s")
            renewer.notice(reclaim_at)
            self._drain(raylet, reclaim_at)

        spot.watch(self._settings.metadata_url, self._stopped, on_notice)

    def _drain(self, raylet: Raylet, reclaim_at: float) -> None:
        """Ask Ray to move work away, again and again until it agrees or the machine is gone."""
        trouble = ""
        while not self._stopped.is_set():
            left_s = reclaim_at - self._wall()
            if left_s <= 0:
                return
            if raylet.up():
                problem = raylet.drain(left_s)
                if not problem:
                    say("Ray moves the work of this node away")
                    return
                if problem != trouble:
                    say(f"Ray did not accept the drain: {problem}")
                    trouble = problem
            self._stopped.wait(_LOOK_EVERY_S)

    def _background(self, name: str, work: Callable[[], None]) -> None:
        threading.Thread(target=work, name=name, daemon=True).start()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
