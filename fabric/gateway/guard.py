"""Rules on workers: may this Ray job have a process on that node? Asked by the agents of the nodes.

What counts is what Ray itself registered for the job, the journal, the configuration in force now, and a badge that
only the controller can make. What a job says of itself proves nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import structlog
from pydantic import Field

from fabric.config.schema import HOME_ONLY, Config
from fabric.gateway import refusals
from fabric.gateway.book import Book, Intent
from fabric.gateway.credentials import Credentials
from fabric.gateway.jobs.register import JobRegister
from fabric.gateway.ray_table import RayJobRow, RayJobTable, RayTableError
from fabric.gateway.requests import Message
from fabric.gateway.throttle import Throttle
from fabric.journal.base import Draft, Journal
from fabric.model.events import Event
from fabric.model.jobs import ray_id_of
from fabric.model.nodes import Market
from fabric.sovereignty.badge import ATTEMPT, BADGE, JOB, badge_is_good
from fabric.sovereignty.rules import verdict

LIMIT = 256 * 1024
MOST = 64
_NAMES = (JOB, ATTEMPT, BADGE)
# The dashboard's own Ray job: the processes it starts are the parents of drivers, each in its submission's environment.
_OF_RAY_ITSELF = "_ray_internal_"

log = structlog.get_logger()

_Name = Annotated[str, Field(max_length=64)]
_Value = Annotated[str, Field(max_length=4096)]
_Word = Annotated[str, Field(min_length=1, max_length=256)]


class Ask(Message):
    """One question.

    Attributes:
        ray_job_id: hex id of the Ray job that wants a process.
        claim: the ``FABRIC_`` variables of the process to be; they count only for processes of Ray itself.
        quiet: a denial is no event: nobody tried anything yet.
    """

    ray_job_id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    claim: dict[_Name, _Value] = Field(default_factory=dict)
    quiet: bool = False


class GuardRequest(Message):
    """What an agent asks, with the credential of its lease."""

    token: _Word
    credential: _Word
    asks: Annotated[list[Ask], Field(max_length=MOST)]


@dataclass(frozen=True, slots=True)
class Ruling:
    """One answer.

    Attributes:
        allowed: whether the process may start, or go on.
        job: the submission it belongs to; ``""`` for none that is known.
        data_class: the class that decided; ``""`` where none did.
        sentence: why.
    """

    allowed: bool
    job: str
    data_class: str
    sentence: str


class Guard:
    """Answers the agents.

    Args:
        journal: where denials are written.
        book: launches, for where a node stands and how it was bought.
        credentials: lease credentials, which agents show.
        config: the configuration in force.
        jobs: what the journal says of every submission.
        table: Ray's own table of jobs.
        key_file: where the key of badges is.
        clock: Unix seconds.
    """

    def __init__(
        self,
        journal: Journal,
        book: Book,
        credentials: Credentials,
        config: Callable[[], Config],
        jobs: JobRegister,
        table: RayJobTable,
        key_file: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._journal = journal
        self._book = book
        self._credentials = credentials
        self._config = config
        self._jobs = jobs
        self._table = table
        self._key = key_file.read_bytes()
        self._clock = clock
        self._throttle = Throttle(every_s=60.0, size=4096)

    def answer(self, request: GuardRequest) -> dict[str, Any]:
        """Rule on every question of one agent; denials are in the journal before they are answered.

        Raises:
            RefusalError: 401 for a foreign credential.
            JournalUnavailableError: nothing was ruled.
        """
        if not self._credentials.match(request.token, request.credential):
            raise refusals.credential_unknown()
        self._book.refresh()
        intent = self._book.by_token(request.token)
        if intent is None:
            raise refusals.credential_unknown()
        self._jobs.refresh()
        config = self._config()
        answers = [self._rule(config, intent, ask) for ask in request.asks]
        self._write(intent, request.asks, answers)
        return {
            "answers": [
                {"allowed": ruling.allowed, "data_class": ruling.data_class, "sentence": ruling.sentence}
                for ruling in answers
            ],
            "when_silent": anything_goes(config, intent.site),
        }

    def _rule(self, config: Config, intent: Intent, ask: Ask) -> Ruling:
        market = _market(intent)
        unknown = f"Ray knows no job {ask.ray_job_id}, so nothing of it may start here."
        try:
            row = self._table.find(ask.ray_job_id)
        except RayTableError as error:
            log.warning("a Ray job cannot be looked up", error=str(error))
            row, unknown = None, "Ray does not tell which job this is, so nothing of it may start here."
        if row is None:
            if anything_goes(config, intent.site):
                return Ruling(True, "", "", "Work of every class may be here.")
            return Ruling(False, "", "", unknown)
        claim = _claim(row, ask.claim)
        if claim is None:
            named = strictest_classes(config, self._jobs.classes())
            return _held_to(config, named, intent.site, market, "This Ray job did not come through the gateway.")
        return self._by_claim(config, intent.site, market, row, claim)

    def _by_claim(self, config: Config, site: str, market: Market, row: RayJobRow, claim: Mapping[str, str]) -> Ruling:
        name, number = claim.get(JOB, ""), claim.get(ATTEMPT, "")
        record = self._jobs.find(name)
        attempt = None if record is None else record.attempt
        problem = ""
        if not number.isdecimal() or not badge_is_good(self._key, name, int(number), claim.get(BADGE, "")):
            problem = f"This Ray job says that it is job {name[:80]}, but its badge is not good."
        elif record is None or record.request.job != name or attempt is None:
            problem = f"This Ray job says that it is job {name[:80]}, which was not admitted."
        elif attempt.number != int(number):
            problem = f"This is attempt {number} of job {name}; attempt {attempt.number} took its place."
        elif row.submission not in ("", ray_id_of(name, attempt.number)):
            problem = f"This Ray job says that it is job {name} and job {row.submission[:80]} at once."
        if problem or record is None:
            # Nobody comes here by accident.
            return _held_to(config, _every_class(config), site, market, problem)
        ruled = verdict(config, record.request.data_class, site, market)
        return Ruling(ruled.allowed, name, record.request.data_class, ruled.sentence)

    def _write(self, intent: Intent, asks: Sequence[Ask], answers: Sequence[Ruling]) -> None:
        """Write each new denial; one a minute for the same job and node, so that nobody can flood the journal."""
        drafts: list[Draft] = []
        for ask, ruling in zip(asks, answers, strict=True):
            if ruling.allowed or ask.quiet:
                continue
            if not self._throttle.allows((intent.token, ruling.job or ask.ray_job_id), self._clock()):
                continue
            data = {
                "job": ruling.job,
                "ray_job_id": ask.ray_job_id,
                "token": intent.token,
                "site": intent.site,
                "data_class": ruling.data_class,
                "sentence": ruling.sentence,
            }
            log.warning("a worker was denied", **data)
            drafts.append(Draft(Event.JOB_DENIED, data))
        if drafts:
            self._journal.append(drafts)


def anything_goes(config: Config, site: str) -> bool:
    """Whether work of every class may be at ``site``, so that nothing has to be asked there: a room of your own."""
    return all(verdict(config, name, site, Market.OWNED).allowed for name in _every_class(config))


def strictest_classes(config: Config, had: Collection[str]) -> tuple[str, ...]:
    """The classes that work of unknown origin is held to, all of them: it may hold anybody's data.

    Args:
        config: the configuration in force.
        had: the classes of the jobs there have been, which users may have tightened.
    """
    named = {config.defaults.data_class, *had}
    named |= {team.data_class for team in config.teams.values() if team.data_class}
    named |= {data.data_class for data in config.datasets.values() if data.data_class}
    return tuple(sorted(named))


def _every_class(config: Config) -> tuple[str, ...]:
    return (HOME_ONLY, *config.data_classes)


def _held_to(config: Config, names: Iterable[str], site: str, market: Market, why: str) -> Ruling:
    for name in names:
        ruled = verdict(config, name, site, market)
        if not ruled.allowed:
            return Ruling(False, "", name, f"{why} It may hold any data, so it is held to {name}. {ruled.sentence}")
    return Ruling(True, "", "", f"{why} Data of every team and data set may be at {site}.")


def _claim(row: RayJobRow, told: Mapping[str, str]) -> Mapping[str, str] | None:
    """What says which attempt this is; None for a Ray job that does not say."""
    if JOB in row.env_vars or BADGE in row.env_vars:
        registered = {name: row.env_vars.get(name, "") for name in _NAMES}
        shown = {name: told[name] for name in _NAMES if name in told}
        # A worker in another job's clothes.
        return registered if shown.items() <= registered.items() else {JOB: shown.get(JOB, "")}
    if row.namespace.startswith(_OF_RAY_ITSELF) and (JOB in told or BADGE in told):
        return told
    # What the metadata says does not count: anybody can write that.
    return None


def _market(intent: Intent) -> Market:
    """How the node's machine is had; one of unknown origin is taken for the least trusted."""
    return Market(intent.market) if intent.market in tuple(Market) else Market.SPOT
