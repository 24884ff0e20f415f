"""Today's prices of Azure from its public price list, for shapes and regions that a price file already has.

The protocol is https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices: pages of items,
without credentials. This runs when a person asks for it, never while something is being decided.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from typing import Any, cast

from autoscaler.catalog.prices import Listed, PriceFile, PriceFileError
from fabric.model.money import MicroUSD, usd

AZURE_ENDPOINT = "https://prices.azure.com/api/retail/prices"
_MOST_PAGES = 200
_TIMEOUT_S = 30.0

Fetch = Callable[[str], Mapping[str, Any]]


def get_json(url: str) -> Mapping[str, Any]:
    """One page of the price list.

    Raises:
        PriceFileError: it cannot be had; the sentence names the address.
    """
    if not url.startswith(("https://", "http://")):
        raise PriceFileError(f"{url} is no web address")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - the scheme was looked at above
            page = json.load(answer)
    except (OSError, ValueError) as error:
        raise PriceFileError(f"{url} does not answer with prices: {error}") from error
    if not isinstance(page, dict):
        raise PriceFileError(f"{url} does not answer with prices: this is not an object")
    return cast(dict[str, Any], page)


def refreshed_azure(file: PriceFile, today: date, endpoint: str = AZURE_ENDPOINT, fetch: Fetch = get_json) -> PriceFile:
    """``file`` with the prices of today; a price that the list no longer has is left out.

    Raises:
        PriceFileError: the list does not answer, or not in its format, or knows none of the shapes any more.
    """
    listed: dict[str, dict[str, Listed]] = {}
    for name in sorted(file.shapes):
        for region, entry in _shape_prices(name, endpoint, fetch).items():
            if region in file.listed:
                listed.setdefault(region, {})[name] = entry
    if not listed:
        raise PriceFileError(f"{endpoint} knows no price of any shape in the file")
    sold = {name for prices in listed.values() for name in prices}
    shapes = {name: shape for name, shape in file.shapes.items() if name in sold}
    source = f"Azure Retail Prices API ({endpoint}), read on {today.isoformat()}."
    return replace(file, date=today, sources=(source,), shapes=shapes, listed=listed)


def _shape_prices(name: str, endpoint: str, fetch: Fetch) -> Mapping[str, Listed]:
    """Prices of one shape, by region."""
    on_demand: dict[str, MicroUSD] = {}
    spot: dict[str, MicroUSD] = {}
    for item in _items(name, endpoint, fetch):
        try:
            if not _is_linux_by_the_hour(item):
                continue
            prices = spot if str(item["skuName"]).endswith(" Spot") else on_demand
            region, price = str(item["armRegionName"]), usd(str(item["retailPrice"]))
        except (KeyError, ValueError, ArithmeticError) as error:
            raise PriceFileError(f"{endpoint}: an item of {name} is not what it should be: {error!r}") from error
        if price > 0:
            prices[region] = max(price, prices.get(region, 0))
    return {region: Listed(on_demand.get(region), spot.get(region)) for region in on_demand.keys() | spot.keys()}


def _items(name: str, endpoint: str, fetch: Fetch) -> Iterator[Mapping[str, Any]]:
    wanted = f"serviceName eq 'Virtual Machines' and priceType eq 'Consumption' and armSkuName eq '{name}'"
    url = f"{endpoint}?{urllib.parse.urlencode({'currencyCode': 'USD', '$filter': wanted})}"
    for _ in range(_MOST_PAGES):
        page = fetch(url)
        items = page.get("Items")
        if not isinstance(items, list):
            raise PriceFileError(f"{url} does not answer with prices: it has no Items")
        yield from cast(list[Mapping[str, Any]], items)
        url = str(page.get("NextPageLink") or "")
        if not url:
            return
    raise PriceFileError(f"{endpoint} has more than {_MOST_PAGES} pages for {name}")


def _is_linux_by_the_hour(item: Mapping[str, Any]) -> bool:
    """Windows licences and the retired low-priority machines have items of their own under the same shape."""
    return (
        item["unitOfMeasure"] == "1 Hour"
        and item.get("currencyCode", "USD") == "USD"
        and "Windows" not in str(item["productName"])
        and not str(item["skuName"]).endswith(" Low Priority")
    )
