"""`ostler fabric …`: the fabric from files, without a server: check, diff, map, lint, snapshot. Light to load.

What talks to a server is in `fabric_server.py`, registered here as commands of the same app.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from ostler.cli import output
from ostler.cli.output import Json
from ostler.core.errors import BadInput

if TYPE_CHECKING:
    from ostler.adapters.fabric.port import Collection
    from ostler.fabric.collect import Evidence
    from ostler.fabric.model import Blueprint, Lint, Snapshot
    from ostler.fabric.sweep import Problem, Sweep

fabric_app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="The InfiniBand fabric: design, looks, what differs, plug moves."
)

LARGEST = 1 << 30
"""Bytes of a file that is read: ibnetdiscover's text of 98,304 ports has 10 MB."""
BlueprintFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--blueprint", "-b", help="The design: Ostler's CSV or YAML, UFM NDT, .topo, P2P sheet, NetBox."),
]
Observed: TypeAlias = Annotated[
    list[Path],
    typer.Option(
        "--observed",
        "-o",
        help="What was seen: ibnetdiscover (text, cache), opensm-subnet.lst, iblinkinfo, ibdiagnet2, UFM, mlxlink, "
        "perfquery, ibqueryerrors, or 'ostler fabric snapshot'. Again for counters or a further vantage point.",
    ),
]
SwitchModel: TypeAlias = Annotated[
    str, typer.Option("--switch-model", help="Of switches whose model the design does not name: MQM9700.")
]
Format: TypeAlias = Annotated[str, typer.Option("--format", "-f", help="Of the files; auto looks at each.")]


@fabric_app.command()
def check(
    observed: Observed,
    blueprint: BlueprintFile = None,
    before: Annotated[
        list[Path] | None, typer.Option(help="An earlier look: errors and downs are counted between both.")
    ] = None,
    hours: Annotated[
        float | None, typer.Option(help="Between both, where the files do not say: rates need it.", min=0.001)
    ] = None,
    format: Format = "auto",
    switch_model: SwitchModel = "",
    json: Json = False,
) -> None:
    """Compare what was seen with the design, offline. Exits 0 when clean, 1 with discrepancies, 2 on bad input.

    Without a design the fabric is only checked against itself. Nothing is claimed about what was not covered.
    """
    from dataclasses import replace

    from ostler.fabric.diagnosis import diagnose
    from ostler.fabric.link_causes import with_health
    from ostler.fabric.links.deltas import elapsed
    from ostler.fabric.links.judge import judge
    from ostler.fabric.model import CauseKind
    from ostler.fabric.report import document, lines

    _once(*([blueprint] if blueprint else []), *observed, *(before or []))
    design, lints = _design(blueprint, switch_model)
    seen, others = _seen(observed, design, format)
    earlier = _seen(before, design, format)[0] if before else None
    diagnosis = diagnose(design, seen, others)
    if foreign := next((one for one in diagnosis.causes if one.kind is CauseKind.OTHER_FABRIC), None):
        raise BadInput(f"{foreign.message} {foreign.do}", where=str(observed[0]))
    now, then = seen, earlier
    if hours is not None and earlier is None:
        raise BadInput("It is the time since an earlier look: give that with --before.", where="--hours")
    if earlier is not None and (earlier.taken_at or 0.0) > (seen.taken_at or earlier.taken_at or 0.0):
        raise BadInput("It was taken after the look given with --observed; exchange them.", where="--before")
    if earlier is not None and hours is not None and elapsed(seen, earlier) is None:
        now, then = replace(seen, taken_at=hours * 3600.0), replace(earlier, taken_at=0.0)
    if gap := _not_judged(now, then):
        diagnosis = replace(
            diagnosis, coverage=replace(diagnosis.coverage, problems=(*diagnosis.coverage.problems, gap))
        )
    troubles, _ = judge(now, then, blueprint=design)
    diagnosis = with_health(diagnosis, troubles, design)
    if json:
        output.print_json(document(diagnosis, design, seen, lints))
    else:
        for lint in lints:
            output.say(_lint_line(lint))
        for line in lines(diagnosis, design, seen):
            output.say(line)
    if not diagnosis.clean:
        raise typer.Exit(1)


