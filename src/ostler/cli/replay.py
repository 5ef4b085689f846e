"""`ostler replay`: a recorded incident through the current policy, offline; what is decided, and why.

With `--policy` a second policy plays the same recording, and what it does otherwise is shown. Format: docs/replay.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ostler.cli import output
from ostler.cli.output import Json
from ostler.core.errors import BadInput

if TYPE_CHECKING:
    from ostler.proof.recording import Recording
    from ostler.proof.replay import Replayed

SHOWN = 6
"""Nodes that one line names before it counts."""


def replay_command(
    incidents: Annotated[
        list[str] | None, typer.Argument(help="A recording (JSON Lines), or the name of one that ships.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The policy: [health] and [remediation] of this file.", show_default=False)
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="Another policy: show what it would do otherwise.", show_default=False)
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit 1 when the recording's expectations fail.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Every incident that ships.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Name the incidents that ship.")] = False,
    json: Json = False,
) -> None:
    """Run recorded incidents through the current policy and print what it decides, and why."""
    from ostler.proof import recording

    if list_:
        _list([recording.find(name) for name in recording.shipped()], json)
        return
    names = recording.shipped() if every else incidents or []
    if not names:
        raise BadInput("Name a recording, or see 'ostler replay --list'.", where="ostler replay")
    failed = False
    for name in names:
        found = recording.find(name)
        ours = _play(found, config)
        theirs = None if policy is None else _play(found, policy)
        failed = failed or bool(ours.failed)
        if json:
            output.print_lines([_document(ours, theirs)])
        else:
            _show(ours, theirs, brief=every)
    if failed and check:
        raise typer.Exit(1)


def _play(found: Recording, path: Path | None) -> Replayed:
    from ostler.config import load
    from ostler.proof.replay import replay

    return replay(found, lambda environment: load(path, environment))


def _list(found: Sequence[Recording], json: bool) -> None:
    if json:
        output.print_lines({"name": one.name, "incident": one.title, "about": one.about} for one in found)
        return
    rows = ((one.name, len(one.names), one.title) for one in found)
    output.table(("NAME", "NODES", "INCIDENT"), rows, empty="No incident ships.")


def _document(ours: Replayed, theirs: Replayed | None) -> dict[str, Any]:
    document = asdict(ours)
    if theirs is not None:
        less, more = _difference(ours, theirs)
        document["policy"] = {"decisions": list(theirs.decisions), "no_more": less, "instead": more}
    return document


def _show(ours: Replayed, theirs: Replayed | None, *, brief: bool) -> None:
    if brief:
        output.say(f"{'FAILED' if ours.failed else 'ok':<7}{ours.name}: {ours.title}")
    else:
        output.say(f"{ours.title} ({ours.nodes} node{'s' * (ours.nodes != 1)})")
        for line in sorted([*_causes(ours), *_decided(ours.decisions)], key=lambda one: one[0]):
            output.say(f"{_clock(line[0])}  {output.clean(line[1])}")
        if not ours.decisions:
            output.say("Nothing is decided.")
        states = _counted(ours.states.values())
        output.say(f"At {_clock(ours.ended_at).strip()}: {states}.")
    for why in ours.failed:
        output.say(f"not as expected: {output.clean(why)}")
    if theirs is None:
        return
    less, more = _difference(ours, theirs)
    for sign, lines in (("-", less), ("+", more)):
        for at, text in _decided(lines):
            output.say(f"{sign} {_clock(at)}  {output.clean(text)}")
    if not less and not more:
        output.say("The other policy decides the same.")


def _causes(ours: Replayed) -> Iterator[tuple[float, str]]:
    for one in ours.incidents:
        yield one["at"], f"one cause ({one['cause']}): {one['summary']}"


def _decided(decisions: Sequence[Mapping[str, Any]]) -> list[tuple[float, str]]:
    """One line for what was decided about several nodes at one moment for one reason."""
    together: dict[tuple[float, str, str], list[str]] = {}
    for one in decisions:
        timing = "" if one["timing"] == "none" else f" ({one['timing']})"
        reason = "; ".join(reason.replace(one["node"], "the node") for reason in one["reasons"])
        together.setdefault((one["at"], f"{one['verdict']} {one['action']}{timing}", reason), []).append(one["node"])
    return [(at, f"{_named(nodes)}: {what}: {reason}") for (at, what, reason), nodes in together.items()]


def _difference(ours: Replayed, theirs: Replayed) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Decisions that the other policy does not make, and those that only it makes."""
    mine, others = map(_keyed, (ours.decisions, theirs.decisions))
    return [mine[key] for key in mine if key not in others], [others[key] for key in others if key not in mine]


def _keyed(decisions: Sequence[Mapping[str, Any]]) -> dict[tuple[object, ...], Mapping[str, Any]]:
    """By node, what is done and how often already; a second is no difference."""
    keyed: dict[tuple[object, ...], Mapping[str, Any]] = {}
    for one in decisions:
        what = (one["node"], one["fault"], one["verdict"], one["action"], one["timing"])
        count = sum(1 for key in keyed if key[:-1] == what)
        keyed[(*what, count)] = one
    return keyed


def _named(nodes: Sequence[str]) -> str:
    return ", ".join(nodes) if len(nodes) <= SHOWN else f"{len(nodes)} nodes ({nodes[0]} … {nodes[-1]})"


def _counted(states: Iterator[str] | Any) -> str:
    counts: dict[str, int] = {}
    for state in states:
        counts[state] = counts.get(state, 0) + 1
    return ", ".join(f"{count} in {state}" for state, count in sorted(counts.items()))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:>4}:{minutes:02d}:{rest:02d}"
