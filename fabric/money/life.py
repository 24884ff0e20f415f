"""What the journal says about the money side of one launch, merged from its entries one by one.

Every merge takes the earliest or the latest of a fact, so an entry that is seen twice changes nothing, and the
order of entries does not matter: several processes append, and their entries interleave as they like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fabric.journal.base import Entry
from fabric.model.events import Event
from fabric.model.money import MicroUSD, Tariff
from fabric.model.nodes import Market

HOUR_MS = 3_600_000
IDLE = "idle"  # the cause that an intended end carries when nothing ran on the node any more


@dataclass(frozen=True, slots=True)
class Life:
    """One launch. Times are Unix milliseconds; None while unknown.

    Attributes:
        token: the launch.
        instance, site, node_type, offer, market: what was bought and where.
        tariff: its price; None when its intent is not in this journal.
        exists: there is or was an instance.
        refused: the launch came to nothing.
        intended_ms: when it was intended, by the journal's clock.
        told_ms: when charging began, as the provider said at the launch.
        final: begin and end of charging, as the provider said at the end.
        guessed_begin_ms, guessed_end_ms: the same, guessed because the provider no longer knew the instance.
        joined_ms, rejoined_ms: when it first and last became a Ray node.
        lost_ms: when Ray last lost it.
        idle_ms: since when nothing ran on it before its intended end.
        ending: when its end was first intended, and the cause.
        orphan_ms: when it was first found with nothing to justify it.
    """

    token: str
    instance: str = ""
    site: str = ""
    node_type: str = ""
    offer: str = ""
    market: str = ""
    tariff: Tariff | None = None
    exists: bool = False
    refused: bool = False
    intended_ms: int | None = None
    told_ms: int | None = None
    final: tuple[int, int] | None = None
    guessed_begin_ms: int | None = None
    guessed_end_ms: int | None = None
    joined_ms: int | None = None
    rejoined_ms: int | None = None
    lost_ms: int | None = None
    idle_ms: int | None = None
    ending: tuple[int, str] | None = None
    orphan_ms: int | None = None

    @property
    def launched_ms(self) -> int | None:
        """When charging began, by the best word there is; the intent's own time if there is no other."""
        if self.final is not None:
            return self.final[0]
        if self.told_ms is not None:
            return self.told_ms
        return self.guessed_begin_ms if self.guessed_begin_ms is not None else self.intended_ms

    @property
    def ended_ms(self) -> int | None:
        """When charging ended; None while it goes on. Never before it began, whatever a clock says."""
        end = self.final[1] if self.final is not None else self.guessed_end_ms
        return None if end is None else max(end, self.launched_ms or 0)

    @property
    def estimated(self) -> bool:
        """Whether the end is known only by when somebody noticed it."""
        return self.final is None and self.guessed_end_ms is not None

    @property
    def charged(self) -> bool:
        """Whether it is a line of the ledger: an instance was rented and began to be charged."""
        return self.exists and self.market != Market.OWNED and self.launched_ms is not None

    @property
    def pending(self) -> bool:
        """Whether the cloud may have been asked and nobody knows yet what came of it."""
        return not (self.exists or self.refused) and self.tariff is not None and self.market != Market.OWNED

    @property
    def settled(self) -> bool:
        """Whether what it cost is final."""
        return self.charged and self.ended_ms is not None

    def spent(self, since_ms: int, until_ms: int) -> MicroUSD:
        """What it costs from ``since_ms`` to before ``until_ms``; the minimum counts where charging began."""
        return max(0, self.cost_until(until_ms - 1) - self.cost_until(since_ms - 1))

    def spent_by_hour(self) -> Iterator[tuple[int, MicroUSD]]:
        """What a settled life cost in each hour since 1970 that it touches; the sum is its whole cost."""
        begin, end = self.launched_ms, self.ended_ms
        if begin is not None and end is not None:
            for hour in range(begin // HOUR_MS, max(begin, end) // HOUR_MS + 1):
                amount = self.spent(hour * HOUR_MS, (hour + 1) * HOUR_MS)
                if amount:
                    yield hour, amount

    def cost_until(self, at_ms: int) -> MicroUSD:
        """What it has cost by ``at_ms``: 0 before charging began, then at least the minimum, never falling."""
        begin, end = self.launched_ms, self.ended_ms
        if self.tariff is None or begin is None or at_ms < begin:
            return 0
        return self.tariff.cost((at_ms if end is None else min(at_ms, end)) - begin)


def take(life: Life, entry: Entry) -> Life:
    """``life`` with what ``entry`` says; the same ``life`` if it says nothing about money."""
    step = _STEPS.get(entry.kind)
    return life if step is None else step(life, entry.data, round(entry.at * 1000))


def _intended(life: Life, data: Mapping[str, Any], at_ms: int) -> Life:
    return replace(
        life,
        site=_text(data, "site"),
        node_type=_text(data, "node_type"),
        offer=_text(data, "offer"),
        market=_text(data, "market"),
        tariff=Tariff(max(0, _whole(data, "per_hour") or 0), max(0, _whole(data, "minimum_seconds") or 0)),
        intended_ms=_earlier(life.intended_ms, at_ms),
    )


def _accepted(life: Life, data: Mapping[str, Any], at_ms: int) -> Life:
    del at_ms
    return replace(_seen(life, data), told_ms=_earlier(life.told_ms, _moment(data, "launched_at_ms")))


def _came_to_nothing(life: Life, data: Mapping[str, Any], at_ms: int) -> Life:
    del data, at_ms
    return replace(life, refused=True)


def _joined(life: Life, data: Mapping[str, Any], at_ms: int) -> Life:
    return replace(
        _seen(life, data),
        joined_ms=_earlier(life.joined_ms, at_ms),
        rejoined_ms=_later(life.rejoined_ms, at_ms),
    )


def _lost(life: Life, data: Mapping[str, Any], at_ms: int) -> Life:
    del data
    return replace(life, lost_ms=_later(life.lost_ms, at_ms))


def _ending(life: Life, data: Mapping[str, Any], at_ms: int) -> Life:
    cause = _text(data, "cause")
    idle_s = data.get("idle_s")
    idle_ms = at_ms - round(idle_s * 1000) if isinstance(idle_s, (int, float)) and idle_s > 0 else None
    if idle_ms is None and cause == IDLE:
        idle_ms = at_ms
    return replace(
        life,
        ending=min(life.ending or (at_ms, cause), (at_ms, cause)),
        idle_ms=_earlier(life.idle_ms, idle_ms),
    )


def _orphan(life: Life, data: Mapping[str, Any], at_ms: int) -> Life:
    return replace(_seen(life, data), orphan_ms=_earlier(life.orphan_ms, at_ms))


def _ended(life: Life, data: Mapping[str, Any], at_ms: int) -> Life:
    begin, end = _moment(data, "launched_at_ms"), _moment(data, "ended_at_ms")
    seen = _seen(life, data)
    if begin is not None and end is not None and not data.get("estimated"):
        return replace(seen, final=min(life.final or (begin, end), (begin, end)))
    return replace(
        seen,
        guessed_begin_ms=_earlier(life.guessed_begin_ms, begin),
        guessed_end_ms=_earlier(life.guessed_end_ms, at_ms if end is None else end),
    )


def _seen(life: Life, data: Mapping[str, Any]) -> Life:
    return replace(
        life,
        exists=True,
        instance=_first_word(life.instance, _text(data, "instance")),
        # Where it is known what was intended, that is the word on the site.
        site=life.site if life.tariff is not None else _first_word(life.site, _text(data, "site")),
    )


_STEPS: Mapping[str, Callable[[Life, Mapping[str, Any], int], Life]] = {
    Event.LAUNCH_INTENDED: _intended,
    Event.LAUNCH_ACCEPTED: _accepted,
    Event.INSTANCE_ADOPTED: _accepted,
    Event.LAUNCH_REFUSED: _came_to_nothing,
    Event.LAUNCH_CANCELLED: _came_to_nothing,
    Event.NODE_JOINED: _joined,
    Event.NODE_LOST: _lost,
    Event.TERMINATE_INTENDED: _ending,
    Event.ORPHAN_FOUND: _orphan,
    Event.INSTANCE_ENDED: _ended,
}


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""


def _whole(data: Mapping[str, Any], name: str) -> int | None:
    value = data.get(name)
    return int(value) if isinstance(value, (int, float)) else None


def _moment(data: Mapping[str, Any], name: str) -> int | None:
    """A time in milliseconds; 0 is a provider's way of not knowing."""
    return _whole(data, name) or None


def _first_word(known: str, told: str) -> str:
    return min(filter(None, (known, told)), default="")


def _earlier(known: int | None, told: int | None) -> int | None:
    return told if known is None else known if told is None else min(known, told)


def _later(known: int | None, told: int | None) -> int | None:
    return told if known is None else known if told is None else max(known, told)
