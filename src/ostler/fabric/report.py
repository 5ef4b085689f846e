"""A diagnosis as the document that every face shows: `ostler fabric check --json`, the API, the console. Pure.

{coverage, cables: {ok, wrong, absent, degraded, unknown}, causes: [{kind, where, moves: [{plug, from, to}], …}],
health: […]}. A port is written as `CHASSIS PORT`, with what stands on its front panel beside it where that differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ostler.core.clock import iso
from ostler.fabric.model import (
    Blueprint,
    Cause,
    CauseKind,
    Coverage,
    Diagnosis,
    Lint,
    Move,
    Port,
    Snapshot,
    Trouble,
    Verdict,
)
from ostler.fabric.places.front_panel import label
from ostler.fabric.sweep import Problem

LISTED = 500
"""Cables of a verdict that the document lists; it always counts all."""
_OF_LINKS = frozenset({CauseKind.LINK, CauseKind.DEGRADED})
SCHEMA = 1
"""Of the document; grows only when something is taken away or changes its meaning."""


class Names:
    """How ports are called for people: what is designed knows the models and places, what was seen knows models."""

    def __init__(self, blueprint: Blueprint | None = None, snapshot: Snapshot | None = None) -> None:
        self._designed = {} if blueprint is None else blueprint.chassis
        self._seen = {} if snapshot is None else snapshot.chassis

    def model(self, chassis: str) -> str:
        for known in (self._designed.get(chassis), self._seen.get(chassis)):
            if known is not None and known.model:
                return known.model
        return ""

    def place(self, chassis: str) -> str:
        """`site/row/rack/U`; empty where the design does not say."""
        known = self._designed.get(chassis)
        return "" if known is None else str(known.place)

    def spot(self, chassis: str) -> str:
        """Rack and unit, as they stand on the rack: `r03 u17`."""
        known = self._designed.get(chassis)
        return "" if known is None else f"{known.place.rack} {known.place.unit}".strip()

    def label(self, port: Port) -> str:
        """What stands on the front panel, where it is another name than the port's own."""
        told = label(self.model(port.chassis), port)
        return "" if told == port.name else told

    def port(self, port: Port) -> str:
        """`leaf-0 35 (18/1)`."""
        told = self.label(port)
        return f"{port} ({told})" if told else str(port)

    def where(self, chassis: str) -> str:
        """`gpu-0001 (hall1/a/r03/u17)`."""
        place = self.place(chassis)
        return f"{chassis} ({place})" if place else chassis


def document(
    diagnosis: Diagnosis, blueprint: Blueprint | None, snapshot: Snapshot | None, lints: Sequence[Lint] = ()
) -> dict[str, Any]:
    """Everything that was found."""
    names = Names(blueprint, snapshot)
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "design": None
        if blueprint is None
        else {"name": blueprint.name, "source": blueprint.source, "proven": blueprint.proven},
        "coverage": coverage_document(diagnosis.coverage),
        "cables": {verdict.value: diagnosis.counts.get(verdict, 0) for verdict in Verdict},
        "listed": listed(diagnosis, names),
        "causes": [cause_document(cause, names) for cause in diagnosis.causes],
        "health": [trouble_document(trouble, names) for trouble in diagnosis.health],
        "clean": diagnosis.clean,
    }
    if lints:
        found["blueprint"] = [lint_document(one) for one in lints]
    if snapshot is not None:
        found["observed"] = {
            "source": snapshot.source,
            "vantage": snapshot.vantage,
            "taken_at": None if snapshot.taken_at is None else iso(snapshot.taken_at),
            "chassis": len(snapshot.chassis),
            "links": len(snapshot.links) // 2,
            "unplaced": snapshot.unplaced[:LISTED],
        }
    return found


def listed(diagnosis: Diagnosis, names: Names) -> dict[str, list[dict[str, str]]]:
    """The designed cables that are not ok, by verdict, `LISTED` of each at most."""
    found: dict[str, list[dict[str, str]]] = {}
    for cable, verdict in diagnosis.verdicts.items():
        rows = found.setdefault(verdict.value, [])
        if verdict is not Verdict.OK and len(rows) < LISTED:
            rows.append({"a": str(cable.a), "b": str(cable.b), "rail": cable.rail, "serial": cable.serial})
    return found


def coverage_document(coverage: Coverage) -> dict[str, Any]:
    return {
        "source": coverage.source,
        "vantages": list(coverage.vantages),
        "complete": coverage.complete,
        "share": round(coverage.share, 6),
        "chassis": coverage.chassis,
        "answered": coverage.answered,
        "cables": coverage.cables,
        "known": coverage.known,
        "silent": list(coverage.silent),
        "problems": [problem_document(problem) for problem in coverage.problems],
    }


def problem_document(problem: Problem) -> dict[str, Any]:
    return {"kind": problem.kind.value, "message": problem.message, "line": problem.line, "hides": problem.hides}


