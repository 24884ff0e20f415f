"""Money as integer micro-USD, and the one rule by which time becomes money.

Every amount in the fabric is an ``int`` number of micro-USD (1 USD = 1,000,000). Floats never hold money: a
ledger that has to equal a bill to the last micro-dollar cannot round twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

MicroUSD = int

USD: MicroUSD = 1_000_000
SECONDS_PER_HOUR = 3600


def usd(amount: str | int | Decimal) -> MicroUSD:
    """Micro-USD of a decimal amount of dollars, rounded half to even beyond six places.

    Raises:
        ValueError: ``amount`` is not a finite decimal number.
    """
    try:
        value = Decimal(amount)
    except InvalidOperation as error:
        raise ValueError(f"{amount!r} is not an amount of dollars") from error
    if not value.is_finite():
        raise ValueError(f"{amount!r} is not an amount of dollars")
    return int((value * USD).to_integral_value(rounding=ROUND_HALF_EVEN))


def format_usd(amount: MicroUSD, places: int = 2) -> str:
    """``amount`` as dollars for people, for example ``$12.34``; a non-zero amount never reads as zero."""
    value = Decimal(amount) / USD
    while places < 6 and amount and value.quantize(Decimal(1).scaleb(-places)) == 0:
        places += 1
    sign = "-" if value < 0 else ""
    return f"{sign}${abs(value):,.{places}f}"


@dataclass(frozen=True, slots=True)
class Tariff:
    """How one offer turns time into money: per-second billing with a minimum.

    Attributes:
        per_hour: price of one instance, micro-USD per hour.
        minimum_seconds: the least time that is charged once an instance exists.
    """

    per_hour: MicroUSD
    minimum_seconds: int = 0

    def __post_init__(self) -> None:
        if self.per_hour < 0 or self.minimum_seconds < 0:
            raise ValueError(f"a tariff cannot be negative: {self}")

    def cost(self, lifetime_ms: int) -> MicroUSD:
        """Micro-USD for an instance that lived ``lifetime_ms``: begun seconds count, rounded up once at the end."""
        seconds = max(self.minimum_seconds, -(-max(lifetime_ms, 0) // 1000))
        return -(-self.per_hour * seconds // SECONDS_PER_HOUR)


@dataclass(frozen=True, slots=True)
class BudgetRoom:
    """Money left in one budget for new commitments.

    Attributes:
        scope: ``fabric``, or ``site/<name>``.
        left: micro-USD that may still be committed.
        no_new_launches: the budget's own rule says that nothing more is bought.
        drain: the budget's own rule says that what it pays for is given back.
    """

    scope: str
    left: MicroUSD
    no_new_launches: bool = False
    drain: bool = False
