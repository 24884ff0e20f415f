"""Quantities as people write them in YAML: durations, money, memory, bandwidth of money.

Each parser takes the text and returns the number the code works with, or raises ``ValueError`` with a sentence
that says what was expected.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from fabric.model.money import MicroUSD, usd

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTE_UNITS = {"": 1, "B": 1, **{f"{p}iB": 1024**i for i, p in enumerate("KMGTP", 1)},
               **{f"{p}B": 1000**i for i, p in enumerate("kMGTP", 1)}}


def seconds(value: Any) -> float:
    """Seconds of a duration such as ``90s``, ``5m``, ``1h30m``, ``400d``; 0 may be written without a unit."""
    if value == 0 and not isinstance(value, bool):
        return 0.0
    text = value.replace(" ", "") if isinstance(value, str) else ""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{value!r} is not a duration; write a number and a unit, for example 90s, 5m, 1h30m or 2d")
    return sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)


def dollars(value: Any) -> MicroUSD:
    """Micro-USD of an amount such as ``150 USD`` or ``0.35 USD``."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*USD\s*", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not an amount of money; write for example 150 USD")
    return usd(match.group(1))


def dollars_per_hour(value: Any) -> MicroUSD:
    """Micro-USD per hour of a price such as ``2.50 USD/h``."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*USD\s*/\s*h\s*", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a price per hour; write for example 2.50 USD/h")
    return usd(match.group(1))


def byte_count(value: Any) -> int:
    """Bytes of a size such as ``512GiB`` or ``80GB``."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKMGTP]?i?B)\s*", value) if isinstance(value, str) else None
    if match is None or match.group(2) not in _BYTE_UNITS:
        raise ValueError(f"{value!r} is not a size; write a number and a unit, for example 512GiB")
    return int(float(match.group(1)) * _BYTE_UNITS[match.group(2)])


def percent(value: Any) -> float:
    """A fraction between 0 and 1 from a text such as ``80%``."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a percentage; write for example 80%")
    return float(match.group(1)) / 100


Duration = Annotated[float, BeforeValidator(seconds)]
Money = Annotated[MicroUSD, BeforeValidator(dollars)]
HourlyPrice = Annotated[MicroUSD, BeforeValidator(dollars_per_hour)]
ByteCount = Annotated[int, BeforeValidator(byte_count)]
