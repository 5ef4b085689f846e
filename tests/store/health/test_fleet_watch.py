"""Readings of real reports to findings about one GPU that is slower than its peers."""

from __future__ import annotations

import pytest

from ostler.db.tx import Tx
from ostler.health import store
from ostler.health.fleet_metrics import FleetSettings
from ostler.health.fleet_watch import LEAST_ROOM, FleetWatch
from ostler.health.model import Diagnosis, HealthSettings
from ostler.nodes import store as nodes
from ostler.nodes.model import Node
from ostler.wire.agent import Readings
from tests.store.health.books import Books

METRICS = ("utilisation", "sm_clock_mhz", "memory_temperature_c", "a-metric-of-tomorrow")
ADDRESSES = tuple(f"0000:{n:02x}:00.0" for n in range(0x18, 0x20))


def readings(slow: int | None = None, *, clock: float = 1980.0, hot: int | None = None) -> Readings:
    rows = tuple(
        (1.0, 1200.0 if n == slow else clock + n, 101.0 if n == hot else 80.0, 7.0) for n in range(len(ADDRESSES))
    )
    return Readings(METRICS, ADDRESSES, rows)


class Site:
    """A server's watch over nodes of one SKU."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.diagnosed: list[str] = []
        self.nodes = [books.add() for _ in range(3)]
        books.db.write(self._of_one_sku)
        self.watch = FleetWatch(books.db, FleetSettings(), HealthSettings(), self._hear)

    def _of_one_sku(self, tx: Tx) -> None:
        for node in self.nodes:
            nodes.update(tx, node.id, {"sku": "h100"})

    def _hear(self, tx: Tx, node_id: str, diagnoses: list[Diagnosis]) -> None:
        self.diagnosed += [one.fault for one in diagnoses]

    def minutes(self, count: int, first: Readings) -> None:
        for _ in range(count):
            self.books.clock.advance(60)
            for node in self.nodes:
                self.watch.hear(node.id, first if node is self.nodes[0] else readings())
            self.watch.step()

    def found(self, node: Node) -> list[tuple[str, str]]:
        rows = self.books.db.read(lambda tx: store.active(tx, node.id))
        return [(row["fault"], row["device"]) for row in rows]


@pytest.fixture
def site(books: Books) -> Site:
    return Site(books)


def test_a_slow_gpu_is_found_and_well_again(site: Site) -> None:
    site.minutes(8, readings())
    assert site.found(site.nodes[0]) == []
    site.minutes(15, readings(slow=3))
    assert site.found(site.nodes[0]) == [("gpu-slower-than-peers", "0000:1b:00")]
    assert set(site.diagnosed) == {"gpu-slower-than-peers"}
    (row,) = site.books.db.read(lambda tx: store.active(tx, site.nodes[0].id))
    assert "sm-clock" in row["message"]
    assert "siblings" in row["message"]
    assert "SKU" in row["message"]
    assert [site.found(node) for node in site.nodes[1:]] == [[], []]
    site.minutes(40, readings())
    assert site.found(site.nodes[0]) == []


def test_a_node_whose_gpus_are_all_slow_is_no_slow_gpu(site: Site) -> None:
    """Its load or its cooling: not one GPU against its siblings."""
    site.minutes(8, readings())
    site.minutes(15, readings(clock=1400.0))
    assert site.found(site.nodes[0]) == []


def test_memory_over_its_limit_is_told_by_its_name(site: Site) -> None:
    site.minutes(15, readings(hot=2))
    assert ("gpu-memory-hot", "0000:1a:00") in site.found(site.nodes[0])


def test_it_ticks_once_per_interval(site: Site) -> None:
    site.minutes(1, readings())
    site.watch.hear(site.nodes[0].id, readings(slow=1))
    site.watch.step()
    assert site.watch._heard  # kept for the next tick


def test_a_full_view_makes_room_and_a_silent_node_is_forgotten(site: Site) -> None:
    many = [f"node_{n}" for n in range(LEAST_ROOM // 8 + 1)]
    for node_id in many:
        site.watch.hear(node_id, readings())
    site.books.clock.advance(60)
    site.watch.step()
    assert len(site.watch._last) == len(many)
    site.books.clock.advance(3600)
    site.watch.hear(many[0], readings())
    site.watch.step()
    assert set(site.watch._last) == {many[0]}
