"""The commands of `ostler fabric` that talk to a server: designs, looks, causes, parts, rounds. For `fabric.py`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, TypeAlias
from urllib.parse import quote

import typer

from ostler.cli import output
from ostler.cli.output import Json
from ostler.core.errors import OstlerError, Temporary

Fabric: TypeAlias = Annotated[str, typer.Argument(help="The fabric's name.", show_default=False)]
Reason: TypeAlias = Annotated[str, typer.Option(help="Why, for the audit log.", show_default=False)]
_ASK_S = 15.0
"""Real seconds between two questions whether a look is wanted."""


def register(app: typer.Typer) -> None:
    """Put the commands of this file among those of `ostler fabric`."""
    app.command("import")(import_command)
    app.command("export")(export)
    app.command("list")(list_command)
    app.command("show")(show)
    app.command("causes")(causes)
    app.command("look")(look)
    app.command("collect")(collect)
    app.command("bootstrap")(bootstrap)
    app.command("prove")(prove)
    app.command("parts")(parts)
    app.command("approve")(approve)
    app.command("forget")(forget)
    app.command("rounds")(rounds)
    app.command("round")(round_command)
    app.command("sign")(sign)


def import_command(
    fabric: Fabric,
    file: Annotated[Path, typer.Argument(help="The design, in any form that 'lint' reads.", show_default=False)],
    format: Annotated[str, typer.Option("--format", "-f", help="Of the file; auto looks.")] = "auto",
    switch_model: Annotated[str, typer.Option(help="Of switches whose model the file does not name: MQM9700.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is doubtful.")] = False,
    reason: Reason = "",
    json: Json = False,
) -> None:
    """Give the server a fabric's design; what is doubtful about it is said, what is wrong is refused."""
    from ostler.cli.fabric import read_file

    data = read_file(file)
    found = _client().put_file(
        f"{_path(fabric)}/blueprint",
        data,
        name=file.name,
        format=format,
        switch_model=switch_model or None,
        dry_run=dry_run,
        reason=reason or None,
    )
    if json:
        output.print_json(found)
        return
    for one in found["lints"]:
        at = f"line {one['line']}: " if one["line"] else ""
        output.say(f"{'error' if one['error'] else 'doubt'}: {one['kind']}: {at}{one['message']}")
    taken = f"blueprint {found['id']}" if found["id"] else "nothing was taken in"
    output.say(f"{found['cables']} cables between {found['chassis']} chassis, read as {found['source']}: {taken}.")


def export(fabric: Fabric) -> None:
    """Print the design that counts, as Ostler's CSV."""
    import sys

    sys.stdout.buffer.write(_client().download(f"{_path(fabric)}/blueprint"))


def list_command(json: Json = False) -> None:
    """Every fabric with its last look."""
    items = _client().get("/v1/fabrics")["items"]
    if json:
        output.print_lines(items)
        return
    rows = (
        (
            one["name"],
            one["collector"],
            _design(one["design"]),
            output.when((one["last_look"] or {}).get("taken_at")),
            _cables(one["last_look"]),
            one["open_causes"],
        )
        for one in items
    )
    output.table(("FABRIC", "COLLECTOR", "DESIGN", "LOOKED AT", "CABLES", "CAUSES"), rows, empty="No fabric.")


def show(fabric: Fabric, json: Json = False) -> None:
    """One fabric: its design, its last look and everything that is wrong now."""
    found = _client().get(_path(fabric))
    if json:
        output.print_json(found)
        return
    last = found["last_look"]
    output.facts(
        {
            "fabric": found["name"],
            "collector": found["collector"],
            "design": _design(found["design"]),
            "last look": None if last is None else f"{output.clock(last['taken_at'])} UTC by {last['vantage']}",
            "cables": _cables(last),
            "seen": None if last is None else f"{last['coverage']['share']:.1%} of the designed cables",
        }
    )
    if last is not None:
        for problem in last["coverage"]["problems"][:10]:
            output.say(f"? {problem['kind']}: {problem['message']}")
    for cause in found["causes"]:
        _say_cause(cause)


def causes(
    fabric: Fabric,
    state: Annotated[str | None, typer.Option(help="open or cleared.")] = None,
    json: Json = False,
) -> None:
    """What is or was wrong, newest first (with --json: JSON Lines)."""
    found = _client().pages(f"{_path(fabric)}/causes", state=state)
    if json:
        output.print_lines(found)
        return
    rows = (
        (
            one["kind"],
            one["state"] if one["confirmed"] else f"{one['state']}, not confirmed",
            output.when(one["first_seen"]),
            one["ticket_id"],
            one["message"],
        )
        for one in found
    )
    output.table(("KIND", "STATE", "SINCE", "TICKET", "WHAT"), rows, empty="Nothing is wrong.")


