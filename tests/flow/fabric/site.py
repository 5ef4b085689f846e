"""One fabric in the books, with its nodes in production, a hand for its cables, and a collector that looks at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import sqlalchemy as sa

from ostler.adapters.fabric.port import Collection, Want
from ostler.core.actor import Actor
from ostler.core.clock import ManualClock
from ostler.core.errors import OstlerError
from ostler.db import schema
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.fabric import blueprints, store
from ostler.fabric.designs.fat_tree import fat_tree
from ostler.fabric.model import Blueprint
from ostler.fabric.service import Fabrics, Taken
from ostler.fabric.settings import FabricSettings
from ostler.health import store as health
from ostler.nodes import store as nodes
from ostler.nodes.model import Node
from ostler.remediation import service as remediation
from ostler.tickets import store as ticket_store
from tests.flow.fabric.cabling import Cabling
from tests.flow.fleet import HEALTH, Fleet

NET = "compute"
HOSTS = 8


@dataclass
class Site:
    db: Database
    clock: ManualClock
    blueprint: Blueprint
    cabling: Cabling
    fabrics: Fabrics
    nodes: dict[str, Node] = field(default_factory=dict)
    vantage: str = "sm01"
    fails: OstlerError | None = None

    def collect(self, what: Want) -> Collection:
        """A `Collector`, with `close`."""
        if self.fails is not None:
            raise self.fails
        return self.cabling.collection(self.vantage)

    def close(self) -> None:
        pass

    def look(self, vantage: str = "sm01") -> Taken:
        self.clock.advance(60)
        collection = self.cabling.collection(vantage)
        return self.fabrics.take_in(NET, collection, taken_at=self.clock.now())

    def open(self) -> list[sa.RowMapping]:
        return list(self.db.read(lambda tx: store.open_causes(tx, NET)))

    def tickets(self, state: str | None = None) -> list[sa.RowMapping]:
        return list(self.db.read(lambda tx: ticket_store.listed(tx, state=state)))

    def events(self, prefix: str) -> list[str]:
        rows = self.db.read(lambda tx: tx.all(sa.select(schema.event.c.type).order_by(schema.event.c.id)))
        return [row["type"] for row in rows if row["type"].startswith(prefix)]

    def findings(self, name: str) -> list[tuple[str, str]]:
        rows = self.db.read(lambda tx: health.active(tx, self.nodes[name].id))
        return sorted((row["fault"], row["device"]) for row in rows)


def _rename(tx: Tx, *, node_id: str, name: str) -> None:
    nodes.update(tx, node_id, {"name": name, "slot": None})


def new_site(
    db: Database, clock: ManualClock, fleet: Fleet, settings: FabricSettings, *, designed: bool = True
) -> Site:
    """Eight hosts with eight rails; `designed`: the server has their blueprint."""
    blueprint = fat_tree(HOSTS, 8)
    fabrics = Fabrics(db, {NET: settings}, HEALTH, remediation.consider)
    site = Site(db, clock, blueprint, Cabling(blueprint), fabrics)
    hosts = sorted(name for name in blueprint.chassis if name.startswith("gpu"))
    for name, node in zip(hosts, fleet.add(HOSTS), strict=True):
        db.write(partial(_rename, node_id=node.id, name=name))
        site.nodes[name] = fleet.node(node)
    if designed:
        db.write(lambda tx: blueprints.take_in(tx, NET, blueprint, [], actor=Actor("person:mara")))
    return site