@fabric_app.command()
def diff(
    before: Annotated[Path, typer.Argument(help="What was seen first.", show_default=False)],
    after: Annotated[Path, typer.Argument(help="What was seen later.", show_default=False)],
    blueprint: BlueprintFile = None,
    format: Format = "auto",
    json: Json = False,
) -> None:
    """What changed between two looks: one line for each physical change. Exits 1 when anything did, and when one of
    them did not see everything."""
    from ostler.fabric.places.difference import difference

    _once(before, after)
    design, _ = _design(blueprint)
    looks = _seen([before], design, format)[0], _seen([after], design, format)[0]
    changes = difference(*looks)
    doubts = [(path, one) for path, look in zip((before, after), looks, strict=True) for one in look.problems]
    if json:
        output.print_lines(
            {"kind": str(one.kind), "ports": [str(port) for port in one.ports], "message": one.message}
            for one in changes
        )
        output.print_lines(
            {"kind": "not-covered", "ports": [], "message": f"{path}: {one.message}"}
            for path, one in doubts
            if one.hides
        )
    else:
        for one in changes:
            output.say(f"{one.kind}: {one.message}")
        for path, doubt in doubts[:10]:
            output.say(f"? {path}: {doubt.kind}: {doubt.message}")
        if not changes:
            output.say("Nothing that both saw changed." if doubts else "Nothing changed.")
    if changes or any(one.hides for _, one in doubts):
        raise typer.Exit(1)


@fabric_app.command("map")
def map_command(
    observed: Observed,
    blueprint: BlueprintFile = None,
    chassis: Annotated[str | None, typer.Option(help="Only this host or switch.", show_default=False)] = None,
    format: Format = "auto",
    json: Json = False,
) -> None:
    """Who is plugged into whom, port by port (with --json: JSON Lines)."""
    from ostler.fabric.report import Names

    design, _ = _design(blueprint)
    seen, _others = _seen(observed, design, format)
    if chassis is not None and chassis not in seen.chassis:
        raise BadInput(f"Nothing in it is called '{chassis}'.", where="--chassis")
    names = Names(design, seen)
    ports = sorted(
        (port for port in {*seen.facts, *seen.links} if chassis is None or port.chassis == chassis),
        key=lambda port: (port.chassis, len(port.name), port.name),
    )
    rows = []
    for port in ports:
        peer, facts = seen.links.get(port), seen.facts.get(port)
        rows.append(
            {
                "port": str(port),
                "label": names.label(port),
                "peer": None if peer is None else str(peer),
                "peer_label": "" if peer is None else names.label(peer),
                "state": str(facts.state) if facts else "",
                "physical": str(facts.physical) if facts else "",
                "rate": f"{facts.width}x{facts.speed}" if facts and facts.width else "",
            }
        )
    if json:
        output.print_lines(rows)
        return
    shown = ((row["port"], row["label"], row["peer"], row["peer_label"], row["rate"], row["physical"]) for row in rows)
    output.table(("PORT", "PANEL", "PLUGGED INTO", "PANEL", "RATE", "LINK"), shown, empty="No port.")


