"""The queue's decision: which waiting jobs may start now, and why the others may not. Pure and total.

The team that is furthest below its share chooses first. It is charged with what it has used, long past use less, and
with what its running jobs are still expected to use, both divided by its weight; so every admission moves it back.
Within a team the order is that of :func:`fabric.admission.standing.key_of`. The first job for which there is no room
is the *head*: it gets a reservation, and what comes after it may start only where it does not touch that.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from fabric.admission.asks import Ask, Kind
from fabric.admission.away import FOR_ROOM, MOST_GANGS, Crowd, burst_of
from fabric.admission.forecast import Forecast
from fabric.admission.holds import Hold, Release, by_time, hold_all, parts_held
from fabric.admission.line import Decided, Line, Verdict
from fabric.admission.outcome import Outcome
from fabric.admission.preempt import Scene, Victims, victims_for
from fabric.admission.queue import Queue
from fabric.admission.reach import Reach, Reaches, ray_selector, selector_of
from fabric.admission.reserve import Start, earliest
from fabric.admission.share import Account, charge_of
from fabric.admission.space import Placement, Space
from fabric.admission.spend import run_cost
from fabric.admission.standing import CALLED, Key
from fabric.admission.team import Team
from fabric.admission.values import Admission, AdmitReason, Capacity, Preemption, QueueRules, WaitReason
from fabric.model.decisions import Fact
from fabric.model.jobs import ray_id_of
from fabric.model.money import MicroUSD
from fabric.model.resources import Resources

# Bounds on one decision; it is made again within a second, and what was left over is then looked at again.
MOST_ADMISSIONS = 500
MOST_TRIES = 10_000
# What money forbids one job need not forbid the next of its kind, which may be shorter: so many are looked at.
MOST_REFUSED = 8
OF_ONE_JOB = (WaitReason.MAX_COST, WaitReason.TEAM_BUDGET)


def admit(queue: Queue, capacity: Capacity, rules: QueueRules, now: float) -> Outcome:
    """Decide once.

    Nothing is admitted by this alone: every admission has to be in the journal, and in the queue, before the next
    decision. Equal queues, capacities, rules and times give equal outcomes, whatever the order of their parts.

    Args:
        queue: the fold of the journal; time passes in it, nothing else changes.
        capacity: nodes and offers as they are now.
        rules: the configuration in force.
        now: Unix seconds.
    """
    queue.advance(rules, now)
    return _Round(queue, capacity, rules, now).outcome()


@dataclass(frozen=True, slots=True)
class _Option:
    """One place for a job, with its price."""

    placement: Placement
    per_hour: MicroUSD
    egress: MicroUSD
    cost: MicroUSD
    for_long: bool


@dataclass(slots=True)
class _Candidates:
    """The waiting jobs of one team, one run of keys for each kind; the next is the earliest of their first ones."""

    heap: list[tuple[Key, int]] = field(default_factory=list[tuple[Key, int]])
    runs: list[tuple[Kind, list[Key]]] = field(default_factory=list[tuple[Kind, list[Key]]])
    at: list[int] = field(default_factory=list[int])
    refused: list[int] = field(default_factory=list[int])


class _Round:
    def __init__(self, queue: Queue, capacity: Capacity, rules: QueueRules, now: float) -> None:
        self.queue, self.capacity, self.rules, self.now = queue, capacity, rules, now
        self.space = Space(capacity.rooms)
        self.holds, self.releases = hold_all(self.space, queue.live_attempts(), now)
        self.reaches = Reaches(self.space, capacity, rules)
        self.cluster = _cluster(capacity, rules)
        self.teams = self._teams(self.holds)
        self.starts: dict[str, Start] = {}
        self.head = ""
        self.admissions: list[Admission] = []
        self.victims = Victims()
        self.verdicts: dict[Kind, Verdict] = {}
        self.admitted: dict[str, float] = {}
        self.admitted_kinds: list[Kind] = []
        self.alone: dict[str, Verdict] = {}
        self.stopped: dict[str, Verdict] = {}
        # By what is asked for and its class: the shortest runtime for which there was no room. Room only gets less.
        self.full: dict[tuple[Ask, str], tuple[float, Verdict]] = {}

    def outcome(self) -> Outcome:
        """Go through the line once."""
        tags = {name: team.tag(self.now) for name, team in self.teams.items()}
        self._walk()
        line = self._line(tags)
        return Outcome(
            at=self.now,
            admissions=tuple(self.admissions),
            preemptions=self._preemptions(),
            doomed=tuple(self.queue.doomed[job] for job in sorted(self.queue.doomed)),
            head=self.head,
            burst=burst_of(self._for_room(), self.reaches, self.teams, self.now),
            line=line,
        )

    def _line(self, tags: Mapping[str, int]) -> Line:
        """Copies of what the queue goes on changing; the rest belongs to this decision alone."""
        queue = self.queue
        decided = Decided(self.verdicts, self.alone, self.stopped, self.head, frozenset(self.admitted))
        started = [
            (admission.sites[0], admission.charge, self.admitted[admission.job]) for admission in self.admissions
        ]
        home = charge_of(self.cluster, self.cluster)
        forecast = Forecast(self.space, self.releases, self.holds, started, self.rules.home, home, self.now)
        keys = {name: list(line.keys) for name, line in queue.lines.items()}
        return Line(
            keys,
            queue.places(),
            dict(queue.held),
            queue.jobs,
            decided,
            self.teams,
            tags,
            self.reaches,
            forecast,
            self.cluster,
            self.now,
        )

    def _for_room(self) -> list[Crowd]:
        """The kinds that wait for room, in the order of their first jobs."""
        if not self.capacity.offers:
            return []
        found: list[tuple[int, Key, Crowd]] = []
        gone = Counter(self.admitted_kinds)
        for name, line in self.queue.lines.items():
            tag = self.teams[name].tag(self.now)
            for kind, keys in line.kinds.items() if name not in self.stopped else ():
                verdict = self.verdicts.get(kind)
                waits_for_room = verdict is None or verdict[0] in FOR_ROOM
                count = len(keys) - gone[kind]
                if count and kind.declared and waits_for_room and self.reaches.of(kind).aways:
                    first = keys[: MOST_GANGS + gone[kind]]
                    jobs = [key[4] for key in first if key[4] not in self.admitted]
                    found.append((tag, keys[0], Crowd(kind, count, jobs, keys[0][-1])))
        return [crowd for _, _, crowd in sorted(found, key=lambda each: each[:2])]

    def _walk(self) -> None:
        candidates = {name: _candidates(line.kinds) for name, line in self.queue.lines.items()}
        turns = [(*self._turn(name, each.heap[0][0]), name) for name, each in candidates.items()]
        heapq.heapify(turns)
        tries = 0
        while turns and tries < MOST_TRIES and len(self.admissions) < MOST_ADMISSIONS:
            _, key, name = heapq.heappop(turns)
            tries += 1
            mine, team = candidates[name], self.teams[name]
            run = mine.heap[0][1]
            kind, keys = mine.runs[run]
            verdict = self._try(kind, key, team)
            if verdict is None:
                mine.at[run] += 1
                more = mine.at[run] < len(keys)
            elif verdict[0] in OF_ONE_JOB and mine.refused[run] < MOST_REFUSED:
                self.alone[key[4]] = verdict
                mine.at[run] += 1
                mine.refused[run] += 1
                more = mine.at[run] < len(keys)
            else:
                self.verdicts[kind] = verdict
                more = False
                if verdict[0] is WaitReason.TEAM_RUNNING:
                    self.stopped[name] = verdict
                    continue
            if more:
                heapq.heapreplace(mine.heap, (keys[mine.at[run]], run))
            else:
                heapq.heappop(mine.heap)
            if mine.heap:
                heapq.heappush(turns, (*self._turn(name, mine.heap[0][0]), name))

    def _turn(self, name: str, key: Key) -> tuple[int, Key]:
        """When a team's next job is looked at."""
        return CALLED if key[0] == CALLED else self.teams[name].tag(self.now), key

    def _try(self, kind: Kind, key: Key, team: Team) -> Verdict | None:
        """Admit the job with ``key``, or say why not; the answer holds for all of its kind that come later."""
        refused = team.refuses(kind, key[-1], self.now)
        full = self.full.get((kind.ask, kind.data_class))
        if refused is None and full is not None and kind.rung >= full[0]:
            return full[1]
        reach = self.reaches.of(kind)
        if not reach.sites:
            return WaitReason.NO_SITE, {"data_class": kind.data_class}
        if refused is not None:
            return refused
        if not kind.declared:
            self._admit(kind, key, team, None, reach)
            return None
        if not reach.could_fit:
            return WaitReason.NEVER_FITS, {"resources": _words(kind), "sites": reach.sites}
        options, too_dear = self._options(kind, key, reach, team)
        if options:
            self._admit(kind, key, team, min(options, key=lambda o: (o.cost, o.placement.site)), reach)
            return None
        if too_dear is not None and not reach.could_fit & self.rules.home:
            return too_dear
        verdict = self._behind(kind, reach) if self.head else self._no_room(kind, key, reach, team)
        if self.head != key[4] and too_dear is None:
            self.full[kind.ask, kind.data_class] = kind.rung, verdict
        return verdict

    def _options(self, kind: Kind, key: Key, reach: Reach, team: Team) -> tuple[list[_Option], Verdict | None]:
        """Every site that has room for it now and that it may pay for; else what money forbids, if it is money."""
        options: list[_Option] = []
        too_dear: Verdict | None = None
        for site in reach.sites:
            start = self.starts.get(site)
            for_long = start is not None and (kind.rung == float("inf") or self.now + key[-1] > start.at)
            placement = self.space.find(site, kind.ask, reach.where, for_long=for_long)
            if placement is None:
                continue
            per_hour = self.space.price(kind.ask, placement)
            egress = reach.egress[site]
            cost = run_cost(per_hour, key[-1], egress)
            refused = self._refuses_money(kind, key, team, per_hour, egress)
            if refused is None:
                options.append(_Option(placement, per_hour, egress, cost, for_long))
            else:
                too_dear = refused
        return options, too_dear

    def _refuses_money(self, kind: Kind, key: Key, team: Team, per_hour: MicroUSD, egress: MicroUSD) -> Verdict | None:
        if not per_hour and not egress:
            return None
        cost = run_cost(per_hour, key[-1], egress)
        if kind.max_cost is not None:
            before = sum(
                run_cost(a.price_per_hour, (a.ended_at or self.now) - a.admitted_at, a.egress)
                for a in self.queue.jobs[key[4]].attempts
            )
            if before + cost > kind.max_cost:
                facts: dict[str, Fact] = {"max_cost_micro_usd": kind.max_cost, "cost_micro_usd": before + cost}
                return WaitReason.MAX_COST, facts
        budget = team.purse.refuses(self.now, self.now + key[-1], per_hour, egress)
        if budget is None:
            return None
        left = team.purse.left(budget, self.now)
        return WaitReason.TEAM_BUDGET, {"per": budget.per, "cost_micro_usd": cost, "left_micro_usd": left}

    def _behind(self, kind: Kind, reach: Reach) -> Verdict:
        if any(
            self.space.find(site, kind.ask, reach.where, for_long=False) for site in self.starts if site in reach.sites
        ):
            return WaitReason.WOULD_DELAY_HEAD, {"head": self.head}
        return WaitReason.BEHIND_OTHERS, {"resources": _words(kind)}

    def _no_room(self, kind: Kind, key: Key, reach: Reach, team: Team) -> Verdict:
        """The first job without room: others may have to give way, and it gets a reservation."""
        job = key[4]
        if self.rules.preemption:
            self.victims = victims_for(self.queue.jobs[job], kind.ask, reach, self._scene())
        starts = {site: self._start(site, kind, key, reach, team) for site in reach.sites}
        self.starts = {site: start for site, start in starts.items() if start is not None}
        facts: dict[str, Fact] = {"resources": _words(kind)}
        if not self.starts:
            return WaitReason.NO_ROOM, facts
        self.head = job
        for start in self.starts.values():
            self.space.reserve(start.late)
        if self.victims.jobs:
            return WaitReason.GIVING_WAY, {
                **facts,
                "jobs": tuple(hold.record.request.job for hold in self.victims.jobs),
            }
        return WaitReason.NO_ROOM, facts

    def _scene(self) -> Scene:
        return Scene(self.space, self.holds, self.releases, self.teams, self.rules, self.now)

    def _start(self, site: str, kind: Kind, key: Key, reach: Reach, team: Team) -> Start | None:
        """The earliest start in one site; None where it never fits or its money does not reach."""
        start = earliest(self.space, self.victims.releases or self.releases, site, kind.ask, reach.where)
        if start is None:
            return None
        per_hour = self.space.price(kind.ask, start.placement)
        return None if self._refuses_money(kind, key, team, per_hour, reach.egress[site]) else start

    def _admit(self, kind: Kind, key: Key, team: Team, option: _Option | None, reach: Reach) -> None:
        job = key[4]
        attempt = len(self.queue.jobs[job].attempts) + 1
        charge = charge_of(kind.ask.total, self.cluster) if kind.declared else 0.0
        spot = reach.where.spot
        if option is None:
            reason = AdmitReason.PLAIN_RAY
            sites, nodes, driver, per_hour, egress = reach.sites, dict[str, int](), "", 0, 0
        else:
            reason = AdmitReason.BACKFILL if self.head else AdmitReason.FIRST_IN_LINE
            place = option.placement
            names = [room.node for room in self.space.rooms]
            sites, per_hour, egress = (place.site,), option.per_hour, option.egress
            nodes = {names[index]: count for index, count in sorted(place.nodes.items())}
            driver = "" if place.driver is None else names[place.driver]
            self.space.take(kind.ask, place, for_long=option.for_long)
            release = Release(self.now + key[-1], place.site, tuple(parts_held(kind.ask, place)), job)
            insort(self.releases, release, key=by_time)
        team.admitted(kind, self.now, key[-1], charge, per_hour, egress)
        self.admitted_kinds.append(kind)
        self.admitted[job] = self.now + key[-1]
        facts: dict[str, Fact] = {"team": kind.team}
        if self.head and option is not None:
            facts["head"] = self.head
        if option is not None and option.cost:
            facts["cost_micro_usd"] = option.cost
        self.admissions.append(
            Admission(
                job=job,
                attempt=attempt,
                ray_id=ray_id_of(job, attempt),
                sites=sites,
                selector=ray_selector(selector_of(sites, spot=spot)),
                nodes=nodes,
                driver=driver,
                price_per_hour=per_hour,
                egress=egress,
                charge=charge,
                reason=reason,
                facts=facts,
            )
        )

    def _preemptions(self) -> tuple[Preemption, ...]:
        return tuple(
            Preemption(hold.record.request.job, hold.attempt.number, hold.attempt.ray_id, self.head, {"lost_s": lost})
            for hold, lost in zip(self.victims.jobs, self.victims.lost_s, strict=True)
            if not hold.attempt.preempted_by
        )

    def _teams(self, holds: list[Hold]) -> dict[str, Team]:
        names = {*self.queue.lines, *(record.request.team for record in self.queue.live.values())}
        teams = {
            name: Team(
                name,
                self.rules.team(name),
                self.queue.accounts.get(name, Account()),
                self.rules.half_life_s,
                self.queue.spent.get(name),
            )
            for name in sorted(names)
        }
        ends = {hold.record.request.job: hold.end for hold in holds}
        for record, attempt in self.queue.live_attempts():
            kind = self.queue.kinds.of(record.request)
            teams[kind.team].running(kind, attempt, ends.get(record.request.job, self.now), self.now)
        return teams


def _candidates(kinds: Mapping[Kind, list[Key]]) -> _Candidates:
    found = _Candidates(runs=list(kinds.items()), at=[0] * len(kinds), refused=[0] * len(kinds))
    found.heap = [(keys[0], run) for run, (_, keys) in enumerate(found.runs)]
    heapq.heapify(found.heap)
    return found


def _cluster(capacity: Capacity, rules: QueueRules) -> Resources:
    """What shares are measured against: everything at home, or everything where nothing is."""
    at_home = [room for room in capacity.rooms if room.site in rules.home] or capacity.rooms
    whole = Resources()
    for room in at_home:
        whole = whole.plus(room.total)
    return whole


def _words(kind: Kind) -> str:
    """What a job asks for, in a few words."""
    return kind.ask.words()
