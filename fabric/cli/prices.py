"""``fabric prices``: what the price files say, how old they are, and newer ones."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.exits import CliError, Exit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from autoscaler.catalog.prices import Listed, PriceFile, Shape
    from fabric.config.schema import Config

_CLOUDS = click.Choice(["aws", "gcp", "azure"])


@click.group(invoke_without_command=True, short_help="List prices of cloud shapes; refresh or import them.")
@click.option("--cloud", type=_CLOUDS, help="Only this cloud.")
@click.option("--region", help="Only this region.")
@click.option("--gpu", help="Only shapes with this GPU, for example L4; none for shapes without one.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_context
def prices(ctx: click.Context, cloud: str | None, region: str | None, gpu: str | None, as_json: bool) -> None:
    """List shapes and their prices in USD an hour, with the date and source of each price file.

    With a configuration, your own prices and discounts are shown on top. The files in <state>/prices count before
    those that came with the program.
    """
    if ctx.invoked_subcommand is not None:
        return
    files = {name: file for name, file in _files().items() if cloud in {None, name}}
    found = [row for file in files.values() for row in _rows(file, region, gpu)]
    own = [row for row in _own() if cloud in {None, row["cloud"]} and region in {None, row["region"]}]
    if as_json:
        heads = {name: _head(file) for name, file in files.items()}
        click.echo(json.dumps({"files": heads, "own": own, "prices": found}, indent=2))
    else:
        _show(files, own, found)
    if not found:
        raise click.exceptions.Exit(Exit.NO)


@prices.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--cloud", type=_CLOUDS, required=True, help="Whose prices the file has.")
@click.option("--date", "day", type=click.DateTime(["%Y-%m-%d"]), help="When they were read.  [default: today]")
@click.option("--source", "sources", multiple=True, help="Where they come from, as a sentence; may be repeated.")
@click.option("--region", "regions", multiple=True, help="Regions to keep; may be repeated.  [default: all]")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Folder.  [default: <state>/prices]")
def import_(
    file: Path,
    cloud: str,
    day: datetime | None,
    sources: tuple[str, ...],
    regions: tuple[str, ...],
    output: Path | None,
) -> None:
    """Make a price file from a CSV FILE in the format of the SkyPilot catalog (docs/reference/prices.md)."""
    from autoscaler.catalog.imported import imported
    from autoscaler.catalog.prices import PriceFileError

    try:
        text = file.read_text(encoding="utf-8")
        made = imported(
            cloud, text, day.date() if day else _today(), sources or (f"Imported from {file.name}.",), regions
        )
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(Exit.USAGE, f"{file} cannot be read: {error}", "Name a CSV file.") from error
    except PriceFileError as error:
        raise CliError(Exit.FAILED, f"{file}: {error}", "Nothing was written.") from error
    _write(made, output)


@prices.command()
@click.option("--cloud", type=click.Choice(["azure"]), default="azure", show_default=True, help="Whose prices.")
@click.option("--endpoint", help="Address of the price list.  [default: the cloud's own]")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Folder.  [default: <state>/prices]")
def refresh(cloud: str, endpoint: str | None, output: Path | None) -> None:
    """Ask a cloud's public price list for today's prices of the known shapes, and write them to <state>/prices.

    Azure has such a list without credentials. For AWS and GCP import a CSV: fabric prices import.
    """
    from autoscaler.catalog.prices import PriceFileError
    from autoscaler.catalog.refresh import AZURE_ENDPOINT, refreshed_azure

    known = _files().get(cloud)
    if known is None:
        raise CliError(Exit.NO, f"there is no {cloud} price file to begin with", "Import one: fabric prices import")
    try:
        made = refreshed_azure(known, _today(), endpoint or AZURE_ENDPOINT)
    except PriceFileError as error:
        raise CliError(Exit.FAILED, str(error), "The old prices stay in force.") from error
    _write(made, output)


def _files() -> Mapping[str, PriceFile]:
    from autoscaler.catalog.files import price_files
    from autoscaler.catalog.prices import PriceFileError

    config = _config()
    try:
        return price_files(None if config is None else Path(config.fabric.state) / "prices")
    except PriceFileError as error:
        raise CliError(Exit.CONFIG, str(error), "Remove or repair that file.") from error


def _config() -> Config | None:
    """The configuration, if there is one: prices can be looked at without."""
    from fabric.cli.main import current

    context = current()
    try:
        _ = context.config_path
    except CliError:
        return None
    return context.config


def _rows(file: PriceFile, region: str | None, gpu: str | None) -> Iterator[dict[str, Any]]:
    for place, entries in sorted(file.listed.items()):
        if region not in {None, place}:
            continue
        shapes = sorted((file.shapes[name] for name in entries), key=lambda shape: (shape.gpu, shape.gpus, shape.name))
        for shape in shapes:
            if gpu is None or (shape.gpu or "none").lower() == gpu.lower():
                yield _row(file.cloud, place, shape, entries[shape.name])


def _row(cloud: str, region: str, shape: Shape, entry: Listed) -> dict[str, Any]:
    return {
        "cloud": cloud,
        "region": region,
        "shape": shape.name,
        "gpus": shape.gpus,
        "gpu": shape.gpu,
        "cpus": shape.cpus,
        "memory_gib": round(shape.memory / 1024**3, 1),
        "on_demand": _dollars(entry.on_demand),
        "spot": _dollars(entry.spot),
    }


def _own() -> Iterator[dict[str, Any]]:
    """What each cloud node type of the configuration costs, where that is not simply what the file lists."""
    from fabric.config.shapes import cloud_sites, sold_as

    config, files = _config(), _files()
    for name, site in () if config is None else cloud_sites(config):
        for key, block in site.node_types.items():
            shape = sold_as(block)
            listed = None if site.kind not in files else files[site.kind].price(site.region, shape)
            price = block.price
            if price is None or (listed and (price.on_demand, price.spot) == (listed.on_demand, listed.spot)):
                continue
            yield {
                "cloud": site.kind,
                "region": site.region,
                "node_type": f"{name}.{key}",
                "shape": shape,
                "on_demand": _dollars(price.on_demand),
                "spot": _dollars(price.spot),
                "discount": site.discount if _is_discounted(price.on_demand, listed, site.discount) else None,
            }


def _is_discounted(price: int | None, listed: Listed | None, discount: str | None) -> bool:
    """Whether a price is the listed one less the discount, and not the operator's own."""
    from fabric.config.units import percent

    if price is None or listed is None or listed.on_demand is None or discount is None:
        return False
    return abs(price - listed.on_demand * (1 - percent(discount))) <= 1


