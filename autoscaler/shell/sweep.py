"""One site against the journal: list it, rule on every launch, write down what is new, end what must end.

The controller does this after every listing, the reaper in its own time; both through this class, so that it does
not matter which of them is alive. Whatever interrupts a sweep, the next one finds the same and goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import structlog

from autoscaler.core.custody import Machine, Patience, Ruling, Verdict, judge
from autoscaler.core.lifecycle import InstanceRecord
from autoscaler.providers.base import Instance, InstanceState, NotFoundError, Provider, ProviderError
from autoscaler.shell.book import Book
from autoscaler.shell.crashpoints import reached
from fabric.journal.base import Draft
from fabric.model.events import Event
from fabric.telemetry.emit import Metrics
from fabric.telemetry.names import ORPHANS, REAPED, TERMINATIONS

_FIRST_RETRY_S = 1.0
_LONGEST_RETRY_S = 30.0


@dataclass(frozen=True, slots=True)
class SiteView:
    """A site as last listed.

    Attributes:
        listed_at: Unix seconds when the listing was asked for; 0 before the first.
        instances: by token, ended ones included.
        error: why the last attempt to list failed; ``""`` when it did not.
    """

    listed_at: float = 0.0
    instances: Mapping[str, Instance] = field(default_factory=dict)
    error: str = ""


@dataclass(slots=True)
class _Retry:
    due: float
    pause: float


class Sweep:
    """Keeps one site and the journal in agreement.

    Args:
        site: name of the site.
        provider: its cloud.
        book: the journal's fold.
        patience: how long each kind of doubt is borne; asked every time, a new configuration may change it.
        actor: who this is, for ``terminate.intended``.
        clock: Unix seconds.
        metrics: numbers.
        in_flight: tokens whose launch call this process is waiting for.
    """

    def __init__(
        self,
        site: str,
        provider: Provider,
        book: Book,
        patience: Callable[[], Patience],
        actor: str,
        clock: Callable[[], float],
        metrics: Metrics,
        in_flight: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        self.site = site
        self.view = SiteView()
        self._provider = provider
        self._book = book
        self._patience = patience
        self._actor = actor
        self._clock = clock
        self._metrics = metrics
        self._in_flight = in_flight
        self._first_seen: dict[str, float] = {}
        self._retries: dict[str, _Retry] = {}
        self._not_found: set[str] = set()
        self._log = structlog.get_logger(site=site)

    def run(self) -> None:
        """List, rule, write, end.

        Raises:
            ProviderError: the site could not be listed; nothing was done.
            JournalUnavailableError: the journal failed; the cloud was asked for nothing that is not in it.
        """
        # A launch may be answered between these two lines: whoever is in flight before the listing counts.
        busy = set(self._in_flight())
        asked_at = self._clock()
        try:
            listed = self._provider.list()
        except ProviderError as error:
            self.view = SiteView(self.view.listed_at, self.view.instances, str(error))
            raise
        self._book.refresh()
        instances = {instance.token: instance for instance in listed if instance.token}
        for token in instances:
            self._first_seen.setdefault(token, asked_at)
        to_end: dict[str, str] = {}
        for token in instances.keys() | self._book.live(self.site).keys():
            record, instance = self._book.record(token), instances.get(token)
            verdict = self._judge(token, record, instance, asked_at, busy | set(self._in_flight()))
            if instance_id := self._carry_out(verdict, token, record, instance, asked_at):
                to_end[token] = instance_id
        self.view = SiteView(asked_at, instances)
        self._end(to_end)
        self._forget(instances)

    def _judge(
        self,
        token: str,
        record: InstanceRecord | None,
        instance: Instance | None,
        asked_at: float,
        busy: Collection[str],
    ) -> Verdict:
        machine = None
        if instance is not None and not (instance.state is InstanceState.ENDED and instance.ended_at_ms is None):
            machine = Machine(instance.launched_at_ms, instance.ended_at_ms, self._first_seen[token], instance.reason)
        return judge(
            record,
            machine,
            asked_at,
            self._patience(),
            in_flight=token in busy,
            seen_before=token in self._first_seen,
            not_found=token in self._not_found,
        )

    def _carry_out(
        self,
        verdict: Verdict,
        token: str,
        record: InstanceRecord | None,
        instance: Instance | None,
        asked_at: float,
    ) -> str:
        """Write what the verdict calls for; the id of the instance if the cloud is to be asked to end it."""
        instance_id = instance.instance_id if instance is not None else record.instance if record else ""
        named = {"token": token, "instance": instance_id, "site": self.site}
        if verdict.ruling is Ruling.ADOPT and instance is not None:
            reached("adopt.before_entry")
            adopted = Draft(Event.INSTANCE_ADOPTED, {**named, "launched_at_ms": instance.launched_at_ms})
            self._book.append(adopted)
            self._log.info("adopted", token=token, instance=instance_id)
            reached("adopt.after_entry")
        elif verdict.ruling is Ruling.ORPHAN:
            reached("orphan.before_entry")
            self._book.append(
                Draft(Event.ORPHAN_FOUND, {**named, "cause": verdict.cause}),
                Draft(Event.TERMINATE_INTENDED, {**named, "cause": verdict.cause, "by": self._actor}),
            )
            self._metrics.count(ORPHANS, site=self.site)
            self._metrics.count(REAPED, site=self.site, cause=verdict.cause)
            self._log.warning("orphan", token=token, instance=instance_id, cause=verdict.cause)
            reached("orphan.after_entry")
            return instance_id
        elif verdict.ruling is Ruling.END:
            self._book.append(Draft(Event.TERMINATE_INTENDED, {**named, "cause": verdict.cause, "by": self._actor}))
            self._metrics.count(REAPED, site=self.site, cause=verdict.cause)
            self._log.info("ending", token=token, instance=instance_id, cause=verdict.cause)
            return instance_id
        elif verdict.ruling is Ruling.REPEAT:
            return instance_id
        elif verdict.ruling in (Ruling.ENDED, Ruling.GONE):
            self._write_end(verdict, named, record, instance, asked_at)
        elif verdict.ruling is Ruling.CANCEL:
            reached("cancel.before_entry")
            self._book.append(Draft(Event.LAUNCH_CANCELLED, {"token": token, "cause": verdict.cause}))
            reached("cancel.after_entry")
        elif verdict.ruling is Ruling.NEVER:
            offer = record.offer if record is not None else ""
            sentence = "no instance with this token ever appeared"
            told = {"token": token, "offer": offer, "error": verdict.cause, "message": sentence}
            self._book.append(Draft(Event.LAUNCH_REFUSED, told))
        return ""

    def _write_end(
        self,
        verdict: Verdict,
        named: Mapping[str, str],
        record: InstanceRecord | None,
        instance: Instance | None,
        asked_at: float,
    ) -> None:
        if instance is not None and instance.ended_at_ms is not None:
            times = {"launched_at_ms": instance.launched_at_ms, "ended_at_ms": instance.ended_at_ms}
            once = "ended"
        else:
            begun = (record.accepted_at or record.intended_at) if record is not None else None
            known = self.view.instances.get(named["token"])
            launched = known.launched_at_ms if known else round((begun or asked_at) * 1000)
            times = {"launched_at_ms": launched, "ended_at_ms": round(asked_at * 1000), "estimated": True}
            once = "gone"  # a key of its own: the cloud may yet list the machine again, with its own times
        reached("ended.before_entry")
        data = {**named, **times, "reason": verdict.cause}
        key = named["instance"] or named["token"]
        if self._book.append(Draft(Event.INSTANCE_ENDED, data, once=f"{once}:{key}")):
            self._metrics.count(TERMINATIONS, site=self.site)
            self._log.info("ended", token=named["token"], instance=named["instance"], reason=verdict.cause)
        reached("ended.after_entry")

    def _end(self, wanted: Mapping[str, str]) -> None:
        """Ask the cloud to end these, each again and again with growing pauses until a listing says it is gone."""
        now = self._clock()
        due = {
            token: instance_id
            for token, instance_id in wanted.items()
            if instance_id and (token not in self._retries or self._retries[token].due <= now)
        }
        if not due:
            return
        reached("end.before_call")
        answers = self._provider.terminate(list(due.values()))
        reached("end.after_call")
        for token, instance_id in due.items():
            answer = answers.get(instance_id)
            if isinstance(answer, NotFoundError):
                self._not_found.add(token)
            pause = min(self._retries[token].pause * 2, _LONGEST_RETRY_S) if token in self._retries else _FIRST_RETRY_S
            self._retries[token] = _Retry(now + pause, pause)

    def _forget(self, instances: Mapping[str, Instance]) -> None:
        living = instances.keys() | self._book.live(self.site).keys()
        for table in (self._first_seen, self._retries):
            for token in table.keys() - living:
                del table[token]
        self._not_found &= living