@fabric_app.command()
def lint(
    blueprint: Annotated[Path, typer.Argument(help="The design.", show_default=False)],
    format: Format = "auto",
    switch_model: SwitchModel = "",
    out: Annotated[Path | None, typer.Option("--out", help="Write it as Ostler's own CSV.", show_default=False)] = None,
    json: Json = False,
) -> None:
    """Read a design and say what is doubtful about it. Exits 1 with doubts, 2 when it cannot be used."""
    from ostler.fabric import designs
    from ostler.fabric.designs import own_csv
    from ostler.fabric.report import lint_document

    design, lints = designs.read(read_file(blueprint), str(blueprint), format=format, switch_model=switch_model)
    if json:
        output.print_json(
            {
                "name": design.name,
                "source": design.source,
                "chassis": len(design.chassis),
                "cables": len(design.cables),
                "lints": [lint_document(one) for one in lints],
            }
        )
    else:
        for one in lints:
            output.say(_lint_line(one))
        output.say(f"{len(design.cables)} cables between {len(design.chassis)} chassis, read as {design.source}.")
    if any(one.error for one in lints):
        raise typer.Exit(2)
    if out is not None:
        out.write_text(own_csv.write(design), encoding="utf-8")
    if lints:
        raise typer.Exit(1)


@fabric_app.command()
def design(
    hosts: Annotated[int, typer.Option(help="Hosts.", min=1, max=100_000, show_default=False)],
    rails: Annotated[int, typer.Option(help="HCAs of each host, a rail each.", min=1, max=64)] = 8,
    name: Annotated[str, typer.Option(help="What the fabric is called.")] = "fabric",
    speed: Annotated[str, typer.Option(help="What every cable must run at: NDR.")] = "",
    width: Annotated[int, typer.Option(help="Lanes that every cable must have; 0: not said.", min=0, max=12)] = 0,
) -> None:
    """Print a rail-optimised fat tree as a blueprint: a start for a design, and material for trials."""
    from ostler.fabric.designs import own_csv
    from ostler.fabric.designs.fat_tree import fat_tree

    sys.stdout.write(own_csv.write(fat_tree(hosts, rails, name=name, speed=speed.upper(), width=width)))


@fabric_app.command()
def snapshot(
    out: Annotated[Path | None, typer.Option("--out", help="Where to write it; else standard output.")] = None,
    ca: Annotated[str, typer.Option(help="The HCA to use: mlx5_0; else the first active one.")] = "",
    port: Annotated[int, typer.Option(help="Its port; 0: the first active one.", min=0, max=255)] = 0,
    through: Annotated[
        list[str] | None, typer.Option(help="What the tools are run through, a word each time: ssh, sm01.")
    ] = None,
    subnet_list: Annotated[str, typer.Option(help="Path of opensm-subnet.lst, a second witness.")] = "",
    deadline: Annotated[float, typer.Option(help="Seconds that one tool may take.", min=1)] = 300.0,
) -> None:
    """Look at the fabric from this host with the field's tools, and keep what they said in one file."""
    import json as codec

    from ostler.fabric.push import packed

    found = collect_here(ca, port, through or [], subnet_list, deadline)
    text = codec.dumps({**packed(found, time.time()), "taken_at": round(found.started_at, 3)})
    if out is None:
        sys.stdout.write(text + "\n")
    else:
        out.write_text(text + "\n", encoding="utf-8")
        output.say(f"{len(found.outputs)} outputs from {found.vantage} in {found.seconds:.1f} s: {out}")


def collect_here(ca: str, port: int, through: Sequence[str], subnet_list: str, deadline: float) -> Collection:
    """One look with the tools of this host, or of the host that `through` leads to."""
    import socket

    from ostler.adapters.fabric.port import Want
    from ostler.adapters.fabric.tools import Settings, ToolsCollector

    remote = bool(through) and Path(through[0]).name == "ssh"
    settings = Settings(
        vantage=through[-1] if remote else socket.gethostname(),
        ca=ca,
        port=port,
        prefix=tuple(through),
        remote=remote,
        subnet_list=subnet_list,
        discovery_s=deadline,
        counters_s=deadline,
    )
    collector = ToolsCollector(settings, time.time)
    try:
        return collector.collect(Want(counters=True))
    finally:
        collector.close()


