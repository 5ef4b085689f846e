"""`ostler db migrate / backup / restore / check`: the database, from the command line. Mounted by `cli/`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ostler.db import backup as backups
from ostler.db import migrate as migrations

db_app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="The database: its schema, its backups, its health."
)

DatabaseUrl = Annotated[
    str, typer.Option("--database", envvar="OSTLER_DATABASE__URL", help="sqlite:///PATH or postgresql://USER@HOST/NAME")
]


@db_app.command()
def migrate(database: DatabaseUrl) -> None:
    """Bring the database to this Ostler's schema; it is made if it is not there. Safe to repeat."""
    typer.echo(f"The database has schema {migrations.migrate(database)}.")


@db_app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="the file to write; it must not exist yet")], database: DatabaseUrl
) -> None:
    """Copy the database to a file while it is in use."""
    size = backups.backup(database, target)
    typer.echo(f"{target}: {size:,} bytes, read back and complete.")


@db_app.command()
def restore(
    source: Annotated[Path, typer.Argument(help="a file that 'ostler db backup' wrote")],
    database: DatabaseUrl,
    force: Annotated[bool, typer.Option("--force", help="replace a database that is not empty")] = False,
) -> None:
    """Bring a backup back. The fleet starts paused: 'ostler resume' when the world has been read again."""
    backups.restore(database, source, force=force)
    typer.echo("Restored, and paused: run 'ostler resume --all --reason …' when the world has been read again.")


@db_app.command()
def check(
    database: DatabaseUrl, as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False
) -> None:
    """Look for damage: schema version, integrity, references, dense positions. Exit 1 if something is wrong."""
    problems = backups.check(database) or _check_log(database)
    if as_json:
        typer.echo(json.dumps({"ok": not problems, "problems": problems}))
    else:
        typer.echo("\n".join(problems) or "The database is sound.")
    if problems:
        raise typer.Exit(1)


def _check_log(database: str) -> list[str]:
    """The audit log, recomputed leaf by leaf; only worth it on a database that is sound."""
    from ostler.audit import verification
    from ostler.core.clock import SystemClock
    from ostler.db.engine import Database

    db = Database(database, SystemClock())
    try:
        found = db.read(verification.verify)
    finally:
        db.close()
    return [] if found.bad is None else [f"audit log: position {found.bad}: {found.why}"]
