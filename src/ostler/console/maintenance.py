"""The room `Maintenance`: what is under way, announced and over, and one of them. For `rooms.py` and `now.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ostler.breakfix import store
from ostler.breakfix.model import OPEN, Phase, Window
from ostler.console.model import Happened, Rules
from ostler.console.queries import happened, names_of, natural, position
from ostler.db.schema import node, slot
from ostler.db.tx import Tx

PAST = 50
"""Windows that are over, on one page."""
MOST = 1000

_STEPS = ("waiting", "draining", "out", "returned")


@dataclass(frozen=True)
class WindowLine:
    """One maintenance in a list."""

    window: Window
    where: str
    """`node gpu-0007`, `rack fra1/a/r3`."""
    node: str | None
    """The node's name, if it is about one."""
    counts: Sequence[tuple[str, int]]
    """How far its nodes are, in the order of the way."""

    @property
    def current(self) -> bool:
        return self.window.phase in (Phase.DRAINING, Phase.RUNNING)


@dataclass(frozen=True)
class Windows:
    """The list."""

    now: float
    position: int
    current: Sequence[WindowLine]
    upcoming: Sequence[WindowLine]
    past: Sequence[WindowLine]
    older: str | None
    """The id to go on after."""


@dataclass(frozen=True)
class Member:
    """One node of a maintenance."""

    name: str
    rack: str
    state: str
    how: str
    note: str


@dataclass(frozen=True)
class OneWindow:
    """One maintenance on a page."""

    now: float
    position: int
    line: WindowLine
    members: Sequence[Member]
    story: Sequence[Happened]


def listed(tx: Tx, rules: Rules, asked: Mapping[str, str]) -> Windows:
    """`asked`: `after`, the id of the last past window that was seen."""
    opened = sorted(store.windows(tx, phases=OPEN, limit=MOST), key=lambda one: one.starts_at)
    over = store.windows(tx, phases=(Phase.DONE, Phase.CANCELLED), after=asked.get("after") or None, limit=PAST)
    names = names_of(tx, (one.scope.removeprefix("node:") for one in (*opened, *over)))
    lines = [line_of(one, names) for one in opened]
    return Windows(
        now=tx.now,
        position=position(tx),
        current=[line for line in lines if line.current],
        upcoming=[line for line in lines if not line.current],
        past=[line_of(one, names) for one in over],
        older=over[-1].id if len(over) == PAST else None,
    )


def one(tx: Tx, rules: Rules, asked: Mapping[str, str]) -> OneWindow:
    """`asked`: `id`. Raises `NotFound`."""
    window = store.window(tx, asked["id"])
    rows: list[sa.RowMapping] = []
    ids = list(window.nodes)
    for start in range(0, len(ids), 500):
        rows += tx.all(
            sa.select(node.c.id, node.c.name, node.c.state, slot.c.rack)
            .outerjoin(slot, slot.c.name == node.c.slot)
            .where(node.c.id.in_(ids[start : start + 500]))
        )
    members = [
        Member(row["name"], row["rack"] or "", row["state"], *_how(window.nodes[row["id"]]))
        for row in sorted(rows, key=lambda row: natural(row["name"]))
    ]
    names = {row["id"]: row["name"] for row in rows}
    return OneWindow(tx.now, position(tx), line_of(window, names), members, happened(tx, window.id))


def line_of(window: Window, names: Mapping[str, str]) -> WindowLine:
    """A maintenance as lists show it. `names`: of the nodes that scopes name by id."""
    kind, _, name = window.scope.partition(":")
    counted = Counter(_how(how)[0] for how in window.nodes.values())
    order = [*_STEPS, *sorted(set(counted) - set(_STEPS))]
    return WindowLine(
        window,
        f"{kind} {names.get(name, name)}",
        names.get(name) if kind == "node" else None,
        [(step, counted[step]) for step in order if counted[step]],
    )


def _how(told: str) -> tuple[str, str]:
    """`waiting: its firmware is being written` as the step and the reason."""
    step, _, why = told.partition(": ")
    return step, why
