"""What a provider can get around it, each a provider itself: seen, slowed down, or kept from doing anything.

The journal is not among these: an intent has to be durable before a provider is called, in one step with the refusal
that it follows, and whoever buys or ends writes it (``autoscaler/shell/buy.py``, ``autoscaler/shell/sweep.py``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from autoscaler.providers.base import (
    BadRequestError,
    Check,
    Instance,
    LaunchSpec,
    Provider,
    ProviderError,
    ThrottledError,
)
from fabric.model.nodes import Offer
from fabric.telemetry.emit import Metrics
from fabric.telemetry.names import PROVIDER_ERRORS, PROVIDER_SECONDS

T = TypeVar("T")

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0


class Observed:
    """A provider whose calls are metered and logged; it changes no result.

    Args:
        site: for the labels.
        inner: the provider itself.
        metrics: where the numbers go.
    """

    def __init__(self, site: str, inner: Provider, metrics: Metrics) -> None:
        self._site = site
        self._inner = inner
        self._metrics = metrics
        self._log = structlog.get_logger(site=site)

    def offers(self) -> Sequence[Offer]:
        """See ``Provider.offers``."""
        return self._call("offers", self._inner.offers)

    def launch(self, specs: Sequence[LaunchSpec]) -> Sequence[Instance | ProviderError]:
        """See ``Provider.launch``."""
        results = self._call("launch", lambda: self._inner.launch(specs))
        self._note("launch", (result for result in results if isinstance(result, ProviderError)))
        return results

    def list(self) -> Sequence[Instance]:
        """See ``Provider.list``."""
        return self._call("list", self._inner.list)

    def terminate(self, instance_ids: Sequence[str]) -> Mapping[str, ProviderError | None]:
        """See ``Provider.terminate``."""
        results = self._call("terminate", lambda: self._inner.terminate(instance_ids))
        self._note("terminate", (error for error in results.values() if error is not None))
        return results

    def check(self) -> Sequence[Check]:
        """See ``Provider.check``."""
        return self._call("check", self._inner.check)

    def _call(self, name: str, call: Callable[[], T]) -> T:
        try:
            with self._metrics.timed(PROVIDER_SECONDS, site=self._site, call=name):
                return call()
        except ProviderError as error:
            self._note(name, [error])
            raise

    def _note(self, call: str, errors: Iterable[ProviderError]) -> None:
        for error in errors:
            self._metrics.count(PROVIDER_ERRORS, site=self._site, call=call, error=error.code)
            self._log.warning("provider call failed", call=call, error=error.code, message=str(error))


@dataclass(slots=True)
class _Pause:
    until: float = 0.0
    length: float = 0.0
    last: ThrottledError = field(default_factory=lambda: ThrottledError(""))


class RateLimited:
    """A provider whose throttled calls are left alone for a while; other calls of the same cloud go on.

    After a throttled ``launch`` further launches are answered with the same error, without asking, until the time the
    cloud named has passed, or else one that doubles up to a minute. The same for ``list`` and for ``terminate``, each
    by itself. Nothing waits in here: the caller has its answer at once, and the time when to come back.

    Args:
        inner: the provider itself.
        clock: seconds that only go forward, for example ``time.monotonic``.
    """

    def __init__(self, inner: Provider, clock: Callable[[], float]) -> None:
        self._inner = inner
        self._clock = clock
        self._lock = threading.Lock()
        self._pauses: dict[str, _Pause] = {}

    def offers(self) -> Sequence[Offer]:
        """See ``Provider.offers``."""
        return self._inner.offers()

    def launch(self, specs: Sequence[LaunchSpec]) -> Sequence[Instance | ProviderError]:
        """See ``Provider.launch``."""
        if refusal := self._held("launch"):
            return [refusal] * len(specs)
        results = self._inner.launch(specs)
        self._learn("launch", [result for result in results if isinstance(result, ThrottledError)])
        return results

    def list(self) -> Sequence[Instance]:
        """See ``Provider.list``."""
        if refusal := self._held("list"):
            raise refusal
        try:
            found = self._inner.list()
        except ThrottledError as error:
            self._learn("list", [error])
            raise
        self._learn("list", [])
        return found

    def terminate(self, instance_ids: Sequence[str]) -> Mapping[str, ProviderError | None]:
        """See ``Provider.terminate``."""
        if refusal := self._held("terminate"):
            return dict.fromkeys(instance_ids, refusal)
        answers = self._inner.terminate(instance_ids)
        self._learn("terminate", [answer for answer in answers.values() if isinstance(answer, ThrottledError)])
        return answers

    def check(self) -> Sequence[Check]:
        """See ``Provider.check``."""
        return self._inner.check()

    def _held(self, call: str) -> ThrottledError | None:
        with self._lock:
            pause = self._pauses.get(call)
            left = pause.until - self._clock() if pause else 0.0
            if pause is None or left <= 0:
                return None
            last = pause.last
            return ThrottledError(last.message, cloud_code=last.cloud_code, retry_after_s=left, family=last.family)

    def _learn(self, call: str, throttled: Sequence[ThrottledError]) -> None:
        with self._lock:
            if not throttled:
                self._pauses.pop(call, None)
                return
            pause = self._pauses.setdefault(call, _Pause())
            pause.length = min(pause.length * 2 or _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
            named = [error.retry_after_s for error in throttled if error.retry_after_s is not None]
            pause.until = self._clock() + (max(named) if named else pause.length)
            pause.last = throttled[-1]


class DryRun:
    """A provider that looks and never touches: nothing is launched, nothing is ended, and the log says what would be.

    Args:
        site: for the log.
        inner: the provider itself.
    """

    def __init__(self, site: str, inner: Provider) -> None:
        self._inner = inner
        self._log = structlog.get_logger(site=site)

    def offers(self) -> Sequence[Offer]:
        """See ``Provider.offers``."""
        return self._inner.offers()

    def launch(self, specs: Sequence[LaunchSpec]) -> Sequence[Instance | ProviderError]:
        """Refuse every launch in a way that fails over to nothing."""
        for spec in specs:
            self._log.info("dry run: would launch", offer=spec.offer.offer_id, token=spec.token)
        return [BadRequestError("dry run: nothing is launched", cloud_code="dry run") for _ in specs]

    def list(self) -> Sequence[Instance]:
        """See ``Provider.list``."""
        return self._inner.list()

    def terminate(self, instance_ids: Sequence[str]) -> Mapping[str, ProviderError | None]:
        """Accept, and do nothing: accepted is not ended."""
        for instance_id in instance_ids:
            self._log.info("dry run: would end", instance=instance_id)
        return dict.fromkeys(instance_ids)

    def check(self) -> Sequence[Check]:
        """See ``Provider.check``."""
        return self._inner.check()
