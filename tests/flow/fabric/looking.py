"""What several files of looks share: a site whose nodes booted long ago, counters, pushes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from ostler.adapters.fabric.port import Collection, Output
from ostler.fabric import store
from ostler.fabric.model import Port
from tests.flow.fabric.site import NET, Site

PORT = Port("gpu-0005", "mlx5_3")


def far(site: Site, port: Port = PORT) -> Port:
    cable = site.blueprint.by_port[port]
    return cable.b if cable.a == port else cable.a


def count(site: Site, table: sa.Table) -> int:
    return int(site.db.read(lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(table))))


def bare(site: Site, vantage: str) -> Collection:
    """A look without counters."""
    found = site.cabling.collection(vantage)
    return replace(found, outputs=tuple(one for one in found.outputs if one.tool != "ibqueryerrors"))


def counted(site: Site, vantage: str, port: Port, **counters: int) -> Collection:
    """A look with counters: those of one port."""
    found = bare(site, vantage)
    guid = site.cabling.guids[port.chassis, port.name]
    said = " ".join(f"[{name} == {value}]" for name, value in counters.items())
    text = (
        f'Errors for "{port.chassis} {port.name}"\n   GUID {guid:#x} port 1: {said}\n\n'
        f"## Summary: {len(site.cabling.guids)} nodes checked, 1 bad nodes found\n"
        "##          500 ports checked, 1 ports have errors beyond threshold\n## Thresholds: \n## Suppressed:\n"
    )
    return replace(found, outputs=(*found.outputs, Output("ibqueryerrors", ("ibqueryerrors",), text.encode())))


def push(site: Site, collection: Collection) -> Any:
    site.clock.advance(60)
    return site.fabrics.take_in(NET, collection, taken_at=site.clock.now())


def downs(site: Site) -> int:
    rows = site.db.read(lambda tx: store.events(tx, NET, 0.0))
    return sum(row["count"] for row in rows if row["kind"] in ("flap", "down"))
