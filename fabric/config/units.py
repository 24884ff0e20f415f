"""Quantities as people write them in YAML: durations, money, memory, addresses, names.

Each parser takes what stood in the file and returns the value the code works with, or raises ``ValueError`` with a
sentence of two halves, ``what is wrong; what to do``. Each ``format_…`` is the inverse: it writes a value so that
its parser reads the same value back.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from fabric.model.money import USD, MicroUSD, usd

_NUMBER = r"([0-9]{1,18}(?:\.[0-9]{1,9})?)"
_DURATION_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_LONGEST_MS = 100 * 366 * _DURATION_MS["d"]
_LARGEST_BYTES = 1024**6
_BINARY = {f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGTP", 1)}
_DECIMAL = {"B": 1, **{f"{prefix}B": 1000**power for power, prefix in enumerate("kMGTP", 1)}}
_BYTES = {**_DECIMAL, **_BINARY}

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
DURATION_PATTERN = r"^ *([0-9]+(\.[0-9]+)? *(ms|s|m|h|d) *)+$"
MONEY_PATTERN = r"^ *[0-9]+(\.[0-9]+)? *USD *$"
PRICE_PATTERN = r"^ *[0-9]+(\.[0-9]+)? *USD */ *h *$"
BYTES_PATTERN = r"^ *[0-9]+(\.[0-9]+)? *([kMGTP]?B|[KMGTP]iB) *$"
ADDRESS_PATTERN = r"^([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$"
PERCENT_PATTERN = r"^ *[0-9]+(\.[0-9]+)? *% *$"
LABEL_PATTERN = r"^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$"
LABEL_KEY_PATTERN = r"^([A-Za-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$"
URL_PATTERN = r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$"
MACHINE_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$"


def show(value: Any) -> str:
    """``value`` as a message quotes it: short, and in the words of the file rather than Python's."""
    if value is None:
        return "an empty value"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a block of keys"
    if isinstance(value, list):
        return "a list"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:56]}…{text[-1]}"


def seconds(value: Any) -> float:
    """Seconds of a duration such as ``90s``, ``5m``, ``1h30m``, ``400d``, to the millisecond; 0 needs no unit."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value == 0:
        return 0.0
    text = value.replace(" ", "") if isinstance(value, str) else ""
    parts = re.findall(_NUMBER + r"(ms|s|m|h|d)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(
            f"{show(value)} is not a duration; write a number and a unit, for example 90s, 5m, 1h30m or 2d"
        )
    total = sum((Decimal(number) * _DURATION_MS[unit] for number, unit in parts), Decimal(0))
    if total > _LONGEST_MS:
        raise ValueError(f"{show(value)} is longer than 100 years; write a shorter duration")
    return int(total.to_integral_value()) / 1000


def format_seconds(value: float) -> str:
    """A duration as it is written in the file, for example ``1h30m``."""
    left, text = round(value * 1000), ""
    for unit, size in _DURATION_MS.items():
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def dollars(value: Any) -> MicroUSD:
    """Micro-USD of an amount such as ``150 USD`` or ``0.35 USD``."""
    return _usd(value, r"\s*USD", "an amount of money", "150 USD")


def format_dollars(value: MicroUSD) -> str:
    """An amount of money as it is written in the file, for example ``150 USD``."""
    whole, micro = divmod(value, USD)
    return f"{whole}.{micro:06d}".rstrip("0").rstrip(".") + " USD"


def dollars_per_hour(value: Any) -> MicroUSD:
    """Micro-USD per hour of a price such as ``2.50 USD/h``."""
    return _usd(value, r"\s*USD\s*/\s*h", "a price per hour", "2.50 USD/h")


def format_dollars_per_hour(value: MicroUSD) -> str:
    """A price as it is written in the file, for example ``2.5 USD/h``."""
    return format_dollars(value) + "/h"


def byte_count(value: Any) -> int:
    """Bytes of a size such as ``512GiB`` or ``80GB``."""
    match = re.fullmatch(rf"\s*{_NUMBER}\s*([kKMGTP]?i?B)\s*", value) if isinstance(value, str) else None
    if match is None or match.group(2) not in _BYTES:
        raise ValueError(f"{show(value)} is not a size; write a number and a unit, for example 512GiB or 80GB")
    count = int(Decimal(match.group(1)) * _BYTES[match.group(2)])
    if count > _LARGEST_BYTES:
        raise ValueError(f"{show(value)} is more than any machine has; write a smaller size")
    return count


def format_bytes(value: int) -> str:
    """A size as it is written in the file, in the largest unit that divides it."""
    sizes = {**_BINARY, **_DECIMAL} if value % 1024 == 0 else _DECIMAL
    unit, size = max(((unit, size) for unit, size in sizes.items() if value % size == 0), key=lambda pair: pair[1])
    return f"{value // size}{unit}"


def percent(value: Any) -> float:
    """A fraction between 0 and 1 from a text such as ``80%``; more than 0 and at most 100 %."""
    match = re.fullmatch(rf"\s*{_NUMBER}\s*%\s*", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{show(value)} is not a percentage; write for example 80%")
    fraction = float(match.group(1)) / 100
    if not 0 < fraction <= 1:
        raise ValueError(f"{show(value)} is not between 0% and 100%; write for example 80%")
    return fraction


def name(value: Any) -> str:
    """A name of a site, a node type, a zone or a data class."""
    if not isinstance(value, str) or not re.fullmatch(NAME_PATTERN, value):
        raise ValueError(
            f"{show(value)} is not a name; use 1 to 63 small letters, digits and inner hyphens, for example aws-fra"
        )
    return value


def address(value: Any) -> str:
    """A listening address, ``host:port`` or ``[IPv6]:port``."""
    if not isinstance(value, str) or not re.fullmatch(ADDRESS_PATTERN, value):
        raise ValueError(f"{show(value)} is not an address; write host:port, for example 127.0.0.1:8400 or [::1]:8400")
    if not 1 <= int(value.rpartition(":")[2]) <= 65535:
        raise ValueError(f"{show(value)} has no such port; use a port from 1 to 65535")
    return value


def host_and_port(text: str) -> tuple[str, int]:
    """Host (IPv6 without brackets) and port of an address that :func:`address` accepted."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def machine(value: Any) -> str:
    """The name or address of a machine."""
    if not isinstance(value, str) or len(value) > 253 or not re.fullmatch(MACHINE_PATTERN, value):
        raise ValueError(f"{show(value)} is not the name or address of a machine; write for example gpu-01 or 10.0.0.7")
    return value


