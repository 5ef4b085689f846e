"""What is doubtful about a blueprint, before anybody is sent to a rack because of it.

`read` runs it on every file, `ostler fabric import` shows it. An error means that the blueprint cannot be used: a port
in two cables would make two tickets that undo each other. Everything else is for a person to look at.

| kind | says |
|---|---|
| `port-twice`, `self-cable` | error: a port in two cables, a cable from a port to itself |
| `port-beyond-model` | error: a port number that the model does not have; a doubt if it has it when split |
| `unknown-chassis`, `lonely-chassis`, `no-place` | not listed, without a cable, of unknown rack |
| `rail-crossing`, `missing-rail` | an HCA on another leaf than that of most hosts around; fewer rails than they |
| `uneven-trunk` | two switches with another number of cables between them than their peers |
| `mixed-speed` | cables that do the same and are to run at different speeds |

Readers add what only they can see: `columns`, `port-label`, `half-cable`, `cable-twice`, `bad-value`, `kind-guessed`, …
"""

from __future__ import annotations

from collections import Counter

from ostler.fabric.designs.lint_book import LintBook
from ostler.fabric.designs.lint_rails import rails
from ostler.fabric.designs.lint_trunks import trunks
from ostler.fabric.model import Blueprint, ChassisKind, Lint, Port
from ostler.fabric.places import front_panel


def lint(blueprint: Blueprint) -> list[Lint]:
    """Everything doubtful, in no particular order; a few passes over the cables."""
    book = LintBook()
    _ports(blueprint, book)
    _chassis(blueprint, book)
    rails(blueprint, book)
    trunks(blueprint, book)
    _speeds(blueprint, book)
    return book.all()


def _ports(blueprint: Blueprint, book: LintBook) -> None:
    limits = {
        name: panel
        for name, chassis in blueprint.chassis.items()
        if chassis.kind is ChassisKind.SWITCH and (panel := front_panel.panel(chassis.model))
    }
    used: dict[Port, int] = {}
    for cable in blueprint.cables:
        if cable.a == cable.b:
            book.add("self-cable", f"{cable.a} is cabled to itself", cable.line, error=True)
        for port in (cable.a, cable.b):
            if port in used:
                book.add(
                    "port-twice",
                    f"{port} is in two cables: lines {used[port]} and {cable.line}",
                    cable.line,
                    error=True,
                )
            used[port] = cable.line
            panel = limits.get(port.chassis)
            if panel is not None and port.name.isdecimal() and int(port.name) > panel.ports:
                model = blueprint.chassis[port.chassis].model
                split = int(port.name) <= panel.ports_split
                hint = f"; if it is split, its model is {model}-split" if split else ""
                message = f"{port}: a {model} has ports 1 to {panel.ports}{hint}"
                book.add("port-beyond-model", message, cable.line, error=not split)


def _chassis(blueprint: Blueprint, book: LintBook) -> None:
    met: set[str] = set()
    for cable in blueprint.cables:
        for name in (cable.a.chassis, cable.b.chassis):
            if name not in met:
                met.add(name)
                if name not in blueprint.chassis:
                    book.add("unknown-chassis", f"{name} is in a cable and not among the chassis", cable.line)
    for name in blueprint.chassis:
        if name not in met:
            book.add("lonely-chassis", f"{name} has no cable")
    homeless = [name for name, chassis in blueprint.chassis.items() if not chassis.place.rack]
    if homeless:
        few = ", ".join(sorted(homeless)[:5]) + (", …" if len(homeless) > 5 else "")
        count = f"{len(homeless)} of {len(blueprint.chassis)} chassis"
        book.add("no-place", f"{count} have no rack: tickets cannot say where they stand ({few})")


def _speeds(blueprint: Blueprint, book: LintBook) -> None:
    counts: dict[str, Counter[tuple[str, int]]] = {}
    first: dict[tuple[str, str, int], int] = {}
    for cable in blueprint.cables:
        if cable.speed or cable.width:
            key = (cable.speed, cable.width)
            counts.setdefault(cable.role, Counter())[key] += 1
            first.setdefault((cable.role, *key), cable.line)
    for role, found in counts.items():
        (most, how_many), *others = found.most_common()
        for other, count in others:
            book.add(
                "mixed-speed",
                f"{count} {role} cables are to run at {_speed(other)}, {how_many} at {_speed(most)}",
                first[(role, *other)],
            )


def _speed(key: tuple[str, int]) -> str:
    speed, width = key
    return f"{width}x {speed or 'any speed'}" if width else speed
