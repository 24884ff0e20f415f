"""The ledger: a pure fold of the journal into what every rented instance has cost, and what for.

One line is one launch token. A line exists once the journal says that an instance exists or existed: its launch
was accepted, it was adopted, it joined, it was found as an orphan, or it ended. An intent alone costs nothing
yet. What an instance costs is ``Tariff.cost`` of its life by the provider's own times, which is how a bill is
made, so the total of the ledger is the bill. On-prem machines are not rented and have no line.

Every micro-USD is for one thing (``Cause``), so work + idle + waste is the total, always.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fabric.journal.base import Entry
from fabric.model.money import MicroUSD, Tariff
from fabric.money.life import Life, take

_FREE = Tariff(0)
# Why an end was intended before the node joined, when that means that it could not join. Any other cause means
# that nobody wanted it any more.
_COULD_NOT_JOIN = frozenset(
    {"join_deadline", "lease_lapsed", "node_lost", "not_listed", "no_answer", "provider_bug", "spot_reclaim"}
)


class Cause(StrEnum):
    """What money was spent for. Everything after ``IDLE`` is waste."""

    WORK = "work"  # ran jobs, or was on its way to: boot included
    IDLE = "idle"  # nothing ran on it any more, until it ended
    FAILED_JOIN = "failed_join"  # never became a Ray node
    CANCELLED_BOOT = "cancelled_boot"  # nobody needed it any more before it joined
    ORPHAN = "orphan"  # lived with nothing in the journal to justify it
    LOST = "lost"  # Ray had lost the node and the machine lived on


@dataclass(frozen=True, slots=True)
class Line:
    """One instance in a statement.

    Attributes:
        token, instance, site, node_type, offer, market: which one, where, and as what it was bought.
        tariff: its price; a free one where ``priced`` is False.
        launched_at_ms: Unix milliseconds when charging began.
        ended_at_ms: when it ended; None while it goes on.
        accrued: micro-USD up to the time of the statement.
        parts: the same money by what it was for; the sum is ``accrued``.
        cause: its waste cause if it has one, else ``work``.
        priced: False where the journal has no price because the intent is not in it.
        estimated: the provider no longer knew when it ended; the end is when that was noticed.
    """

    token: str
    instance: str
    site: str
    node_type: str
    offer: str
    market: str
    tariff: Tariff
    launched_at_ms: int
    ended_at_ms: int | None
    accrued: MicroUSD
    parts: Mapping[Cause, MicroUSD]
    cause: Cause
    priced: bool
    estimated: bool


@dataclass(frozen=True, slots=True)
class Statement:
    """The ledger at one instant; lines in the order in which charging began. Amounts are micro-USD."""

    at_ms: int
    lines: tuple[Line, ...]

    @property
    def total(self) -> MicroUSD:
        """Everything."""
        return sum(line.accrued for line in self.lines)

    @property
    def work(self) -> MicroUSD:
        """What ran jobs, or was on its way to."""
        return self.by_cause()[Cause.WORK]

    @property
    def idle(self) -> MicroUSD:
        """What stood idle before it was given back."""
        return self.by_cause()[Cause.IDLE]

    @property
    def waste(self) -> MicroUSD:
        """What never joined, what nobody needed any more, orphans, lost machines."""
        return sum(amount for cause, amount in self.by_cause().items() if cause not in (Cause.WORK, Cause.IDLE))

    @property
    def per_hour(self) -> MicroUSD:
        """What the open lines cost per hour."""
        return sum(line.tariff.per_hour for line in self.lines if line.ended_at_ms is None)

    def by_site(self) -> Mapping[str, MicroUSD]:
        """Totals by site."""
        return _sums((line.site, line.accrued) for line in self.lines)

    def by_offer(self) -> Mapping[str, MicroUSD]:
        """Totals by offer."""
        return _sums((line.offer, line.accrued) for line in self.lines)

    def by_cause(self) -> Mapping[Cause, MicroUSD]:
        """Totals by what the money was for; every cause is there."""
        sums = _sums((str(cause), amount) for line in self.lines for cause, amount in line.parts.items())
        return {cause: sums.get(cause, 0) for cause in Cause}


@dataclass(frozen=True, slots=True)
class Ledger:
    """Every launch the journal speaks of. Made by ``fold`` or ``of``; never changed.

    Attributes:
        lives: by token.
        unsettled: those of them whose costs still grow, or may begin.
        settled: micro-USD of all the others, by site and hour since 1970, so that budgets need not look at years of
            ended instances in every tick.
    """

    lives: Mapping[str, Life] = field(default_factory=dict[str, Life])
    unsettled: Mapping[str, Life] = field(default_factory=dict[str, Life])
    settled: Mapping[tuple[str, int], MicroUSD] = field(default_factory=dict[tuple[str, int], MicroUSD])

    @staticmethod
    def of(lives: Iterable[Life]) -> Ledger:
        """A ledger of exactly these launches."""
        return Ledger().replacing({life.token: life for life in lives})

    def replacing(self, changed: Mapping[str, Life]) -> Ledger:
        """This ledger with these launches, by token, new or in place of what it had of them."""
        unsettled, settled = dict(self.unsettled), dict(self.settled)
        for token, life in changed.items():
            before = self.lives.get(token)
            for known, sign in ((before, -1), (life, 1)):
                if known is not None and known.settled:
                    for hour, amount in known.spent_by_hour():
                        settled[known.site, hour] = settled.get((known.site, hour), 0) + sign * amount
            unsettled.pop(token, None)
            if life.pending or (life.charged and not life.settled):
                unsettled[token] = life
        return Ledger(
            {**self.lives, **changed}, unsettled, {place: amount for place, amount in settled.items() if amount}
        )

    def statement(self, now_ms: int) -> Statement:
        """Every line, the open ones with what they have cost up to ``now_ms``.

        A machine at 3.60 USD an hour that lived ten seconds and is charged for its minimum of a minute:

        >>> from fabric.journal.base import Entry
        >>> def entry(seq, kind, **data):
        ...     return Entry(seq, 1000.0 + seq, "controller", kind, {"token": "t", **data}, "", "")
        >>> ledger = fold(
        ...     [
        ...         entry(1, "launch.intended", site="sky", per_hour=3_600_000, minimum_seconds=60, market="spot"),
        ...         entry(2, "launch.accepted", instance="i-1"),
        ...         entry(3, "node.joined"),
        ...         entry(4, "instance.ended", launched_at_ms=1_002_000, ended_at_ms=1_012_000),
        ...     ]
        ... )
        >>> statement = ledger.statement(now_ms=9_000_000)
        >>> statement.total, statement.work, statement.waste
        (60000, 60000, 0)

        The same machine if it had never joined is waste:

        >>> ledger = fold(
        ...     [
        ...         entry(1, "launch.intended", site="sky", per_hour=3_600_000, minimum_seconds=60, market="spot"),
        ...         entry(2, "terminate.intended", cause="join_deadline"),
        ...         entry(3, "instance.ended", launched_at_ms=1_002_000, ended_at_ms=1_092_000),
        ...     ]
        ... )
        >>> ledger.statement(now_ms=9_000_000).by_cause()[Cause.FAILED_JOIN]
        90000
        """
        lines = (_line(life, now_ms) for life in self.lives.values())
        found = [line for line in lines if line is not None]
        return Statement(now_ms, tuple(sorted(found, key=lambda line: (line.launched_at_ms, line.token))))


def fold(entries: Iterable[Entry], ledger: Ledger | None = None) -> Ledger:
    """``ledger`` (an empty one if None) with what ``entries`` say of money."""
    ledger = Ledger() if ledger is None else ledger
    changed: dict[str, Life] = {}
    for entry in entries:
        token = entry.data.get("token")
        if isinstance(token, str) and token:
            before = changed.get(token) or ledger.lives.get(token) or Life(token)
            after = take(before, entry)
            if after is not before:
                changed[token] = after
    return ledger.replacing(changed) if changed else ledger


def _line(life: Life, now_ms: int) -> Line | None:
    begin = life.launched_ms
    if not life.charged or begin is None:
        return None
    end = life.ended_ms if life.ended_ms is not None else max(now_ms, begin)
    stretches = _stretches(life, begin, end)
    parts: dict[Cause, MicroUSD] = {}
    for at, (since, cause) in enumerate(stretches):
        until = stretches[at + 1][0] if at + 1 < len(stretches) else end
        amount = life.cost_until(until) - (life.cost_until(since) if at else 0)
        parts[cause] = parts.get(cause, 0) + amount
    wasted = [cause for _, cause in stretches if cause not in (Cause.WORK, Cause.IDLE)]
    return Line(
        token=life.token,
        instance=life.instance,
        site=life.site,
        node_type=life.node_type,
        offer=life.offer,
        market=life.market,
        tariff=life.tariff or _FREE,
        launched_at_ms=begin,
        ended_at_ms=life.ended_ms,
        accrued=sum(parts.values()),
        parts=parts,
        cause=wasted[-1] if wasted else Cause.WORK,
        priced=life.tariff is not None,
        estimated=life.estimated,
    )


def _stretches(life: Life, begin: int, end: int) -> list[tuple[int, Cause]]:
    """What the time from ``begin`` to ``end`` was for: when each stretch begins. The first pays the minimum."""
    if life.joined_ms is None:
        return [(begin, _without_joining(life))]
    stretches = [(begin, Cause.WORK)]
    later = [(life.idle_ms, Cause.IDLE)]
    if life.lost_ms is not None and life.lost_ms >= (life.rejoined_ms or 0):
        later.append((life.lost_ms, Cause.LOST))
    later.append((life.orphan_ms, Cause.ORPHAN))
    for since, cause in later:
        if since is not None and since < end:
            since = min(max(since, begin, life.joined_ms), end)
            # A worse cause takes over what it meets: a lost node is not idle any more.
            stretches = [stretch for stretch in stretches if stretch[0] < since or stretch[1] is Cause.WORK]
            stretches.append((since, cause))
    return stretches


def _without_joining(life: Life) -> Cause:
    if life.orphan_ms is not None:
        return Cause.ORPHAN
    if life.ending is not None:
        return Cause.FAILED_JOIN if life.ending[1] in _COULD_NOT_JOIN else Cause.CANCELLED_BOOT
    return Cause.WORK if life.ended_ms is None else Cause.FAILED_JOIN


def _sums(pairs: Iterable[tuple[str, MicroUSD]]) -> dict[str, MicroUSD]:
    sums: dict[str, MicroUSD] = {}
    for name, amount in pairs:
        sums[name] = sums.get(name, 0) + amount
    return dict(sorted(sums.items()))
