"""Logs and metrics of one process: JSON lines through structlog, numbers through a Prometheus registry."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from fabric.telemetry.names import METRICS, Kind, Metric


def configure_logging(process: str, path: Path | None = None, level: int = logging.INFO) -> None:
    """Send this process's log, and that of the libraries in it, as JSON lines to ``path`` or standard error.

    Every line has ``at`` (ISO 8601, UTC), ``level``, ``process``, ``event`` and what the caller added.
    """
    stream: TextIO = sys.stderr
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a", buffering=1, encoding="utf-8")
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.contextvars.merge_contextvars,
        _name(process),
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for chatty in ("httpx", "httpcore", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )


def take_over(library: str) -> None:
    """Send the log of a library that brings its own handlers the way of everything else."""
    logger = logging.getLogger(library)
    logger.handlers.clear()
    logger.propagate = True


class Metrics:
    """The metrics of one process. A metric appears in the exposition once it has been touched.

    Nothing is global: two of these in one process, as tests have them, do not meet.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._known = {metric.name: metric for metric in METRICS}
        self._made: dict[str, Counter | Gauge | Histogram] = {}

    def count(self, metric: Metric, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter."""
        child = self._child(metric, Kind.COUNTER, labels)
        assert isinstance(child, Counter)  # noqa: S101 - for the type checker
        child.inc(amount)

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        """Set a gauge."""
        child = self._child(metric, Kind.GAUGE, labels)
        assert isinstance(child, Gauge)  # noqa: S101 - for the type checker
        child.set(value)

    def forget(self, metric: Metric) -> None:
        """Drop every labelled value of a gauge, before it is written anew."""
        made = self._made.get(metric.name)
        if made is not None:
            made.clear()

    def observe(self, metric: Metric, seconds: float, **labels: str) -> None:
        """Add one duration to a histogram."""
        child = self._child(metric, Kind.HISTOGRAM, labels)
        assert isinstance(child, Histogram)  # noqa: S101 - for the type checker
        child.observe(seconds)

    @contextmanager
    def timed(self, metric: Metric, **labels: str) -> Iterator[None]:
        """Observe how long the body took, however it ended."""
        begun = perf_counter()
        try:
            yield
        finally:
            self.observe(metric, perf_counter() - begun, **labels)

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def _child(self, metric: Metric, kind: Kind, labels: dict[str, str]) -> Counter | Gauge | Histogram:
        if metric.kind is not kind or self._known.get(metric.name) is not metric:
            raise ValueError(f"{metric.name} is not a {kind} of the table in fabric/telemetry/names.py")
        made = self._made.get(metric.name)
        if made is None:
            made = self._made[metric.name] = self._make(metric)
        return made.labels(**labels) if metric.labels else made

    def _make(self, metric: Metric) -> Counter | Gauge | Histogram:
        if metric.kind is Kind.COUNTER:
            return Counter(metric.name, metric.help, metric.labels, registry=self.registry)
        if metric.kind is Kind.GAUGE:
            return Gauge(metric.name, metric.help, metric.labels, registry=self.registry)
        return Histogram(metric.name, metric.help, metric.labels, registry=self.registry, buckets=metric.buckets)


def _name(process: str) -> structlog.typing.Processor:
    def add(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event.setdefault("process", process)
        return event

    return add
