"""What every provider gets around it: each call is timed, its errors are counted by kind and logged in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import structlog

from autoscaler.providers.base import Check, Instance, LaunchSpec, Provider, ProviderError
from fabric.model.nodes import Offer
from fabric.telemetry.emit import Metrics
from fabric.telemetry.names import PROVIDER_ERRORS, PROVIDER_SECONDS

T = TypeVar("T")


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
