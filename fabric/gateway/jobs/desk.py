"""Taking jobs in, stopping and deleting them: the checks, in their order, and what goes into the journal."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fabric.admission.declare import DeclarationError, declare
from fabric.admission.records import JobRecord
from fabric.admission.wire import needs_data
from fabric.config.schema import Config
from fabric.gateway.jobs import refusals
from fabric.gateway.jobs.packages import SCHEME, PackageStore, Stored
from fabric.gateway.jobs.register import JobRegister
from fabric.gateway.jobs.sealed import Seal
from fabric.gateway.jobs.submission import read_submission, submission_id
from fabric.gateway.refusals import RefusalError
from fabric.gateway.throttle import Throttle
from fabric.identity.principal import Principal
from fabric.journal.base import AlreadyAppendedError, Draft, Journal
from fabric.model.events import Event
from fabric.model.jobs import Needs
from fabric.sovereignty.classify import ClassRefusedError, classify
from fabric.sovereignty.tampering import forbidden_environment

_FORBIDDEN = frozenset({"class_widened", "incomparable_classes"})


class JobDesk:
    """Writes submissions, stops and deletions into the journal before they are answered. Its methods block.

    Args:
        journal: what is written there counts; an answer that got lost changes nothing.
        register: the fold of the same journal.
        packages: what was uploaded.
        seal: keeps the values of environment variables from readers of the journal.
        config: the configuration in force.
        clock: Unix seconds.
    """

    def __init__(
        self,
        journal: Journal,
        register: JobRegister,
        packages: PackageStore,
        seal: Seal,
        config: Callable[[], Config],
        clock: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._register = register
        self._packages = packages
        self._seal = seal
        self._config = config
        self._clock = clock
        self._throttle = Throttle(every_s=60.0, size=4096)
        self._lock = threading.Lock()
        self._coming: Counter[str] = Counter()

    def submit(self, caller: Principal, body: bytes) -> str:
        """Put a job into the queue; it is on disk when this returns its id.

        Raises:
            RefusalError: it is not taken in; the refusal is in the journal.
            JournalUnavailableError: nothing was decided.
        """
        data: dict[str, Any] = {}
        try:
            if not caller.may_submit():
                raise refusals.may_not("submit jobs", "user or operator")
            data.update(read_submission(body))
            return self._take_in(caller, data)
        except RefusalError as refusal:
            if refusal.status < 500:
                self.refused(caller, refusal, str(data.get("submission_id") or data.get("job_id") or ""))
            raise

    def refused(self, caller: Principal, refusal: RefusalError, job: str = "") -> None:
        """Write down why a submission was refused; one entry a minute for each user and reason, so nobody can flood.

        Raises:
            JournalUnavailableError: it cannot be written.
        """
        if not self._throttle.allows((caller.user, caller.team, refusal.code), self._clock()):
            return
        data = {
            "job": job[:128],
            "user": caller.user,
            "team": caller.team,
            "reason": refusal.code,
            "sentence": f"{refusal.sentence} {refusal.remedy}".strip()[:2000],
        }
        self._journal.append([Draft(Event.JOB_REJECTED, data)])

    def stop(self, caller: Principal, record: JobRecord) -> bool:
        """Ask for a job to be stopped; False where it is over already.

        Raises:
            RefusalError: the caller may see it but not stop it.
            JournalUnavailableError: nothing was asked.
        """
        request = record.request
        if not caller.may_stop(request.team):
            raise refusals.may_not("stop jobs", "user or operator")
        if record.phase.is_over:
            return False
        if not record.stop_asked_by:
            draft = Draft(Event.JOB_STOP_ASKED, {"job": request.job, "by": caller.user})
            self._register.refresh(self._journal.append([draft])[-1].seq)
        return True

    def delete(self, caller: Principal, record: JobRecord) -> None:
        """Hide a job that is over.

        Raises:
            RefusalError: it is not over, or the caller may not.
            JournalUnavailableError: nothing was done.
        """
        request = record.request
        if not caller.may_stop(request.team):
            raise refusals.may_not("delete jobs", "user or operator")
        if not record.phase.is_over:
            raise refusals.not_over(request.job, record.phase.ray_status)
        draft = Draft(Event.JOB_DELETED, {"job": request.job, "by": caller.user}, once=f"deleted:{request.job}")
        try:
            seq = self._journal.append([draft])[-1].seq
        except AlreadyAppendedError as taken:
            seq = taken.entry.seq
        self._register.refresh(seq)

    def _take_in(self, caller: Principal, data: dict[str, Any]) -> str:
        config, now = self._config(), self._clock()
        job = submission_id(data)
        tampering = forbidden_environment(data.get("runtime_env"))
        if tampering is not None:
            raise refusals.bad_request("forbidden_environment", tampering)
        needs, data_class = self._classed(config, caller, data, now)
        self._check_after(caller, needs)
        submission, code = self._with_code(caller.team, {**data, "submission_id": job})
        submission.pop("job_id", None)
        if self._register.known(job):
            raise refusals.already_there(job)
        entry = {
            "job": job,
            "user": caller.user,
            "team": caller.team,
            "token_id": caller.token_id,
            "data_class": data_class,
            "needs": needs_data(needs),
            "submission": self._seal.close(submission),
            "code": {stored.uri: stored.sha256 for stored in code},
        }
        with self._place(caller.team, config.queue.waiting):
            try:
                appended = self._journal.append([Draft(Event.JOB_SUBMITTED, entry, once=f"job:{job}")])
            except AlreadyAppendedError:
                raise refusals.already_there(job) from None
            self._register.refresh(appended[-1].seq)
        return job

    def _classed(self, config: Config, caller: Principal, data: Mapping[str, Any], now: float) -> tuple[Needs, str]:
        try:
            declared = declare(data, now)
            classified = classify(config, caller.team, declared.needs.datasets, declared.data_class)
        except DeclarationError as error:
            raise refusals.bad_request("bad_declaration", str(error)) from None
        except ClassRefusedError as error:
            status = 403 if error.reason in _FORBIDDEN else 400
            raise RefusalError(status, error.reason, str(error), "") from None
        team = config.teams.get(caller.team)
        most = 100 if team is None else team.max_priority
        if declared.needs.priority > most:
            raise refusals.bad_request(
                "priority_too_high",
                f"fabric.priority is {declared.needs.priority}, and your team may ask for {most} at most "
                "(teams.max_priority).",
                f"Example: fabric.priority={most}",
            )
        return declared.needs, classified.data_class

    def _check_after(self, caller: Principal, needs: Needs) -> None:
        for job in needs.after:
            record = self._register.find(job)
            if record is None or not caller.may_see(record.request.team):
                raise refusals.bad_request(
                    "unknown_dependency",
                    f"fabric.after names the job {job}, which does not exist.",
                    "Submit that one first, and name it as `ray job list` shows it.",
                )

    def _with_code(self, team: str, data: dict[str, Any]) -> tuple[dict[str, Any], list[Stored]]:
        """The submission with uploaded packages under the names of their content, and these packages."""
        env = data.get("runtime_env")
        if not env:
            return data, []
        found: list[Stored] = []

        def renamed(uri: Any) -> Any:
            if not isinstance(uri, str) or not uri.startswith(SCHEME):
                return uri
            found.append(self._packages.require(team, uri))
            return found[-1].uri

        env = dict(env)
        if env.get("working_dir"):
            env["working_dir"] = renamed(env["working_dir"])
        if env.get("py_modules"):
            env["py_modules"] = [renamed(uri) for uri in env["py_modules"]]
        return {**data, "runtime_env": env}, found

    @contextmanager
    def _place(self, team: str, limit: int) -> Iterator[None]:
        """A place in the team's part of the queue; submissions under way count, so together they cannot pass it."""
        with self._lock:
            if self._register.waiting(team) + self._coming[team] >= limit:
                raise refusals.too_many_waiting(team, limit)
            self._coming[team] += 1
        try:
            yield
        finally:
            with self._lock:
                self._coming[team] -= 1
