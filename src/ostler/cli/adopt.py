"""`ostler adopt SOURCE`: takes a running fleet into the books without touching it. Registered by `cli/__init__.py`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ostler.core.errors import BadInput

CLUSTERS = ("kubernetes:", "slurm:")
"""How a source begins that the server reads itself."""


def adopt_command(
    source: Annotated[
        str, typer.Argument(help="A CSV file with a header line, - for standard input, kubernetes:NAME or slurm:NAME.")
    ],
    pool: Annotated[str, typer.Option(help="The pool of nodes whose source names none.")] = "default",
    reason: Annotated[str, typer.Option(help="For the audit log.")] = "",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Have the server check everything and say what it would do; enter nothing."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Take in a running fleet as it is: no reboot, no BMC write, no boot override, no cordon.

    CSV columns: name (needed), serial, slot (SITE/ROW/RACK/U), macs (separated by spaces), bmc (URL or host), sku,
    pool, service (managed or unmanaged). kubernetes:NAME and slurm:NAME are the server's [clusters.NAME], and are only
    read. Nodes enter as production with the condition Uncertified; blank, default and duplicate serial numbers are not
    believed and are held for a person. A large fleet enters in parts; the same command goes on after a failure.
    """
    from ostler.cli.client import Client
    from ostler.nodes.adopt import read_csv

    wanted: dict[str, Any] = {"source": source, "pool": pool, "reason": reason, "dry_run": dry_run}
    if not source.startswith(CLUSTERS):
        wanted["csv"] = _read(source)
        read_csv(wanted["csv"], source)  # a mistake in the file needs no server to be found
    client = Client.from_environment()
    done = part = client.post("/v1/adopt", wanted)
    while part["remaining"]:
        if sys.stderr.isatty():
            print(f"{len(done['adopted'])} nodes adopted, {part['remaining']} to come", file=sys.stderr)
        part = client.post("/v1/adopt", wanted)
        done["adopted"] += part["adopted"]
        done["held"] = part["held"]  # those of the parts before are known by now, and held still
    done["remaining"] = 0
    if as_json:
        print(json.dumps(done))
    else:
        _tell(done)
    if done["held"]:
        raise typer.Exit(1)


def _tell(done: dict[str, Any]) -> None:
    would = "would be adopted" if done["dry_run"] else "adopted"
    entered = "; nothing entered" if done["dry_run"] else ""
    print(f"{len(done['adopted'])} nodes {would}, {len(done['known'])} known already{entered}.")
    for held in done["held"]:
        print(f"held for a person: {held['name']}: {held['why']}")
    for note in done["notes"]:
        print(f"note: {note['name']}: {note['note']}")
    for line in done["advice"]:
        print(line)


def _read(source: str) -> str:
    try:
        return sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"It cannot be read: {error.strerror}.", where=source) from None
    except UnicodeDecodeError:
        raise BadInput("It is not UTF-8 text.", where=source) from None