def url(value: Any) -> str:
    """An http or https address, without a slash at its end."""
    if not isinstance(value, str) or len(value) > 2048 or not re.fullmatch(URL_PATTERN, value):
        raise ValueError(f"{show(value)} is not a URL; write for example https://ec2.eu-central-1.amazonaws.com")
    return value.rstrip("/")


def label_key(value: Any) -> str:
    """A label's key in Ray's syntax."""
    if not isinstance(value, str) or len(value) > 63 or not re.fullmatch(LABEL_KEY_PATTERN, value):
        raise ValueError(f"{show(value)} is not a label key; use letters, digits, '-', '_' and '.', for example tier")
    if value.startswith(("fabric/", "ray.io/")):
        raise ValueError(f"label keys that begin with {value.partition('/')[0]}/ are reserved; choose another key")
    return value


def label_value(value: Any) -> str:
    """A label's value in Ray's syntax."""
    if not isinstance(value, str):
        raise ValueError(f'{show(value)} is not text; put a label\'s value in quotes, for example "8"')
    if len(value) > 63 or not re.fullmatch(LABEL_PATTERN, value):
        raise ValueError(f"{show(value)} is not a label value; use at most 63 letters, digits, '-', '_' and '.'")
    return value


def _usd(value: Any, unit: str, what: str, example: str) -> MicroUSD:
    match = re.fullmatch(rf"\s*{_NUMBER}{unit}\s*", value) if isinstance(value, str) else None
    if match is not None:
        return usd(match.group(1))
    other = re.search(r"EUR|GBP|CHF|JPY|CNY|[€£$¥]", value) if isinstance(value, str) else None
    why = f" (the only currency is USD, not {other.group()})" if other else ""
    raise ValueError(f"{show(value)} is not {what}{why}; write for example {example}")


def _text(title: str, pattern: str, *examples: str, also: dict[str, Any] | None = None) -> WithJsonSchema:
    """How a value looks in the JSON schema; the title is also what the reference calls it."""
    text: dict[str, Any] = {"type": "string", "pattern": pattern, "examples": list(examples)}
    return WithJsonSchema({"title": title, "anyOf": [text, also]} if also else {"title": title, **text})


Duration = Annotated[
    float,
    BeforeValidator(seconds),
    PlainSerializer(format_seconds, return_type=str, when_used="json"),
    _text("a duration", DURATION_PATTERN, "90s", "5m", "1h30m", "2d", also={"const": 0}),
]
Money = Annotated[
    MicroUSD,
    BeforeValidator(dollars),
    PlainSerializer(format_dollars, return_type=str, when_used="json"),
    _text("an amount of money", MONEY_PATTERN, "150 USD"),
]
HourlyPrice = Annotated[
    MicroUSD,
    BeforeValidator(dollars_per_hour),
    PlainSerializer(format_dollars_per_hour, return_type=str, when_used="json"),
    _text("a price per hour", PRICE_PATTERN, "2.50 USD/h"),
]
ByteCount = Annotated[
    int,
    BeforeValidator(byte_count),
    PlainSerializer(format_bytes, return_type=str, when_used="json"),
    _text("a size", BYTES_PATTERN, "512GiB", "80GB"),
]


def _checked_percent(value: Any) -> str:
    percent(value)
    return str(value)


Percent = Annotated[str, BeforeValidator(_checked_percent), _text("a percentage", PERCENT_PATTERN, "80%")]
Name = Annotated[str, BeforeValidator(name), _text("a name", NAME_PATTERN, "aws-fra")]
Address = Annotated[str, BeforeValidator(address), _text("an address", ADDRESS_PATTERN, "127.0.0.1:8400")]
Machine = Annotated[str, BeforeValidator(machine), _text("a machine", MACHINE_PATTERN, "gpu-01", "10.0.0.7")]
Url = Annotated[str, BeforeValidator(url), _text("a URL", URL_PATTERN, "https://ec2.eu-central-1.amazonaws.com")]
LabelKey = Annotated[str, BeforeValidator(label_key), _text("a label key", LABEL_KEY_PATTERN, "tier")]
LabelValue = Annotated[str, BeforeValidator(label_value), _text("a label value", LABEL_PATTERN, "gold")]
Count = Annotated[int, Field(ge=0, le=100_000)]
AtLeastOne = Annotated[int, Field(ge=1, le=100_000)]
