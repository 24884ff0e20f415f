"""Quantities: what people write, the number it means, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.config import units

YEAR_MS = 366 * 86_400_000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2d", 172800),
        ("250ms", 0.25),
        ("1.5h", 5400),
        (0, 0),
    ],
)
def test_a_duration_is_read_in_seconds(text: object, value: float) -> None:
    assert units.seconds(text) == value


@pytest.mark.parametrize(
    "text", ["", "5", 5, 1.5, "5 min", "-5m", "5m!", "m", "1e3s", None, True, False, [], {}, "٣s", "9" * 99 + "d"]
)
def test_what_is_not_a_duration_is_refused_with_an_example(text: object) -> None:
    with pytest.raises(ValueError, match="; write a"):
        units.seconds(text)


@given(st.integers(0, 100 * YEAR_MS))
def test_every_duration_is_written_so_that_it_reads_the_same(milliseconds: int) -> None:
    assert units.seconds(units.format_seconds(milliseconds / 1000)) == milliseconds / 1000


@given(st.integers(0, 10**15))
def test_every_amount_of_money_is_written_so_that_it_reads_the_same(micro: int) -> None:
    assert units.dollars(units.format_dollars(micro)) == micro
    assert units.dollars_per_hour(units.format_dollars_per_hour(micro)) == micro


@given(st.integers(0, 2**50))
def test_every_size_is_written_so_that_it_reads_the_same(count: int) -> None:
    assert units.byte_count(units.format_bytes(count)) == count


@pytest.mark.parametrize(
    ("text", "value"),
    [("512GiB", 512 * 2**30), ("80 GB", 80 * 10**9), ("1.5KiB", 1536), ("10B", 10), ("1kB", 1000)],
)
def test_a_size_is_read_in_bytes(text: str, value: int) -> None:
    assert units.byte_count(text) == value


@pytest.mark.parametrize("text", ["512", 512, "512 gib", "12KB", "GiB", "-1GB", None])
def test_what_is_not_a_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a size; write"):
        units.byte_count(text)


@pytest.mark.parametrize("text", ["150", 150, "USD", "$150", "150 EUR", "-1 USD", "1,000 USD", "NaN USD", None])
def test_what_is_not_money_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"is not an amount of money.*; write"):
        units.dollars(text)


def test_money_is_exact() -> None:
    assert units.dollars("0.1 USD") + units.dollars("0.2 USD") == units.dollars("0.3 USD")


@pytest.mark.parametrize(("text", "value"), [("80%", 0.8), ("100 %", 1.0), ("0.5%", 0.005)])
def test_a_percentage_is_a_fraction(text: str, value: float) -> None:
    assert units.percent(text) == value


@pytest.mark.parametrize("text", ["80", 80, "0%", "101%", "%", None])
def test_what_is_not_a_part_of_a_whole_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="; write for example 80%"):
        units.percent(text)


@pytest.mark.parametrize("text", ["127.0.0.1:8400", "[::1]:1", "fabric.example.org:65535", "localhost:80"])
def test_addresses(text: str) -> None:
    assert units.address(text) == text
    host, port = units.host_and_port(text)
    assert text in (f"{host}:{port}", f"[{host}]:{port}")


@pytest.mark.parametrize(
    "text", ["8400", ":8400", "host:", "host:0", "host:65536", "::1:80", "http://host:80", 8400, None]
)
def test_what_is_not_an_address_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"; (write host:port|use a port)"):
        units.address(text)


@given(st.text(max_size=300) | st.none() | st.integers() | st.floats() | st.booleans() | st.lists(st.text()))
def test_no_value_makes_a_parser_fail_otherwise_than_with_a_sentence(value: object) -> None:
    parsers = (
        units.seconds, units.dollars, units.dollars_per_hour, units.byte_count, units.percent,
        units.name, units.address, units.machine, units.label_key, units.label_value,
    )  # fmt: skip
    for parser in parsers:
        try:
            parser(value)
        except ValueError as error:
            what, _, remedy = str(error).rpartition("; ")
            assert what and remedy