def cause_document(cause: Cause, names: Names) -> dict[str, Any]:
    return {
        "kind": cause.kind.value,
        "key": cause.key,
        "message": cause.message,
        "do": cause.do,
        "where": [{"chassis": name, "place": names.place(name)} for name in cause.where],
        "moves": [move_document(move, names) for move in cause.moves],
        "removes": [[str(a), str(b)] for a, b in cause.removes],
        "ports": [str(port) for port in cause.ports],
        "cables": [{"a": str(cable.a), "b": str(cable.b), "serial": cable.serial} for cable in cause.cables[:LISTED]],
        "confirmed": cause.confirmed,
        "ticket": cause.ticket and cause.confirmed,
    }


def move_document(move: Move, names: Names) -> dict[str, Any]:
    """`plug`: the port where the cable's other end stays; `from` and `to`: where the plug is and belongs."""
    return {
        "plug": str(move.stays),
        "from": str(move.now),
        "to": str(move.then),
        "labels": {"plug": names.label(move.stays), "from": names.label(move.now), "to": names.label(move.then)},
    }


def trouble_document(trouble: Trouble, names: Names) -> dict[str, Any]:
    return {
        "kind": trouble.kind.value,
        "port": str(trouble.port),
        "label": names.label(trouble.port),
        "peer": None if trouble.peer is None else str(trouble.peer),
        "severe": trouble.severe,
        "message": trouble.message,
        "measured": dict(trouble.measured),
        "source": trouble.source,
    }


def lint_document(lint: Lint) -> dict[str, Any]:
    return {"kind": lint.kind, "message": lint.message, "line": lint.line or None, "error": lint.error}


def lines(diagnosis: Diagnosis, blueprint: Blueprint | None, snapshot: Snapshot | None) -> Iterator[str]:
    """The same for people: causes first, each with its moves; coverage last, so that it is read."""
    names = Names(blueprint, snapshot)
    for number, cause in enumerate(diagnosis.causes, 1):
        doubt = "" if cause.confirmed else " Not confirmed."
        yield f"{number}. {cause.kind.value}: {cause.message}{doubt}"
        if cause.where:
            yield f"   where: {', '.join(names.where(name) for name in cause.where[:6])}" + _more(cause.where, 6)
        if cause.kind is CauseKind.LINK:
            yield f"   ports: {', '.join(names.port(port) for port in cause.ports)}"
        if cause.kind is CauseKind.EXCHANGED:
            yield f"   do: {cause.do} Or, if both shall stay where they are, move these plugs:"
        for a, b in cause.removes[:12]:
            yield f"   first take out the cable between {names.port(a)} and {names.port(b)}"
        for move in cause.moves[:12]:
            yield (
                f"   the cable from {names.port(move.stays)}: take its plug out of {names.port(move.now)}, "
                f"put it into {names.port(move.then)}"
            )
        if len(cause.moves) > 12:
            yield f"   and {len(cause.moves) - 12} more plugs (--json has all)"
        if cause.do and cause.kind is not CauseKind.EXCHANGED:
            yield f"   do: {cause.do}"
    told = {port for cause in diagnosis.causes if cause.kind in _OF_LINKS for port in cause.ports}
    for trouble in diagnosis.health:
        if trouble.severe and trouble.port in told:
            continue  # its cause says it
        mark = "!" if trouble.severe else "-"
        yield f"{mark} {trouble.kind.value} at {names.port(trouble.port)}: {trouble.message}"
    if snapshot is not None and snapshot.unplaced:
        rest = f", and {len(snapshot.unplaced) - 1} more (--json has all)" if len(snapshot.unplaced) > 1 else ""
        yield f"? not known where it stands: {snapshot.unplaced[0]}{rest}"
    yield from _coverage_lines(diagnosis)


def _coverage_lines(diagnosis: Diagnosis) -> Iterator[str]:
    coverage = diagnosis.coverage
    for problem in coverage.problems[:10]:
        at = f" (line {problem.line})" if problem.line else ""
        yield f"? {problem.kind.value}: {problem.message}{at}"
    if len(coverage.problems) > 10:
        yield f"? and {len(coverage.problems) - 10} more problems while looking"
    if coverage.silent:
        yield f"? no answer from {', '.join(coverage.silent[:6])}" + _more(coverage.silent, 6)
    if not diagnosis.designed:
        yield "No design was given: only what the fabric says against itself was checked."
        return
    counts = ", ".join(f"{diagnosis.counts.get(verdict, 0)} {verdict.value}" for verdict in Verdict)
    yield (
        f"{coverage.cables} designed cables: {counts}. {coverage.answered} of {coverage.chassis} chassis answered, "
        f"{coverage.share:.1%} of the cables are known."
    )


def _more(items: Sequence[Any], shown: int) -> str:
    return f" and {len(items) - shown} more" if len(items) > shown else ""


def summary(found: Mapping[str, Any]) -> str:
    """One line of a document: for the audit log and lists."""
    cables = found["cables"]
    wrong = sum(cables[one] for one in ("wrong", "absent", "degraded"))
    return f"{cables['ok']} ok, {wrong} not, {cables['unknown']} unknown; {len(found['causes'])} causes"
