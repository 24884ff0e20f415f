"""Machines that have ended: Azure forgets them at once, and the contract lists them for a while."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

from autoscaler.providers.base import TAG_OFFER, Instance, InstanceState
from fabric.model.nodes import Market

MOST = 2_000


class Memory:
    """What this process has seen, so that an end is listed with its time and a token never makes a second machine.

    A process that never saw a machine cannot tell that it ended; then it is simply not listed, which callers take for
    an end at a time that they have to estimate.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, Instance] = OrderedDict()
        self._asked: set[str] = set()

    def saw(self, instances: Iterable[Instance]) -> list[Instance]:
        """Note living machines; the same ones, those that are ending with the reason for which they began to."""
        with self._lock:
            noted = [self._note(instance) for instance in instances]
            while len(self._seen) > MOST:
                old, _ = self._seen.popitem(last=False)
                self._asked.discard(old)
            return noted

    def asked_to_end(self, name: str) -> None:
        """Note that somebody asked for the end of a machine."""
        with self._lock:
            self._asked.add(name)

    def living(self) -> frozenset[str]:
        """Names of machines that were alive when they were last seen."""
        with self._lock:
            return frozenset(name for name, one in self._seen.items() if one.state is not InstanceState.ENDED)

    def gone(self, name: str, at_ms: int) -> None:
        """Note that Azure knows a machine no more.

        Args:
            name: the machine.
            at_ms: Azure's clock when it said so: the machine ended at some time before.
        """
        with self._lock:
            before = self._seen.get(name)
            if before is None or before.state is InstanceState.ENDED:
                return
            ended_at_ms = max(at_ms, before.launched_at_ms)
            reason = self._why(before)
            self._seen[name] = replace(before, state=InstanceState.ENDED, ended_at_ms=ended_at_ms, reason=reason)

    def _note(self, instance: Instance) -> Instance:
        if instance.state is InstanceState.ENDING:
            before = self._seen.get(instance.instance_id, instance)
            instance = replace(instance, reason=self._why(before if before.reason else instance))
        self._seen[instance.instance_id] = instance
        self._seen.move_to_end(instance.instance_id)
        return instance

    def _why(self, instance: Instance) -> str:
        """Why a machine ends: Azure does not tell an eviction from anybody's delete."""
        if instance.reason not in ("", "user"):
            return instance.reason
        if instance.instance_id in self._asked or not instance.tags.get(TAG_OFFER, "").endswith(f"/{Market.SPOT}"):
            return "user"
        return "spot reclaim"

    def all_ended(self) -> list[Instance]:
        """Machines that have ended, as far as is remembered."""
        with self._lock:
            return [one for one in self._seen.values() if one.state is InstanceState.ENDED]

    def ended(self, name: str) -> Instance | None:
        """A machine of that name that has ended; None if none is known."""
        with self._lock:
            one = self._seen.get(name)
        return one if one is not None and one.state is InstanceState.ENDED else None