def read_file(path: Path) -> bytes:
    """A file whole; `-` is standard input. Raises `BadInput`."""
    if str(path) == "-":
        data = sys.stdin.buffer.read(LARGEST + 1)
    else:
        try:
            with path.open("rb") as file:
                data = file.read(LARGEST + 1)
        except OSError as error:
            raise BadInput(f"It cannot be read: {error.strerror}.", where=str(path)) from None
        except ValueError:
            raise BadInput("The name holds a NUL.", where=str(path)) from None
    if len(data) > LARGEST:
        raise BadInput(f"It is larger than {LARGEST >> 20} MiB; that is no dump of a fabric.", where=str(path))
    return data


def _once(*paths: Path) -> None:
    if sum(str(path) == "-" for path in paths) > 1:
        raise BadInput("Standard input can be read only once; give the other as a file.", where="-")


def _not_judged(now: Snapshot, then: Snapshot | None) -> Problem | None:
    """Counters that were given and from which nothing, or no rate, can be told; nothing of the cables is hidden."""
    from ostler.fabric.links.deltas import elapsed
    from ostler.fabric.sweep import Problem, ProblemKind

    why = ""
    if now.counters and then is None:
        why = "counters are judged between two looks: give an earlier one with --before"
    elif then is not None and bool(now.counters) != bool(then.counters):
        why = f"the {'earlier' if now.counters else 'later'} look has no counters: none is judged"
    elif then is not None and now.counters and elapsed(now, then) is None:
        why = "how much time is between the looks is not known, so no rate of errors is judged: say it with --hours"
    return Problem(ProblemKind.FAILED, why, hides=False) if why else None


def _design(path: Path | None, switch_model: str = "") -> tuple[Blueprint | None, list[Lint]]:
    if path is None:
        return None, []
    from ostler.fabric import designs

    blueprint, lints = designs.read(read_file(path), str(path), switch_model=switch_model)
    if error := next((one for one in lints if one.error), None):
        raise BadInput(error.message, where=f"{path}:{error.line}" if error.line else str(path))
    return blueprint, lints


def _seen(paths: Sequence[Path], design: Blueprint | None, format: str) -> tuple[Snapshot, tuple[Snapshot, ...]]:
    from ostler.fabric.observed import arrange, snapshots

    if not paths:
        raise BadInput("Name a file with what was seen.", where="--observed")
    from ostler.fabric import formats

    sweeps: list[Sweep] = []
    for path in paths:
        data = read_file(path)
        if format == "auto" and data[:64].lstrip().startswith(b'{"vantage"'):
            if len(paths) > 1:
                raise BadInput("holds a whole look already; name it alone", where=str(path))
            look, vantage = _collected(data, str(path))
            return snapshots(look, design, vantage=vantage)
        sweeps += formats.read(data, str(path), format=format)
    return snapshots(arrange(sweeps, str(paths[0])), design)


def _collected(data: bytes, name: str) -> tuple[Evidence, str]:
    """What `ostler fabric snapshot` wrote, and who looked."""
    from pydantic import Field, ValidationError

    from ostler.fabric.collect import evidence
    from ostler.fabric.push import CollectionIn, unpacked

    class Kept(CollectionIn):
        """A file is read long after: when it was taken is told in UTC seconds, by the clock of the host that looked."""

        taken_at: float = Field(ge=0, le=1e11)

    try:
        body = Kept.model_validate_json(data)
    except ValidationError as error:
        first: Any = error.errors()[0]
        at = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{at}: {first['msg']}; take it again with 'ostler fabric snapshot'.", where=name) from None
    try:
        look = evidence(unpacked(body, body.taken_at + body.age_s))
    except BadInput as error:
        raise BadInput(str(error), where=name) from None
    if not look.topology.nodes and not look.topology.problems:
        raise BadInput("No output in it shows a fabric; take it again with 'ostler fabric snapshot'.", where=name)
    return look, body.vantage


def _lint_line(one: Lint) -> str:
    at = f"line {one.line}: " if one.line else ""
    return f"{'error' if one.error else 'doubt'}: {one.kind}: {at}{one.message}"


from ostler.cli import fabric_server  # noqa: E402

fabric_server.register(fabric_app)
