"""`ostler adopt SOURCE`: takes a running fleet into the books without touching it. Registered by `cli/__init__.py`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ostler.core.errors import BadInput


def adopt_command(
    source: Annotated[Path, typer.Argument(help="A CSV file with a header line, or - for standard input.")],
    reason: Annotated[str, typer.Option(help="For the audit log.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file and say what it holds; enter nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Take in a running fleet as it is: no reboot, no BMC write, no boot override, no cordon.

    Columns: name (needed), serial, slot (SITE/ROW/RACK/U), macs (separated by spaces), bmc (URL or host), sku, pool,
    service (managed or unmanaged). Nodes enter as production with the condition Uncertified; blank, default and
    duplicate serial numbers are not believed and are held for a person.
    """
    from ostler.cli.client import Client
    from ostler.nodes.adopt import read_csv

    text = _read(source)
    rows = read_csv(text, str(source))
    if dry_run:
        pools = sorted({row.pool for row in rows})
        answer = {"nodes": len(rows), "pools": pools}
        print(json.dumps(answer) if as_json else f"{len(rows)} nodes for pools {', '.join(pools)}; nothing entered.")
        return
    done = Client.from_environment().post("/v1/adopt", {"csv": text, "source": str(source), "reason": reason})
    if as_json:
        print(json.dumps(done))
    else:
        print(f"{len(done['adopted'])} nodes adopted, {len(done['known'])} known already.")
        for held in done["held"]:
            print(f"held for a person: {held['name']}: {held['why']}")
    if done["held"]:
        raise typer.Exit(1)


def _read(source: Path) -> str:
    try:
        return sys.stdin.read() if str(source) == "-" else source.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"It cannot be read: {error.strerror}.", where=str(source)) from None
    except UnicodeDecodeError:
        raise BadInput("It is not UTF-8 text.", where=str(source)) from None
