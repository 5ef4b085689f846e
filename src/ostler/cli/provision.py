"""`ostler provision …`: Day 0 before and at the first boot. Talks to `/v1/nodes/{node}/provision` and neighbours."""

from __future__ import annotations

import csv
import json as json_module
import tomllib
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from ostler.cli import output
from ostler.cli.client import Client
from ostler.cli.output import Json, Reason
from ostler.core.errors import BadInput

provision_app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Day 0: what a node is served, who it is, what it should be."
)

_LARGEST = 16 << 20
"""Bytes of an inventory or SKU file."""


@provision_app.command()
def render(
    node: Annotated[str, typer.Argument(help="Name, id, serial number or MAC.", show_default=False)],
    json: Json = False,
) -> None:
    """Show exactly what a node would be served at its next boot, and why. The token is left out."""
    seen = Client.from_environment().get(f"/v1/nodes/{quote(node, safe='')}/provision")
    if json:
        output.print_json(seen)
        return
    output.say(f"{seen['node']}: {seen['boot']} ({seen['why']})")
    if seen["held"]:
        output.say(f"held for a person: {seen['held']}")
    documents = {"boot script": seen["script"], **(seen["documents"] or {})}
    for name, text in documents.items():
        output.say(f"\n--- {name}")
        for line in text.splitlines():
            output.say(line)


@provision_app.command()
def identity(
    node: Annotated[str, typer.Argument(help="Name, id, serial number or MAC.", show_default=False)],
    reason: Reason,
    serial: Annotated[str | None, typer.Option(help="Its serial number from now on; '' says that it has none.")] = None,
    mac: Annotated[list[str] | None, typer.Option(help="All its MACs from now on; may be repeated.")] = None,
    json: Json = False,
) -> None:
    """Say who a node is after a swap, or that it has no serial number; ends its hold."""
    body: dict[str, Any] = {"reason": reason}
    if serial is not None:
        body["serial"] = serial
    if mac:
        body["macs"] = mac
    settled = Client.from_environment().post(f"/v1/nodes/{quote(node, safe='')}/identity", body)
    if json:
        output.print_json(settled)
    else:
        output.say(f"{settled['node']}: serial number {settled['serial'] or 'none'}, {', '.join(settled['macs'])}")


@provision_app.command()
def seed(
    node: Annotated[str, typer.Argument(help="Name, id, serial number or MAC.", show_default=False)],
    mac: Annotated[str | None, typer.Option(help="Which of its MACs to bind the seed to; left out: the first.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the audit log.")] = "",
) -> None:
    """Print a seed for a machine that runs already: 'ostler provision seed gpu-1 > seed.json'.

    It joins once, soon, and only that machine; the node keeps its state. It is a secret and is not shown again.
    """
    wish: dict[str, Any] = {"reason": reason} if mac is None else {"reason": reason, "mac": mac}
    output.print_json(Client.from_environment().post(f"/v1/nodes/{quote(node, safe='')}/seed", wish))


@provision_app.command()
def expect(
    file: Annotated[Path, typer.Argument(help="Inventory: .csv, .json, .toml or .yaml.", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the audit log.")] = "",
    json: Json = False,
) -> None:
    """Enter nodes before their first power-on: name, macs, serial, slot, sku, pool, bmc_address, … per node.

    CSV has these as columns (several MACs apart by spaces); the others hold a list under the key 'nodes'.
    """
    rows = _inventory(file)
    made = Client.from_environment().post("/v1/expected-nodes", {"nodes": rows, "reason": reason})
    if json:
        output.print_json(made)
    else:
        output.say(f"{len(made['items'])} nodes are in the books.")


@provision_app.command()
def sku(
    file: Annotated[Path, typer.Argument(help="SKU: .toml, .yaml or .json.", show_default=False)],
    name: Annotated[str | None, typer.Option(help="Its name; left out: the file's.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the audit log.")] = "",
    json: Json = False,
) -> None:
    """Declare what a node of a model must have, and the firmware it must run (docs/day0-day1.md)."""
    document = _document(file)
    declared = Client.from_environment().put(
        f"/v1/skus/{quote(name or file.stem, safe='')}", {"sku": document, "reason": reason}
    )
    if json:
        output.print_json(declared)
    else:
        output.say(f"The SKU {declared['name']} is declared.")


def _inventory(file: Path) -> list[dict[str, Any]]:
    if file.suffix.lower() == ".csv":
        lines = _read(file).splitlines()
        reader = csv.DictReader(lines, restkey="", strict=True)
        try:
            found = list(reader)
        except csv.Error as error:
            raise BadInput(f"is no CSV: {error}", where=f"{file}:{reader.line_num}") from None
        return [_csv_row(row, f"{file}:{number}") for number, row in enumerate(found, 2)]
    document = _document(file)
    nodes = document.get("nodes") if isinstance(document, dict) else document
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        raise BadInput("must hold a list of nodes under the key 'nodes'", where=str(file))
    return nodes


def _csv_row(row: dict[str, Any], where: str) -> dict[str, Any]:
    if "" in row or None in row.values():
        raise BadInput("has another number of fields than the first line", where=where)
    kept = {key.strip(): value.strip() for key, value in row.items() if value.strip()}
    return {**kept, "macs": kept.get("macs", "").split()}


def _document(file: Path) -> Any:
    text = _read(file)
    try:
        match file.suffix.lower():
            case ".toml":
                return tomllib.loads(text)
            case ".json":
                return json_module.loads(text)
            case ".yaml" | ".yml":
                import yaml

                try:
                    return yaml.safe_load(text)
                except yaml.YAMLError as error:
                    mark = getattr(error, "problem_mark", None)
                    at = f" at line {mark.line + 1}" if mark is not None else ""
                    raise BadInput(f"is no YAML{at}", where=str(file)) from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"cannot be read: {error}", where=str(file)) from None
    raise BadInput("must end in .toml, .yaml or .json", where=str(file))


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            raw = opened.read(_LARGEST + 1)
        if len(raw) > _LARGEST:
            raise BadInput(f"is larger than {_LARGEST >> 20} MiB", where=str(file))
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", where=str(file)) from None
    except UnicodeDecodeError:
        raise BadInput("is no text in UTF-8", where=str(file)) from None
