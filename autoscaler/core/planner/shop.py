"""What to buy for the rest of the work: the cheapest basket for the whole need, or Ray's choice without prices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoscaler.core.offers import Allowance, Lot
from autoscaler.core.planner.bins import Bin, Fill, Pool, Score
from autoscaler.core.planner.pack import Appraise, pack
from autoscaler.core.planner.space import Item, Space
from fabric.model.money import MicroUSD

# With more node types than this, baskets that favour one type each are not tried: the thrifty one has to do.
FAVOURITES = 16


@dataclass(slots=True)
class Basket:
    """One way of buying for the need.

    Attributes:
        remaining: requests it leaves, by item.
        lots: node type, how many at which price, and what each of these nodes takes.
        allowance: what may still be bought after it.
        price: micro-USD for what has to be paid.
        value: micro-USD for all of it, also what is credited.
    """

    remaining: list[int]
    lots: list[tuple[str, Lot, Fill]]
    allowance: Allowance
    price: MicroUSD = 0
    value: MicroUSD = 0

    def cost(self) -> tuple[int, MicroUSD, MicroUSD, int]:
        """Work left over, then price, then value, then nodes: less is better."""
        return (sum(self.remaining), self.price, self.value, sum(lot.count for _, lot, _ in self.lots))


def shop(
    space: Space,
    shelf: Sequence[Bin],
    items: Sequence[Item],
    remaining: Sequence[int],
    allowance: Allowance,
    ray_order: Appraise,
) -> Basket:
    """The best basket for what remains; the caller decides whether to take it.

    Greedy packing needs an order, and no order is best for every need. Where there are prices, several are
    tried and the whole baskets compared: Ray's own, the cheapest per share of the need, and the same with each
    node type favoured in turn. On equal price Ray's wins.

    Args:
        space: resource names.
        shelf: node types that may be bought.
        items: shapes, hardest first.
        remaining: requests to buy for.
        allowance: how much may be bought; not changed.
        ray_order: Ray's score.
    """
    candidates = Pool(space, shelf).fitting(items)
    best = _fill_basket(shelf, items, remaining, candidates, allowance, ray_order)
    if len(shelf) < 2 or not allowance.has_prices:
        return best
    thrifty = _Thrifty(items, remaining, allowance, ray_order)
    orders: list[Appraise] = [thrifty.order(None)]
    if len(shelf) <= FAVOURITES:
        orders.extend(thrifty.order(bin_.node_type) for bin_ in shelf)
    for order in orders:
        basket = _fill_basket(shelf, items, remaining, candidates, allowance, order)
        if basket.cost() < best.cost():
            best = basket
    return best


class _Thrifty:
    """Prefer what costs least for its share of the need: of the resource of which a node brings most."""

    def __init__(
        self, items: Sequence[Item], remaining: Sequence[int], allowance: Allowance, ray_order: Appraise
    ) -> None:
        self._items, self._allowance, self._ray_order = items, allowance, ray_order
        self._need: dict[int, int] = {}
        for item, count in zip(items, remaining, strict=True):
            for column, quantity in item.asks:
                self._need[column] = self._need.get(column, 0) + quantity * count

    def order(self, favourite: str | None) -> Appraise:
        def appraise(bin_: Bin, filled: Fill) -> Score:
            return (
                filled.rank,
                1.0 if bin_.node_type == favourite else 0.0,
                -self._allowance.price(bin_.node_type) / max(self._share(filled), 1e-12),
                *self._ray_order(bin_, filled),
            )

        return appraise

    def _share(self, filled: Fill) -> float:
        brings: dict[int, int] = {}
        for position, count in filled.takes:
            for column, quantity in self._items[position].asks:
                brings[column] = brings.get(column, 0) + quantity * count
        return max((amount / self._need[column] for column, amount in brings.items()), default=0.0)


def _fill_basket(
    shelf: Sequence[Bin],
    items: Sequence[Item],
    remaining: Sequence[int],
    candidates: dict[int, list[int]],
    allowance: Allowance,
    order: Appraise,
) -> Basket:
    basket = Basket(list(remaining), [], allowance.copy())
    lots: list[Lot] = []

    def may_take(bin_: Bin, wanted: int) -> int:
        price = basket.allowance.price(bin_.node_type)
        lot = basket.allowance.take(bin_.node_type, wanted)
        if lot.count:
            lots.append(lot)
            basket.price += (lot.count - lot.credited) * price
            basket.value += lot.count * price
        return lot.count

    steps = pack(shelf, items, basket.remaining, candidates, order, may_take)
    basket.lots = [(shelf[step.row].node_type, lot, step.filled) for step, lot in zip(steps, lots, strict=True)]
    return basket
