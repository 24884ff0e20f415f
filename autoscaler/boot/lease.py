"""The lease on the node's side. It counts on a clock that nobody can set."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from autoscaler.boot.link import GatewayLink, UnreachableError

_LONGEST_SLEEP_S = 1.0


def boot_clock() -> float:
    """Seconds since boot, suspended time included: a machine that slept through its lease must not wake up alive."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Lease:
    """Until when this machine may live, in seconds of ``boot_clock``.

    A lease counts from the moment it was *asked for*, so the gateway never believes it to be shorter than we do.
    """

    def __init__(self, asked_at: float, length_s: float) -> None:
        self._until = asked_at + length_s
        self._length_s = length_s
        self._next = asked_at + length_s / 3

    @property
    def next_attempt(self) -> float:
        """When to ask again."""
        return self._next

    @property
    def length_s(self) -> float:
        """Length of the newest lease."""
        return self._length_s

    def renewed(self, asked_at: float, length_s: float) -> None:
        """The gateway agreed; ``length_s`` may be shorter than before when nobody looks after it either."""
        self._until, self._length_s = asked_at + length_s, length_s
        self._next = asked_at + max(length_s / 3, 0.2)

    def failed(self, now: float) -> None:
        """No renewal this time: ask again soon, twenty times a lease at most."""
        self._next = now + min(max(self._length_s / 20, 0.2), 15.0)

    def lapsed(self, now: float) -> bool:
        """Whether the machine must not live any more."""
        return now >= self._until


class Renewer:
    """Renews the lease in a thread of its own, so that a gateway that hangs cannot hold up the one who watches.

    Args:
        link: the gateway.
        token, credential: who we are.
        lease: what is renewed; read by others meanwhile.
        clock: the lease's clock.
        say: called with a sentence whenever the answer changes.
    """

    def __init__(
        self,
        link: GatewayLink,
        token: str,
        credential: str,
        lease: Lease,
        clock: Callable[[], float],
        say: Callable[[str], None],
    ) -> None:
        self.told_to_end = ""
        self._link = link
        self._token = token
        self._credential = credential
        self._lease = lease
        self._clock = clock
        self._say = say
        self._reclaim_at: float | None = None
        self._trouble = ""
        self._wake = threading.Event()
        self._stopped = False

    def start(self) -> None:
        """Begin to renew."""
        threading.Thread(target=self._run, name="lease", daemon=True).start()

    def stop(self) -> None:
        """Renew no more."""
        self._stopped = True
        self._wake.set()

    def notice(self, reclaim_at: float) -> None:
        """Tell the gateway at once that the cloud takes the machine back at ``reclaim_at`` (Unix seconds)."""
        self._reclaim_at = reclaim_at
        self._wake.set()

    def attempt(self) -> None:
        """Ask once. Afterwards the lease is renewed, or ``told_to_end`` says why not, or it runs on."""
        asked_at = self._clock()
        message: dict[str, object] = {"token": self._token, "credential": self._credential}
        if self._reclaim_at is not None:
            message["notice"] = {"reclaim_at": self._reclaim_at}
        try:
            answer = self._link.post("/v1/lease", message, timeout_s=min(max(self._lease.length_s / 5, 1.0), 10.0))
            length_s = answer.body.get("lease_s")
            if answer.status == 410 or (answer.status == 200 and answer.body.get("action") == "end"):
                self.told_to_end = answer.sentence or "the gateway said so"
                return
            if answer.status == 200 and isinstance(length_s, (int, float)) and length_s > 0:
                self._lease.renewed(asked_at, float(length_s))
                self._report("")
                return
            trouble = answer.sentence or f"the gateway answered {answer.status}"
        except UnreachableError as error:
            trouble = str(error)
        self._lease.failed(self._clock())
        self._report(trouble)

    def _run(self) -> None:
        while not self._stopped and not self.told_to_end:
            wait_s = self._lease.next_attempt - self._clock()
            # Short sleeps: the lease's clock goes on while this machine is suspended, the sleep does not.
            if wait_s > 0 and not self._wake.wait(min(wait_s, _LONGEST_SLEEP_S)):
                continue
            self._wake.clear()
            if not self._stopped:
                self.attempt()

    def _report(self, trouble: str) -> None:
        if trouble and not self._trouble:
            self._say(f"the lease was not renewed: {trouble}")
        elif self._trouble and not trouble:
            self._say("the lease is renewed again")
        self._trouble = trouble
