"""Refreshing Azure's prices from a price list over real HTTP, in the format that the API documents."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from autoscaler.catalog.prices import GIB, Listed, PriceFile, PriceFileError, Shape
from autoscaler.catalog.refresh import refreshed_azure
from fabric.model.money import usd

TODAY = date(2026, 11, 23)
NAME = "Standard_NC4as_T4_v3"
OLD = PriceFile(
    "azure",
    date(2024, 6, 1),
    ("old",),
    {NAME: Shape(NAME, 1, "T4", 16 * GIB, 4, 28 * GIB), "Standard_Gone": Shape("Standard_Gone", 0, "", 0, 4, GIB)},
    {"eastus": {NAME: Listed(usd(9), None), "Standard_Gone": Listed(usd(1), None)}, "westeurope": {}},
)


def item(
    region: str, price: float, sku: str = "NC4as T4 v3", product: str = "Virtual Machines NCasT4_v3 Series"
) -> Any:
    return {
        "currencyCode": "USD",
        "retailPrice": price,
        "armRegionName": region,
        "productName": product,
        "skuName": sku,
        "armSkuName": NAME,
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
    }


@contextmanager
def price_list(answer: Callable[[str, int], tuple[int, bytes]]) -> Iterator[str]:
    """A server that answers ``answer(filter, page)`` as status and body; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            status, body = answer(query.get("$filter", [""])[0], int(query.get("page", ["1"])[0]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/prices"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_prices_come_page_by_page_and_licences_and_low_priority_are_not_machines() -> None:
    def answer(wanted: str, page: int) -> tuple[int, bytes]:
        if f"armSkuName eq '{NAME}'" not in wanted and page == 1:
            return 200, json.dumps({"Items": [], "NextPageLink": None}).encode()
        pages = {
            1: {
                "Items": [item("eastus", 0.526), item("eastus", 0.71, product="Virtual Machines NCasT4_v3 Windows")],
                "NextPageLink": f"{seen[0]}?page=2",
            },
            2: {
                "Items": [
                    item("eastus", 0.0627, sku="NC4as T4 v3 Spot"),
                    item("westeurope", 0.61),
                    item("eastus", 0.2, sku="NC4as T4 v3 Low Priority"),
                    item("moon", 1),
                ],
                "NextPageLink": None,
            },
        }
        return 200, json.dumps(pages[page]).encode()

    seen: list[str] = []
    with price_list(answer) as address:
        seen.append(address)
        file = refreshed_azure(OLD, TODAY, address)
    assert file.date == TODAY
    assert "2026-11-23" in file.sources[0]
    assert file.listed == {
        "eastus": {NAME: Listed(usd("0.526"), usd("0.0627"))},
        "westeurope": {NAME: Listed(usd("0.61"), None)},
    }
    assert set(file.shapes) == {NAME}


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (503, b"", "does not answer with prices: HTTP Error 503"),
        (200, b"<html>", "does not answer with prices"),
        (200, b"[]", "this is not an object"),
        (200, b"{}", "it has no Items"),
        (200, b'{"Items": [{"skuName": "x"}]}', "is not what it should be"),
        (200, b'{"Items": []}', "knows no price of any shape"),
    ],
)
def test_a_list_that_fails_is_said_and_nothing_is_made_of_it(status: int, body: bytes, sentence: str) -> None:
    with price_list(lambda _wanted, _page: (status, body)) as address, pytest.raises(PriceFileError, match=sentence):
        refreshed_azure(OLD, TODAY, address)


def test_an_address_that_is_not_the_web_is_refused() -> None:
    with pytest.raises(PriceFileError, match="is no web address"):
        refreshed_azure(OLD, TODAY, "file:///etc/passwd")
