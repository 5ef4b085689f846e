"""SQL about maintenance windows, RMA cases and what a vendor's bundle quotes. Called by this feature's services."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ostler.breakfix.model import OPEN, Kind, Phase, Window
from ostler.core.errors import NotFound
from ostler.db.schema import bmc_watch, decision, finding, maintenance, node, rma_case, signal, slot, ticket, transition
from ostler.db.tx import Tx

# Maintenance ----------------------------------------------------------------------------------------------------------


def insert_window(tx: Tx, values: Mapping[str, Any]) -> None:
    tx.execute(maintenance.insert().values(**values))


def update_window(tx: Tx, window_id: str, values: Mapping[str, Any]) -> None:
    tx.execute(maintenance.update().where(maintenance.c.id == window_id).values(**values))


def window(tx: Tx, window_id: str) -> Window:
    """One maintenance. Raises `NotFound`."""
    row = tx.one(sa.select(maintenance).where(maintenance.c.id == window_id))
    if row is None:
        raise NotFound(f"No maintenance has the id '{window_id}'.")
    return _window(row)


def locked_window(tx: Tx, window_id: str) -> Window:
    """One maintenance that no other transaction changes until this one ends."""
    tx.execute(sa.select(maintenance.c.id).where(maintenance.c.id == window_id).with_for_update())
    return window(tx, window_id)


def windows(
    tx: Tx,
    *,
    phases: Collection[Phase] = (),
    starts_before: float | None = None,
    after: str | None = None,
    limit: int = 100,
) -> list[Window]:
    """Windows, newest first."""
    query = sa.select(maintenance).order_by(maintenance.c.id.desc()).limit(limit)
    if phases:
        query = query.where(maintenance.c.state.in_([phase.value for phase in phases]))
    if starts_before is not None:
        query = query.where(maintenance.c.starts_at <= starts_before)
    if after is not None:
        query = query.where(maintenance.c.id < after)
    return [_window(row) for row in tx.all(query)]


def open_of_node(tx: Tx, node_id: str) -> list[Window]:
    """Windows that concern a node and are not over, soonest first."""
    return sorted(
        (one for one in windows(tx, phases=OPEN, limit=1000) if node_id in one.nodes), key=lambda one: one.starts_at
    )


def nodes_in(tx: Tx, kind: str, name: str) -> list[str]:
    """Ids of the nodes of one domain or SKU that are not retired, by name."""
    where = node.c.sku == name if kind == "sku" else slot.c.domains[kind].as_string() == name
    query = sa.select(node.c.id).outerjoin(slot, slot.c.name == node.c.slot).where(where, node.c.state != "retired")
    return [row["id"] for row in tx.all(query.order_by(node.c.name))]


def _window(row: sa.RowMapping) -> Window:
    return Window(
        id=row["id"],
        scope=row["scope"],
        kind=Kind(row["kind"]),
        phase=Phase(row["state"]),
        summary=row["summary"],
        actor=row["actor"],
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        nodes=row["detail"].get("nodes", {}),
    )


# RMA cases ------------------------------------------------------------------------------------------------------------


def insert_case(tx: Tx, values: Mapping[str, Any]) -> None:
    tx.execute(rma_case.insert().values(**values))


def update_case(tx: Tx, case_id: str, values: Mapping[str, Any]) -> None:
    tx.execute(rma_case.update().where(rma_case.c.id == case_id).values(**values))


def case(tx: Tx, case_id: str) -> sa.RowMapping:
    """One case. Raises `NotFound`."""
    row = tx.one(sa.select(rma_case).where(rma_case.c.id == case_id))
    if row is None:
        raise NotFound(f"No RMA case has the id '{case_id}'.")
    return row


def locked_case(tx: Tx, case_id: str) -> sa.RowMapping:
    """One case that no other transaction changes until this one ends."""
    tx.execute(sa.select(rma_case.c.id).where(rma_case.c.id == case_id).with_for_update())
    return case(tx, case_id)


def open_case(tx: Tx, node_id: str, part: str, serial: str | None) -> sa.RowMapping | None:
    """The case of this part that is not over."""
    return tx.one(
        sa.select(rma_case)
        .where(
            rma_case.c.node_id == node_id,
            rma_case.c.part == part,
            rma_case.c.serial.is_(None) if serial is None else rma_case.c.serial == serial,
            rma_case.c.closed_at.is_(None),
        )
        .limit(1)
    )


def cases(
    tx: Tx, *, node_id: str | None = None, open_only: bool = False, after: str | None = None, limit: int = 100
) -> Sequence[sa.RowMapping]:
    """Cases, newest first."""
    query = sa.select(rma_case).order_by(rma_case.c.id.desc()).limit(limit)
    if node_id is not None:
        query = query.where(rma_case.c.node_id == node_id)
    if open_only:
        query = query.where(rma_case.c.closed_at.is_(None))
    if after is not None:
        query = query.where(rma_case.c.id < after)
    return tx.all(query)


# What others wrote ----------------------------------------------------------------------------------------------------


def bmc(tx: Tx, node_id: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What the BMC last said of a node: its inventory and its firmware; empty for a node that is not watched."""
    row = tx.one(sa.select(bmc_watch).where(bmc_watch.c.node_id == node_id))
    return ({}, {}) if row is None else (row["inventory"], row["firmware"])


def log(tx: Tx, node_id: str, sources: Collection[str], limit: int) -> Sequence[sa.RowMapping]:
    """The last signals of these sources, oldest first; no sources: all of them. A monitor's census is no fault."""
    query = sa.select(signal).where(signal.c.node_id == node_id, signal.c.code != "census")
    if sources:
        query = query.where(signal.c.source.in_(list(sources)))
    rows = tx.all(query.order_by(signal.c.received_at.desc(), signal.c.seq.desc()).limit(limit))
    return list(reversed(rows))


def repairs(tx: Tx, *, node_id: str, serial: str | None, since: float) -> Sequence[sa.RowMapping]:
    """Decisions that were acted on for a part (by its serial number, wherever it stood) or, without one, for a node."""
    about = decision.c.node_id == node_id if serial is None else decision.c.serial == serial
    return tx.all(
        sa.select(decision).where(about, decision.c.verdict == "act", decision.c.at >= since).order_by(decision.c.at)
    )


def history(tx: Tx, node_id: str) -> Mapping[str, Sequence[sa.RowMapping]]:
    """Everything that was repaired on a node: transitions, decisions acted on, tickets, cases, windows' worth of it."""

    def rows(table: sa.Table, order: str, *where: sa.ColumnElement[bool]) -> Sequence[sa.RowMapping]:
        return tx.all(sa.select(table).where(table.c.node_id == node_id, *where).order_by(table.c[order]))

    return {
        "transitions": rows(transition, "at"),
        "decisions": rows(decision, "at", decision.c.verdict == "act"),
        "tickets": rows(ticket, "opened_at"),
        "cases": rows(rma_case, "opened_at"),
        "findings": rows(finding, "first_at"),
    }
