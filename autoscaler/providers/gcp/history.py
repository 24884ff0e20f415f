"""How instances ended. Google forgets a deleted instance at once; its operations are kept for days."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import replace

import structlog

from autoscaler.providers.base import Instance, InstanceState, NotFoundError, ProviderError
from autoscaler.providers.gcp.instances import Instances
from autoscaler.providers.gcp.reply import Found, end_of

_KEPT = 1000
# Listings in a row that may lack an instance of which no operation says that it ended; then it is forgotten.
_MISSES = 200


class History:
    """Remembers the instances this process has seen, and reads how each ended once it is listed no more.

    After a restart of the process nothing is remembered: an instance that ended meanwhile is then simply not there.

    Args:
        instances: the calls.
    """

    def __init__(self, instances: Instances) -> None:
        self._instances = instances
        self._lock = threading.Lock()
        self._living: dict[str, Found] = {}
        self._ended: OrderedDict[str, Instance] = OrderedDict()
        self._misses: Counter[str] = Counter()
        self._log = structlog.get_logger()

    def saw(self, found: Iterable[Found]) -> None:
        """These exist, or have ended already."""
        with self._lock:
            for one in found:
                if one.instance.state is not InstanceState.ENDED:
                    self._living[one.instance.instance_id] = one
                elif one.instance.instance_id not in self._ended:
                    self._ended[one.instance.instance_id] = one.instance

    def knows(self, instance_id: str) -> bool:
        """Whether this instance has been seen."""
        with self._lock:
            return instance_id in self._living or instance_id in self._ended

    def with_ended(self, listed: Mapping[str, Found]) -> list[Instance]:
        """The listing with those that ended lately, each with the time and the reason of its end."""
        with self._lock:
            for key, one in listed.items():
                # Whatever was said of its end: it is there. One that has stopped and is being deleted has ended.
                if one.instance.state in (InstanceState.PENDING, InstanceState.RUNNING):
                    self._ended.pop(key, None)
            missing = {key: one for key, one in self._living.items() if key not in listed}
            stopped = {
                key: one
                for key, one in listed.items()
                if one.instance.state is InstanceState.ENDED and key not in self._ended
            }
        ended = {**{key: one.instance for key, one in stopped.items()}, **self._ends({**missing, **stopped})}
        with self._lock:
            self._misses = Counter({key: self._misses[key] + 1 for key in missing if key not in ended})
            for key in [key for key, misses in self._misses.items() if misses >= _MISSES]:
                self._living.pop(key, None)
            for key, instance in ended.items():
                self._living.pop(key, None)
                self._ended.setdefault(key, instance)
            while len(self._ended) > _KEPT:
                self._ended.popitem(last=False)
            told = dict(self._ended)
        self.saw(one for key, one in listed.items() if key not in told)
        return [*(one.instance for key, one in listed.items() if key not in told), *told.values()]

    def _ends(self, gone: Mapping[str, Found]) -> dict[str, Instance]:
        """Those of ``gone`` whose end Google's operations show; one that they do not show may come back."""
        zones: dict[str, dict[int, Instance]] = {}
        for key, one in gone.items():
            zones.setdefault(key.partition("/")[0], {})[one.number] = one.instance
        ended: dict[str, Instance] = {}
        for zone, targets in zones.items():
            try:
                operations = list(self._instances.operations_on(zone, list(targets)))
            except ProviderError as error:
                # Not knowing how they ended must not hide those that live.
                self._log.warning("operations could not be read", zone=zone, error=error.code, message=str(error))
                continue
            for number, instance in targets.items():
                end = end_of(operation for operation in operations if int(operation.target_id) == number)
                if end is not None and (instance.state is InstanceState.ENDED or not self._lives(instance)):
                    at = max(end.at_ms, instance.launched_at_ms)
                    ended[instance.instance_id] = replace(
                        instance, state=InstanceState.ENDED, ended_at_ms=at, reason=end.reason
                    )
        return ended

    def _lives(self, instance: Instance) -> bool:
        """Whether Google, asked for this very instance, shows it living: a delete may say yes and do nothing."""
        zone, _, name = instance.instance_id.partition("/")
        try:
            return self._instances.get(zone, name).instance.state is not InstanceState.ENDED
        except NotFoundError:
            return False
        except ProviderError:
            return True
