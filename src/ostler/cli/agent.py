"""`ostler agent`: the node agent as a command. Registered by `cli/__init__.py`; what it does is `agent/run.py`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from ostler.agent.run import Options, SourceKind, run
from ostler.core.errors import OstlerError


def agent_command(
    server: Annotated[
        str | None, typer.Option(help="https://HOST:PORT of the agents' listener; wins over the seed.")
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(
            help="File or http:// URL of the seed; needed to join, and to join again if the certificate has ended."
        ),
    ] = None,
    ca_sha256: Annotated[
        str | None, typer.Option(help="SHA-256 of the CA certificate (DER, hex); wins over the seed.")
    ] = None,
    state_dir: Annotated[Path, typer.Option(help="Folder for the identity and for what is not yet reported.")] = Path(
        "/var/lib/ostler-agent"
    ),
    source: Annotated[SourceKind, typer.Option(help="Where kernel lines come from.")] = SourceKind.AUTO,
    file: Annotated[list[Path] | None, typer.Option(help="A log file to follow; may be repeated.")] = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Read what the file already holds, once.")
    ] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="A verb that this node obeys (run-check, restart-service, reset-gpu, reboot); repeatable."),
    ] = None,
    trust_user_lines: Annotated[
        bool, typer.Option("--trust-user-lines", help="Believe kernel-log lines that programs wrote: for tests only.")
    ] = False,
    monitors: Annotated[
        str, typer.Option(help="Passive monitors that run, joined by commas; all of them when it is not given.")
    ] = "",
    no_monitors: Annotated[
        bool, typer.Option("--no-monitors", help="Run no passive monitor: the kernel log only.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Also say what goes well.")] = False,
) -> None:
    """Follow this node's kernel log, watch its hardware, report what is found, and do what --allow lists."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s")
    options = Options(
        state=state_dir,
        server=server,
        seed=seed,
        ca_sha256=ca_sha256,
        source=source,
        files=tuple(file or ()),
        from_beginning=from_beginning,
        allow=tuple(allow or ()),
        trust_user_lines=trust_user_lines,
        monitors=None if no_monitors else tuple(name for word in monitors.split(",") if (name := word.strip())),
    )
    try:
        run(options)
    except OstlerError as error:
        typer.echo(f"ostler agent: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