def look(
    fabric: Fabric,
    wait: Annotated[float, typer.Option(help="Seconds to wait for what came of it; 0: do not.", min=0)] = 120.0,
    json: Json = False,
) -> None:
    """Have the fabric looked at now. Exits 1 when it is not clean."""
    client = _client()
    job = client.post(f"{_path(fabric)}/look")["job_id"]
    if not wait:
        output.say(f"A look was asked for ({job}).")
        return
    until = time.monotonic() + wait
    while (state := client.get(f"{_path(fabric)}/look"))["now"] is not None:
        if time.monotonic() > until:
            raise Temporary(f"The look has not ended within {wait:.0f} s: {state['now']['waits'] or 'it runs'}.")
        time.sleep(min(1.0, wait / 10))
    last = state["last"]
    if last is None or not last["snapshot_id"]:
        raise OstlerError(f"The look failed: {(last or {}).get('waits') or 'see the server log'}", where=fabric)
    _report(client.get(f"{_path(fabric)}/snapshots/{last['snapshot_id']}")["report"], json)


def collect(
    fabric: Fabric,
    once: Annotated[bool, typer.Option("--once", help="Look and send now, then end.")] = False,
    ca: Annotated[str, typer.Option(help="The HCA to use: mlx5_0; else the first active one.")] = "",
    port: Annotated[int, typer.Option(help="Its port; 0: the first active one.", min=0, max=255)] = 0,
    through: Annotated[list[str] | None, typer.Option(help="What the tools are run through, a word each time.")] = None,
    subnet_list: Annotated[str, typer.Option(help="Path of opensm-subnet.lst, a second witness.")] = "",
    deadline: Annotated[float, typer.Option(help="Seconds that one tool may take.", min=1)] = 300.0,
    file: Annotated[
        list[Path] | None, typer.Option(help="Send these dumps instead of looking. Implies --once.")
    ] = None,
    json: Json = False,
) -> None:
    """Look at the fabric from this host whenever the server wants it, and send what was seen. Runs until stopped.

    For the subnet manager's host, or any with a umad device. OSTLER_TOKEN needs the role operator.
    """
    from ostler.cli.fabric import collect_here
    from ostler.fabric.push import packed

    client = _client()
    if file:
        _report(client.post(f"{_path(fabric)}/snapshots", packed(_dumps(file), time.time()))["report"], json)
        return
    while True:
        try:
            state = client.get(f"{_path(fabric)}/look")
            if once or state["wanted"]:
                found = collect_here(ca, port, through or [], subnet_list, deadline)
                sent = client.post(f"{_path(fabric)}/snapshots", packed(found, time.time()))
                if once:
                    _report(sent["report"], json)
                    return
                output.say(f"{state['why']}: {sent['id']}, {len(sent['report']['causes'])} causes")
        except Temporary as error:
            if once:
                raise
            output.say(f"not sent, tried again in {_ASK_S:.0f} s: {error}")
        time.sleep(_ASK_S)


def bootstrap(
    fabric: Fabric,
    reason: Reason,
    snapshot: Annotated[str, typer.Option(help="Which look; the newest unless said.")] = "latest",
) -> None:
    """Take what a look showed for the design, flagged as unproven until somebody vouches for it ('prove')."""
    body = {"snapshot_id": snapshot, "reason": output.need_reason(reason)}
    found = _client().post(f"{_path(fabric)}/blueprint/bootstrap", body)
    for one in found["lints"]:
        output.say(f"doubt: {one['kind']}: {one['message']}")
    output.say(f"{found['cables']} cables: blueprint {found['id']}, unproven.")


def prove(fabric: Fabric, reason: Reason) -> None:
    """Vouch for a design that was taken from a look."""
    _client().post(f"{_path(fabric)}/blueprint/prove", {"reason": output.need_reason(reason)})


def parts(
    fabric: Fabric,
    state: Annotated[str | None, typer.Option(help="known, replaced (waits for approval) or gone.")] = None,
    chassis: Annotated[str | None, typer.Option(help="Only of this host or switch.")] = None,
    json: Json = False,
) -> None:
    """Which GUID is where (with --json: JSON Lines)."""
    found = _client().get(f"{_path(fabric)}/parts", state=state, chassis=chassis)["items"]
    if json:
        output.print_lines(found)
        return
    rows = ((one["guid"], one["chassis"], one["port"], one["state"], output.when(one["first_seen"])) for one in found)
    output.table(("GUID", "CHASSIS", "PORT", "STATE", "SINCE"), rows, empty="No part.")


def approve(
    fabric: Fabric, guid: Annotated[str, typer.Argument(help="0x and 16 digits.", show_default=False)], reason: Reason
) -> None:
    """A replaced part belongs where it was found."""
    path = f"{_path(fabric)}/parts/{quote(guid, safe='')}/approve"
    found = _client().post(path, {"reason": output.need_reason(reason)})
    output.say(f"{found['guid']} is known at {found['chassis']} {found['port']}.")


