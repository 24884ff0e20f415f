"""Where price files are: those a person refreshed, else those that came with the program."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from autoscaler.catalog.prices import PriceFile, PriceFileError, parse

CLOUDS = ("aws", "gcp", "azure")
_REPOSITORY = Path(__file__).resolve().parents[2] / "configs" / "prices"
_PACKAGED = Path(__file__).resolve().parent / "prices"


def price_files(refreshed: Path | None = None) -> Mapping[str, PriceFile]:
    """The price file of each cloud that has one.

    Args:
        refreshed: folder with newer files, which win; may be missing.

    Raises:
        PriceFileError: a file is there and cannot be read; the sentence names it.
    """
    found: dict[str, PriceFile] = {}
    for cloud in CLOUDS:
        for folder in (refreshed, _REPOSITORY, _PACKAGED):
            path = None if folder is None else folder / f"{cloud}.json"
            if path is not None and path.is_file():
                found[cloud] = _read(path, path.stat().st_mtime_ns)
                break
    return found


@lru_cache(maxsize=16)
def _read(path: Path, _changed_at: int) -> PriceFile:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PriceFileError(f"{path}: it cannot be read: {error}") from error
    except PriceFileError as error:
        raise PriceFileError(f"{path}: {error}") from error
