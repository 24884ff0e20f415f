"""``fabric token``: make, list and revoke the tokens that users show to the gateway."""

from __future__ import annotations

import getpass
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.exits import CliError, Exit
from fabric.cli.main import current

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fabric.cli.context import Context
    from fabric.identity.tokens import Token
    from fabric.model.jobs import Role

_LONGEST_NAME = 256


@click.group()
def token() -> None:
    """Make, list and revoke users' tokens."""


@token.command()
@click.option("--user", required=True, help="Whom the token stands for; the name in receipts and evidence.")
@click.option("--team", default="", help="Team of the configuration; left out: none, with the default data class.")
@click.option("--role", "roles", multiple=True, help="user, operator or auditor; may be repeated.  [default: user]")
@click.option(
    "--expires", default="90d", show_default=True, help="How long it counts, for example 30d or 12h; or never."
)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this new file instead (0600)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the id, and the token or its file, as JSON.")
def create(user: str, team: str, roles: tuple[str, ...], expires: str, output: Path | None, as_json: bool) -> None:
    """Make a token, and print it this one time: only its SHA-256 is kept.

    The user sets RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the token or RAY_AUTH_TOKEN_PATH to its file.
    """
    from autoscaler.boot.private import write_private
    from fabric.identity.issue import create_token

    context = current()
    _check_user(user)
    _check_team(team, context)
    known, until = _roles(roles), _until(expires)
    if output is not None and output.exists():
        raise CliError(Exit.CONFLICT, f"{output} exists already", "Name a new file; nothing was made.")
    if output is not None and not output.parent.is_dir():
        raise CliError(Exit.USAGE, f"there is no directory {output.parent}", "Make it first; nothing was made.")
    with context.journal(create=True) as journal:
        token_id, text = create_token(journal, user, team, known, until, getpass.getuser())
    if output is not None:
        try:
            write_private(output, text.encode())
        except OSError as error:
            raise CliError(
                Exit.FAILED,
                f"token {token_id} was made, but {output} cannot be written: {error.strerror}",
                f"The token is lost: fabric token revoke {token_id}, then make another.",
            ) from error
    if as_json:
        click.echo(json.dumps({"id": token_id, **({"token": text} if output is None else {"file": str(output)})}))
        return
    said = f"token {token_id} of {user}, {f'team {team}' if team else 'no team'}, {_until_text(until)}"
    if output is not None:
        click.echo(f"{said}: written to {output}")
    else:
        click.echo(f"{said}. It is shown this once:", err=True)
        click.echo(text)


@token.command("list")
@click.option("--all", "with_dead", is_flag=True, help="List expired and revoked ones, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def list_(with_dead: bool, as_json: bool) -> None:
    """List tokens, the newest last.

    \b
    The keys of --json, one object for each token; times are Unix seconds:
      id, user, team, roles, by, created_at, expires_at (null: never), revoked_at (null: it was not),
      state (valid, expired or revoked)
    """  # noqa: D301 - \b is click's mark for "do not wrap"
    now = time.time()
    found = [entry for entry in _tokens(current()).values() if with_dead or entry.state(now) == "valid"]
    if as_json:
        click.echo(json.dumps([_as_json(entry, now) for entry in found], indent=2))
    elif not found:
        click.echo("there are no tokens" if with_dead else "there are no valid tokens")
    else:
        _print(found, now)


@token.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
def revoke(ids: tuple[str, ...]) -> None:
    """Make tokens count no more; a running gateway refuses them within a second.

    The exit code is 1, and nothing is revoked, when an ID is not known.
    """
    from fabric.identity.issue import revoke_token, tokens_of
    from fabric.identity.tokens import PREFIX, token_id

    with current().journal() as journal:
        tokens = tokens_of(journal).by_id
        # Whoever pastes a whole token instead of its id means that one.
        wanted = [token_id(text) if text.startswith(PREFIX) else text for text in ids]
        unknown = [text for text in wanted if text not in tokens]
        if unknown:
            raise CliError(
                Exit.NO, f"there is no token {', '.join(unknown)}", "fabric token list shows them; nothing was revoked."
            )
        for name in wanted:
            did = revoke_token(journal, tokens[name], getpass.getuser())
            said = "revoked" if did else "was revoked before"
            click.echo(f"token {name} of {tokens[name].user}: {said}")


def _tokens(context: Context) -> dict[str, Token]:
    from fabric.identity.issue import tokens_of

    with context.journal() as journal:
        return tokens_of(journal).by_id


def _check_user(user: str) -> None:
    if not user.strip() or not user.isprintable() or len(user) > _LONGEST_NAME:
        raise click.BadParameter(
            f"a user's name is 1 to {_LONGEST_NAME} printable characters, not {user[:40]!r}", param_hint="--user"
        )


def _check_team(team: str, context: Context) -> None:
    teams = context.config_in_force.teams
    if team and team not in teams:
        raise CliError(
            Exit.NO,
            f"there is no team {team} in {context.config_path}",
            f"Teams: {', '.join(sorted(teams)) or 'none'}. Add it under teams: first; nothing was made.",
        )


def _roles(named: tuple[str, ...]) -> frozenset[Role]:
    from fabric.model.jobs import Role

    known = {role.value: role for role in Role}
    for name in named:
        if name not in known:
            raise click.BadParameter(f"there is no role {name!r}; roles: {', '.join(known)}", param_hint="--role")
    return frozenset(known[name] for name in named) or frozenset({Role.USER})


def _until(expires: str) -> float | None:
    from fabric.config.units import seconds

    if expires == "never":
        return None
    try:
        length = seconds(expires)
    except ValueError as error:
        raise click.BadParameter(f"{error}, or never", param_hint="--expires") from None
    if length <= 0:
        raise click.BadParameter("a token has to count for some time; write for example 30d", param_hint="--expires")
    return time.time() + length


def _until_text(until: float | None) -> str:
    from fabric.cli.receipts import at

    return "does not expire" if until is None else f"expires {at(until)}"


def _as_json(entry: Token, now: float) -> dict[str, Any]:
    return {
        "id": entry.id,
        "user": entry.user,
        "team": entry.team,
        "roles": sorted(role.value for role in entry.roles),
        "by": entry.by,
        "created_at": entry.created_at,
        "expires_at": entry.expires_at,
        "revoked_at": entry.revoked_at,
        "state": entry.state(now),
    }


def _print(found: Iterable[Token], now: float) -> None:
    from fabric.cli.receipts import at
    from fabric.cli.screen import console, plain, table

    shown = table("id", "user", "team", "roles", "made", "expires", "state", "by")
    for entry in found:
        shown.add_row(
            entry.id,
            plain(entry.user),
            entry.team,
            ", ".join(sorted(role.value for role in entry.roles)),
            at(entry.created_at),
            "never" if entry.expires_at is None else at(entry.expires_at),
            entry.state(now),
            plain(entry.by),
        )
    console().print(shown)