def forget(
    fabric: Fabric, guid: Annotated[str, typer.Argument(help="0x and 16 digits.", show_default=False)], reason: Reason
) -> None:
    """A part is not where the books say: forget its place, the next look learns it anew."""
    path = f"{_path(fabric)}/parts/{quote(guid, safe='')}/forget"
    _client().post(path, {"reason": output.need_reason(reason)})
    output.say(f"{guid} is forgotten; the next look learns its place.")


def rounds(fabric: Fabric, json: Json = False) -> None:
    """The weekly validations by hand, newest first (with --json: JSON Lines)."""
    found = _client().pages(f"{_path(fabric)}/rounds")
    if json:
        output.print_lines(found)
        return
    rows = (
        (one["id"], one["state"], output.when(one["opened_at"]), len(one["items"]), one["left"], one["signed_by"])
        for one in found
    )
    output.table(("ROUND", "STATE", "OPENED", "ITEMS", "LEFT", "SIGNED BY"), rows, empty="No round yet.")


def round_command(
    fabric: Fabric,
    round_id: Annotated[str | None, typer.Argument(help="Which; else the newest, opened if none is.")] = None,
    item: Annotated[int | None, typer.Option(help="Enter a result for this item.", min=1)] = None,
    found: Annotated[str | None, typer.Option(help="ok, bad or fixed.", show_default=False)] = None,
    note: Annotated[str, typer.Option(help="What was seen.")] = "",
    json: Json = False,
) -> None:
    """One round's checklist; with --item and --found: what was found there."""
    client = _client()
    one = client.post(f"{_path(fabric)}/rounds") if round_id is None else None
    path = f"{_path(fabric)}/rounds/{one['id'] if one else quote(str(round_id), safe='')}"
    if item is not None:
        one = client.put(f"{path}/items/{item}", {"result": found or "", "note": note})
    elif one is None:
        one = client.get(path)
    if json:
        output.print_json(one)
        return
    rows = (
        (row["n"], row["port"], row["place"], row["why"], row["measured"], row.get("result"), row.get("note"))
        for row in one["items"]
    )
    output.say(f"{one['id']}: {one['state']}, {one['left']} left")
    output.table(("N", "PORT", "PLACE", "WHY", "MEASURED", "FOUND", "NOTE"), rows, empty="Nothing to look at.")


def sign(
    fabric: Fabric,
    round_id: Annotated[str, typer.Argument(help="The round.", show_default=False)],
    summary: Annotated[str, typer.Option(help="In words; needed where an item has no result.")] = "",
) -> None:
    """Sign a round off: your token's name stands under it."""
    found = _client().post(f"{_path(fabric)}/rounds/{quote(round_id, safe='')}/sign", {"summary": summary})
    output.say(f"{found['id']} is signed by {found['signed_by']}.")


def _dumps(files: list[Path]) -> Any:
    import socket

    from ostler.adapters.fabric.port import Collection, Output
    from ostler.cli.fabric import read_file

    outputs = tuple(
        Output("file", (str(path),), read_file(path), taken_at=None if str(path) == "-" else path.stat().st_mtime)
        for path in files
    )
    return Collection(socket.gethostname(), time.time(), 0.0, outputs)


def _report(report: dict[str, Any], json: bool) -> None:
    if json:
        output.print_json(report)
    else:
        for cause in report["causes"]:
            _say_cause(cause)
        for trouble in report["health"]:
            output.say(
                f"{'!' if trouble['severe'] else '-'} {trouble['kind']} at {trouble['port']}: {trouble['message']}"
            )
        output.say(f"cables: {_cables({'cables': report['cables']})}; {report['coverage']['share']:.1%} known")
    if not report["clean"]:
        raise typer.Exit(1)


def _say_cause(cause: dict[str, Any]) -> None:
    doubt = "" if cause["confirmed"] else " (not confirmed)"
    ticket = f" [{cause['ticket_id']}]" if cause.get("ticket_id") else ""
    output.say(f"{cause['kind']}{doubt}: {cause['message']}{ticket}")
    for move in cause["moves"][:12]:
        output.say(f"   the cable from {move['plug']}: out of {move['from']}, into {move['to']}")
    if cause["do"]:
        output.say(f"   do: {cause['do']}")


def _design(design: dict[str, Any] | None) -> str:
    if design is None:
        return "none"
    return f"{design['cables']} cables" + ("" if design["proven"] else ", unproven")


def _cables(look: dict[str, Any] | None) -> str:
    if look is None:
        return ""
    return ", ".join(f"{count} {verdict}" for verdict, count in look["cables"].items() if count)


def _client() -> Any:
    from ostler.cli.client import Client

    return Client.from_environment()


def _path(fabric: str) -> str:
    return f"/v1/fabrics/{quote(fabric, safe='')}"