def _head(file: PriceFile) -> dict[str, Any]:
    today = _today()
    return {
        "date": file.date.isoformat(),
        "age_days": file.age_days(today),
        "stale": bool(file.staleness(today)),
        "sources": list(file.sources),
    }


def _show(files: Mapping[str, PriceFile], own: list[dict[str, Any]], found: list[dict[str, Any]]) -> None:
    for name, file in files.items():
        age = file.age_days(_today())
        click.echo(f"{name}: prices of {file.date}, {age} days old{'; STALE' if file.staleness(_today()) else ''}")
        for source in file.sources:
            click.echo(f"  {source}")
    if own:
        click.echo("\nYour own prices and discounts, USD/h")
        for row in own:
            note = f"  ({row['discount']} off on-demand)" if row["discount"] else "  (your own)"
            click.echo(
                f"  {row['node_type']:24} {row['region']:16} {row['shape']:36} "
                f"{row['on_demand'] or '-':>12} {row['spot'] or '-':>12}{note}"
            )
    click.echo(
        f"\n{'CLOUD':6} {'REGION':16} {'SHAPE':36} {'GPUS':14} {'CPUS':>5} {'GIB':>7} {'ON-DEMAND':>12} {'SPOT':>12}"
    )
    for row in found:
        gpus = f"{row['gpus']} {row['gpu']}" if row["gpus"] else "-"
        click.echo(
            f"{row['cloud']:6} {row['region']:16} {row['shape']:36} {gpus:14} {row['cpus']:>5} {row['memory_gib']:>7g} "
            f"{row['on_demand'] or '-':>12} {row['spot'] or '-':>12}"
        )
    if not found:
        click.echo("no shape is listed that fits", err=True)


def _write(made: PriceFile, output: Path | None) -> None:
    from autoscaler.catalog.prices import text_of

    if output is None:
        config = _config()
        if config is None:
            raise CliError(Exit.CONFIG, "there is no configuration, so no state folder", "Name one: --output DIR")
        output = Path(config.fabric.state) / "prices"
    path = output / f"{made.cloud}.json"
    part = path.with_suffix(".part")
    try:
        output.mkdir(parents=True, exist_ok=True)
        part.write_text(text_of(made), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise CliError(
            Exit.FAILED, f"{path} cannot be written: {error.strerror}", "Name another: --output DIR"
        ) from error
    gpus = sum(shape.gpus > 0 for shape in made.shapes.values())
    click.echo(f"{path}: {gpus} GPU shapes and {len(made.shapes) - gpus} others in {len(made.listed)} regions")


def _dollars(amount: int | None) -> str | None:
    return None if amount is None else f"{amount / 1_000_000:.6g}"


def _today() -> date:
    return datetime.now(UTC).date()
