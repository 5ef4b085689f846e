"""A fabric as the console shows it: what the last look says of every cable of the design. Called by `fabric.py`.

Verdicts are those of the stored report, so that no page contradicts the tickets. Where a report lists only the first
of many (`report.LISTED`), or the design was changed since that look, they are worked out anew from what was seen.
Reading a snapshot of 98,304 ports takes seconds, so the last scenes are kept, by the look and the design they show.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any

from ostler.console.fabric_tree import Tree, tree, worst
from ostler.console.model import Row
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.fabric import store
from ostler.fabric.blueprints import Design
from ostler.fabric.designs.bootstrap import bootstrap
from ostler.fabric.diagnosis import diagnose
from ostler.fabric.model import Blueprint, ChassisKind, DesignedCable, Port, Snapshot, Verdict
from ostler.fabric.places import archive
from ostler.fabric.report import Names
from ostler.fabric.service import Fabrics

_KEPT = 2
"""Scenes that a process keeps: one of 98,304 ports takes about 200 MB."""


@dataclass(frozen=True)
class Scene:
    """A fabric at its last look."""

    fabric: str
    id: tuple[str, str, bool]
    """Of the look and the design, and whether somebody vouched for it."""
    look: Row | None
    """Without body and report; None: nobody has looked yet."""
    blueprint: Blueprint | None
    """What is drawn: the design, or without one what was seen; None: neither is there."""
    designed: bool
    body: bytes | None
    """What was seen, packed; None: nobody looked, or it is not kept any more."""
    verdicts: Mapping[DesignedCable, Verdict]
    """Of every cable that is not ok."""
    report: Mapping[str, Any]
    anew: bool = False
    """The design was changed after the look: the verdicts are not those of its report."""
    cut: bool = False
    """What was seen is not kept, and the report lists only some of what is not ok."""
    unpacked: Snapshot | None = None
    """`body`, where somebody needed it already."""

    @cached_property
    def tree(self) -> Tree:
        return tree(self.blueprint or Blueprint("", "", {}, ()))

    @cached_property
    def snapshot(self) -> Snapshot | None:
        """Unpacked when somebody asks: the drawing of a clean fabric needs nothing of it."""
        if self.unpacked is not None or self.body is None:
            return self.unpacked
        return archive.unpack(self.body)

    @cached_property
    def names(self) -> Names:
        boxes = () if self.blueprint is None else self.blueprint.chassis.values()
        told = all(box.model for box in boxes if box.kind is ChassisKind.SWITCH)
        return Names(self.blueprint, None if told else self.snapshot)

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Verdict → cables; without a design empty."""
        if self.blueprint is None or not self.designed:
            return {}
        found = Counter(verdict.value for verdict in self.verdicts.values())
        found["ok"] = len(self.blueprint.cables) - len(self.verdicts)
        return {verdict.value: found[verdict.value] for verdict in Verdict}

    @cached_property
    def bad(self) -> Mapping[str, Mapping[str, int]]:
        """Chassis → verdict → cables, of those that are not ok."""
        found: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for cable, verdict in self.verdicts.items():
            for name in {cable.a.chassis, cable.b.chassis}:
                found[name][verdict.value] += 1
        return found

    @cached_property
    def hot(self) -> Mapping[str, frozenset[str]]:
        """Chassis → verdicts that colour its box: not those of cables to another box that is dark itself."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for cable, verdict in self.verdicts.items():
            for near, far in ((cable.a.chassis, cable.b.chassis), (cable.b.chassis, cable.a.chassis)):
                if far not in self.silent:
                    found[near].add(verdict.value)
        return {name: frozenset(words) for name, words in found.items()}

    def colour(self, chassis: str) -> str:
        """The verdict that colours a box: of a box that answered nobody, the worst of its cables."""
        found = self.bad if chassis in self.silent else self.hot
        return worst(found.get(chassis, ()))

    @cached_property
    def silent(self) -> frozenset[str]:
        """Designed chassis that answered nobody in this look."""
        coverage = self.report.get("coverage", {})
        told: Sequence[str] = coverage.get("silent", ())
        missing = coverage.get("chassis", 0) - coverage.get("answered", 0)
        if missing <= len(told) or self.snapshot is None or self.blueprint is None:
            return frozenset(told)
        return frozenset(name for name in self.blueprint.chassis if not self.snapshot.answered(name))

    def told(self, chassis: str) -> str:
        """`30 ok, 2 absent`."""
        total = 0 if self.blueprint is None else len(self.blueprint.by_chassis.get(chassis, ()))
        bad = self.bad.get(chassis, {})
        if not self.designed:
            return f"{total} cables seen"
        words = [f"{total - sum(bad.values())} ok", *(f"{count} {word}" for word, count in sorted(bad.items()))]
        return ", ".join(words) + ("; no answer from it" if chassis in self.silent else "")

    def seen(self, port: Port) -> Port | None:
        """What is plugged in there, as far as anybody saw."""
        return None if self.snapshot is None else self.snapshot.links.get(port)


@dataclass(frozen=True)
class _Read:
    """What the books have of a fabric, before anything is unpacked."""

    design: Design | None
    look: Row | None
    report: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    others: Sequence[bytes] = ()

    @property
    def key(self) -> tuple[str, str, bool]:
        design = self.design
        proven = design is not None and design.blueprint.proven
        return (self.look["id"] if self.look else "", design.id if design else "", proven)


class Scenes:
    """The last scenes of a process."""

    def __init__(self, db: Database, fabrics: Fabrics) -> None:
        self._db = db
        self._fabrics = fabrics
        self._kept: OrderedDict[str, Scene] = OrderedDict()
        self._lock = Lock()

    def of(self, fabric: str) -> Scene:
        """Raises `NotFound`, and `BadInput` for what is no name of a fabric."""
        brief = self._db.read(lambda tx: self._brief(tx, fabric))
        with self._lock:  # two that ask at once wait for one answer instead of unpacking twice
            kept = self._kept.get(fabric)
            if kept is None or kept.id != brief.key:
                kept = _scene(fabric, self._db.read(lambda tx: self._full(tx, fabric)))
                self._kept[fabric] = kept
            self._kept.move_to_end(fabric)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return kept

    def _brief(self, tx: Tx, fabric: str) -> _Read:
        self._fabrics.check(tx, fabric)
        last = store.latest(tx, fabric)
        return _Read(self._fabrics.shelf.active(tx, fabric), None if last is None else dict(last))

    def _full(self, tx: Tx, fabric: str) -> _Read:
        brief = self._brief(tx, fabric)
        if brief.look is None:
            return brief
        look = brief.look
        report = store.snapshot(tx, fabric, look["id"])["report"]
        since = look["taken_at"] - self._fabrics.settings(fabric).second_look_s
        others: dict[str, bytes] = {}
        for row in store.latest_by_vantage(tx, fabric, since):
            if row["vantage"] != look["vantage"] and row["vantage"] not in others:
                others[row["vantage"]] = store.body(tx, row["id"]) or b""
        return _Read(brief.design, look, report, store.body(tx, look["id"]), [one for one in others.values() if one])


def _scene(fabric: str, read: _Read) -> Scene:
    look, body = read.look, read.body
    if read.design is None:
        seen = None if body is None else archive.unpack(body)
        drawn = None if seen is None else bootstrap(seen, fabric)
        return Scene(fabric, read.key, look, drawn, False, body, {}, read.report, unpacked=seen)
    blueprint = read.design.blueprint
    if look is None:
        return Scene(
            fabric, read.key, None, blueprint, True, None, dict.fromkeys(blueprint.cables, Verdict.UNKNOWN), {}
        )
    anew = look["blueprint_id"] != read.design.id
    listed, cut = _listed(blueprint, read.report)
    if body is not None and (cut or anew):
        seen = archive.unpack(body)
        found = diagnose(blueprint, seen, [archive.unpack(one) for one in read.others]).verdicts
        return Scene(fabric, read.key, look, blueprint, True, body, found, read.report, anew=anew, unpacked=seen)
    return Scene(fabric, read.key, look, blueprint, True, body, listed, read.report, anew=anew, cut=cut)


def _listed(blueprint: Blueprint, report: Mapping[str, Any]) -> tuple[dict[DesignedCable, Verdict], bool]:
    """What the report lists as not ok, and whether it leaves some out."""
    rows = {word: report.get("listed", {}).get(word, ()) for word in Verdict if word is not Verdict.OK}
    cut = any(report.get("cables", {}).get(word.value, 0) > len(found) for word, found in rows.items())
    wanted = {(row["a"], row["b"]): word for word, found in rows.items() for row in found}
    if not wanted:
        return {}, cut
    first = {a for a, _ in wanted}
    found: dict[DesignedCable, Verdict] = {}
    for cable in blueprint.cables:
        if (a := str(cable.a)) in first and (word := wanted.get((a, str(cable.b)))) is not None:
            found[cable] = word
    return found, cut
