"""`ostler serve`: the control plane in one process. Registered by `cli/__init__.py`; the parts are in `app.py`."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer

from ostler.config import load
from ostler.core.errors import BadInput

ADMIN_TOKEN_LENGTH = 16
"""Characters that `OSTLER_ADMIN_TOKEN` must have: short ones are guessed."""


def serve_command(
    config: Annotated[Path | None, typer.Option(help="TOML file; see docs/configuration.md for every key.")] = None,
    database: Annotated[str | None, typer.Option(help="sqlite:///PATH or postgresql://…", metavar="URL")] = None,
    listen: Annotated[str | None, typer.Option(help="Operators' address.", metavar="HOST:PORT")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    """Run the control plane. With no flags: SQLite in the user's data folder, on 127.0.0.1:8470."""
    from ostler import ground
    from ostler.app import Server, build

    logging.basicConfig(stream=sys.stderr, level=logging.INFO if verbose else logging.WARNING, format="%(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO if verbose else logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    environment = dict(os.environ)
    if database is not None:
        environment["OSTLER_DATABASE__URL"] = json.dumps(database)
    if listen is not None:
        environment["OSTLER_SERVER__LISTEN"] = json.dumps(listen)

    def announce(server: Server) -> None:
        where = {name: bound.url for name, bound in server.bound.items()}
        print(json.dumps({"ready": True, **where}), flush=True)

    if 0 < len(environment.get("OSTLER_ADMIN_TOKEN", "")) < ADMIN_TOKEN_LENGTH:
        raise BadInput(
            f"It is an admin's secret: at least {ADMIN_TOKEN_LENGTH} characters.", where="OSTLER_ADMIN_TOKEN"
        )
    loaded = load(config, environment)
    ground.data_folder(loaded)
    with ground.sole_server(loaded):
        build(loaded, environment).run(announce)
