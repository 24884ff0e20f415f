"""Which offer to take first, and how much may be bought at all: prices, refusals, maxima, budgets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from autoscaler.core.snapshot import RefusedOffer
from fabric.model.decisions import ReasonCode
from fabric.model.money import BudgetRoom, MicroUSD
from fabric.model.nodes import Offer

# A need is priced over at least so long a use: with less, minimum billing would be all that counts.
USE_S = 600.0
# An offer that refused lately costs this much more in the ranking per refusal, fading by half every HALF_LIFE_S.
REFUSAL_PENALTY = 0.25
HALF_LIFE_S = 600.0


@dataclass(frozen=True, slots=True)
class Quote:
    """An offer, priced for one node of the need.

    Attributes:
        offer: what can be bought.
        price: micro-USD for boot and use, with minimum billing, raised by lately refused launches. Ranks offers.
        commitment: micro-USD that buying one node certainly costs: boot and hold, with minimum billing.
    """

    offer: Offer
    price: MicroUSD
    commitment: MicroUSD


def quotes_by_type(
    offers: Iterable[Offer], refused: Iterable[RefusedOffer], hold_s: float, now: float
) -> dict[str, tuple[Quote, ...]]:
    """Offers that may be tried now, by node type, best first; types of which every offer refused lately have none.

    Args:
        offers: what can be bought.
        refused: capacity refusals, in force or faded.
        hold_s: the least time a node is kept.
        now: Unix seconds.
    """
    refusals = {refusal.offer_id: refusal for refusal in refused}
    by_type: dict[str, list[Quote]] = {}
    for offer in offers:
        quotes = by_type.setdefault(offer.node_type, [])
        refusal = refusals.get(offer.offer_id)
        if refusal is None or refusal.until <= now:
            quotes.append(_quote(offer, refusal, hold_s, now))
    return {
        node_type: tuple(sorted(quotes, key=lambda quote: (quote.price, quote.offer.offer_id)))
        for node_type, quotes in by_type.items()
    }


@dataclass(frozen=True, slots=True)
class Lot:
    """Nodes of one type that may be had: ``count`` altogether, ``credited`` of them paid for already."""

    count: int
    credited: int = 0
    quote: Quote | None = None


class Allowance:
    """How many nodes may still be bought; every purchase is taken off it.

    A launch commits at least its boot and hold time, and that much must fit into every budget it belongs to
    before it is made: this is what makes a budget impossible to overrun by launching.

    Args:
        rooms: nodes that may be added, by node type.
        total: nodes that may be added altogether; None for no limit.
        quotes: offers by node type, best first; None where nothing has a price (Ray's own behaviour).
        budgets: room in every budget.
        sites: the site of each node type, to which some budgets belong.
    """

    def __init__(
        self,
        rooms: Mapping[str, int],
        total: int | None,
        quotes: Mapping[str, Sequence[Quote]] | None,
        budgets: Sequence[BudgetRoom],
        sites: Mapping[str, str] | None = None,
    ) -> None:
        self._rooms = dict(rooms)
        self._total = total
        self._quotes = quotes
        self._scopes = {budget.scope: max(0, budget.left) for budget in budgets}
        self._shut = frozenset(budget.scope for budget in budgets if budget.no_new_launches or budget.drain)
        self._sites = sites or {}
        self._credits: dict[str, int] = {}

    def copy(self) -> Allowance:
        """An allowance of its own, with the same left."""
        twin = Allowance(self._rooms, self._total, self._quotes, (), self._sites)
        twin._scopes, twin._shut, twin._credits = dict(self._scopes), self._shut, dict(self._credits)
        return twin

    def crediting(self, nodes: Mapping[str, int]) -> Allowance:
        """The same, with nodes by type that are there already and cost nothing more."""
        twin = self.copy()
        twin._credits = dict(nodes)
        return twin

    def without_buying(self) -> Allowance:
        """The same, but only what is credited may be had."""
        twin = self.copy()
        twin._rooms = {}
        return twin

    def quote(self, node_type: str) -> Quote | None:
        """The best offer for a node type that the budgets still allow; None if there is none or no prices."""
        for quote in (self._quotes or {}).get(node_type, ()):
            if self._affordable(quote) >= 1:
                return quote
        return None

    def price(self, node_type: str) -> MicroUSD:
        """What a node of this type costs for the ranking; 0 without prices."""
        quotes = (self._quotes or {}).get(node_type, ())
        best = self.quote(node_type) or (quotes[0] if quotes else None)
        return best.price if best is not None else 0

    @property
    def has_prices(self) -> bool:
        """Whether nodes are bought by price."""
        return self._quotes is not None

    def room(self, node_type: str) -> int:
        """How many nodes of a type may be had now."""
        return self._credits.get(node_type, 0) + self._room_to_buy(node_type)

    def take(self, node_type: str, wanted: int) -> Lot:
        """Have up to ``wanted`` nodes of one type: those credited first, then at its best offer."""
        credited = min(wanted, self._credits.get(node_type, 0))
        if credited:
            self._credits[node_type] -= credited
        quote = self.quote(node_type)
        count = min(wanted - credited, self._room_to_buy(node_type))
        if count <= 0:
            return Lot(credited, credited)
        self._rooms[node_type] -= count
        if self._total is not None:
            self._total -= count
        if quote is not None:
            for scope in self._scopes_of(quote.offer):
                self._scopes[scope] -= quote.commitment * count
        return Lot(credited + count, credited, quote)

    def extend(self, offers: Sequence[Quote], taken: Quote, count: int) -> tuple[str, ...]:
        """Offer ids to try in order for a launch at ``taken``: it, then each of ``offers`` that can be paid as well.

        What a dearer offer would cost more is set aside, so that failing over cannot overrun a budget either.
        """
        chain = [taken.offer.offer_id]
        reserved = dict.fromkeys(self._scopes_of(taken.offer), taken.commitment * count)
        for quote in offers:
            if quote.offer.offer_id in chain:
                continue
            scopes = self._scopes_of(quote.offer)
            extra = {scope: max(0, quote.commitment * count - reserved.get(scope, 0)) for scope in scopes}
            if self._is_shut(quote.offer.site):
                continue
            if any(self._scopes[scope] < more for scope, more in extra.items()):
                continue
            if quote.offer.node_type != taken.offer.node_type and self._rooms.get(quote.offer.node_type, 0) < count:
                continue
            for scope, more in extra.items():
                self._scopes[scope] -= more
                reserved[scope] = reserved.get(scope, 0) + more
            chain.append(quote.offer.offer_id)
        return tuple(chain)

    def why_not(self, node_type: str) -> ReasonCode:
        """Why no (further) node of a type may be bought."""
        if self._rooms.get(node_type, 0) <= 0 or (self._total is not None and self._total <= 0):
            return ReasonCode.MAXIMUM_NODES
        if self._is_shut(self._sites.get(node_type, "")):
            return ReasonCode.BUDGET
        if self._quotes is None:
            return ReasonCode.MAXIMUM_NODES
        if node_type not in self._quotes:
            return ReasonCode.NO_OFFER
        if not self._quotes[node_type]:
            return ReasonCode.OFFER_REFUSED_LATELY
        if self.quote(node_type) is None:
            return ReasonCode.BUDGET
        return ReasonCode.MAXIMUM_NODES

    def _room_to_buy(self, node_type: str) -> int:
        room = self._rooms.get(node_type, 0)
        if self._total is not None:
            room = min(room, self._total)
        if room <= 0 or self._is_shut(self._sites.get(node_type, "")):
            return 0
        if self._quotes is None:
            return room
        quote = self.quote(node_type)
        return min(room, self._affordable(quote)) if quote else 0

    def _affordable(self, quote: Quote) -> int:
        if self._is_shut(quote.offer.site):
            return 0
        if quote.commitment <= 0:
            return 1 << 30
        return min((self._scopes[s] // quote.commitment for s in self._scopes_of(quote.offer)), default=1 << 30)

    def _scopes_of(self, offer: Offer) -> list[str]:
        return [scope for scope in scopes_of(offer.site) if scope in self._scopes]

    def _is_shut(self, site: str) -> bool:
        """Whether a budget that pays for this site allows no further launch."""
        return any(scope in self._shut for scope in scopes_of(site))


def scopes_of(site: str) -> tuple[str, str]:
    """The budget scopes that pay for what runs on a site."""
    return ("fabric", f"site/{site}")


def _quote(offer: Offer, refusal: RefusedOffer | None, hold_s: float, now: float) -> Quote:
    penalty = 0.0
    if refusal is not None:
        penalty = REFUSAL_PENALTY * refusal.refusals * 0.5 ** (max(0.0, now - refusal.until) / HALF_LIFE_S)
    price = offer.tariff.cost(_ms(offer.boot_seconds + max(hold_s, USE_S)))
    return Quote(
        offer=offer,
        price=math.ceil(price * (1.0 + penalty)),
        commitment=offer.tariff.cost(_ms(offer.boot_seconds + hold_s)),
    )


def _ms(seconds: float) -> int:
    return math.ceil(seconds * 1000)
