"""Looks that come late, twice, from two sides, or from a process that died."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

import pytest

from ostler.db import schema
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.fabric import store
from ostler.fabric.service import Fabrics
from ostler.fabric.settings import FabricSettings
from ostler.remediation import service as remediation
from ostler.tickets import service as tickets
from tests.flow.fabric.looking import PORT, count, counted, downs, far, push
from tests.flow.fabric.site import NET, Site
from tests.flow.fleet import HEALTH, MARA

T = TypeVar("T")


def test_done_said_while_the_look_was_under_way_is_proved_by_the_next(site: Site) -> None:
    site.cabling.cut(PORT)
    site.look()
    (ticket,) = site.tickets()
    site.db.write(lambda tx: tickets.claim(tx, ticket["id"], actor=MARA, force="idle"))
    site.clock.advance(60)
    began = site.clock.now()
    site.cabling.plug(PORT, far(site))
    seen = site.cabling.collection()
    site.clock.advance(10)
    site.db.write(lambda tx: tickets.done(tx, ticket["id"], actor=MARA, evidence="plugged in"))
    site.fabrics.take_in(NET, seen, taken_at=began)
    site.look()
    assert [row["state"] for row in site.tickets()] == ["done"]
    assert site.open() == []


def test_an_older_look_neither_clears_nor_opens(site: Site) -> None:
    clean = site.cabling.collection()
    site.clock.advance(60)
    before = site.clock.now()
    site.cabling.cut(PORT)
    faulty = site.cabling.collection()
    site.look()
    site.fabrics.take_in(NET, clean, taken_at=before)
    assert [row["kind"] for row in site.open()] == ["cable-absent"]
    assert [row["state"] for row in site.tickets()] == ["open"]
    between = site.clock.now() + 30
    site.cabling.plug(PORT, far(site))
    site.look()
    assert site.open() == []
    site.fabrics.take_in(NET, faulty, taken_at=between)
    assert site.open() == []
    assert [row["state"] for row in site.tickets()] == ["done"]
    assert count(site, schema.fabric_snapshot) == 4


class _Dies(Exception):
    """Where the process was killed."""


class _Killed:
    """A database whose process dies before or after the commit."""

    def __init__(self, db: Database, when: str) -> None:
        self._db, self._when = db, when

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def write(self, use_case: Callable[[Tx], T]) -> T:
        def cut_short(tx: Tx) -> T:
            use_case(tx)
            raise _Dies

        if self._when == "before":
            return self._db.write(cut_short)
        self._db.write(use_case)
        raise _Dies


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_look_whose_process_died_is_repeated_without_doubles(site: Site, when: str) -> None:
    site.look()
    site.cabling.cut(PORT)
    site.clock.advance(60)
    dying = Fabrics(cast("Database", _Killed(site.db, when)), {NET: FabricSettings()}, HEALTH, remediation.consider)
    with pytest.raises(_Dies):
        dying.take_in(NET, site.cabling.collection(), taken_at=site.clock.now())
    began = site.clock.now()
    site.fabrics.take_in(NET, site.cabling.collection(), taken_at=began)
    assert [row["kind"] for row in site.open()] == ["cable-absent"]
    assert [row["state"] for row in site.tickets()] == ["open"]
    assert site.events("fabric.cause") == ["fabric.cause_found"]
    assert site.events("ticket") == ["ticket.opened"]
    assert site.findings(PORT.chassis) == [("ib-uncabled", "mlx5_3/1")]
    downs = site.db.read(lambda tx: store.events(tx, NET, 0.0))
    assert [(row["kind"], row["count"]) for row in downs] == [("down", 1)]
    site.cabling.plug(PORT, far(site))
    with pytest.raises(_Dies):
        dying.take_in(NET, site.cabling.collection(), taken_at=site.clock.now() + 60)
    site.clock.advance(90)
    site.fabrics.take_in(NET, site.cabling.collection(), taken_at=site.clock.now())
    assert site.open() == []
    assert [row["state"] for row in site.tickets()] == ["done"]
    assert site.events("fabric.cause") == ["fabric.cause_found", "fabric.cause_cleared"]
    assert site.events("ticket") == ["ticket.opened", "ticket.closed"]


def test_two_first_pushes_at_once_lose_neither(site: Site) -> None:
    site.cabling.cut(PORT)
    ready = threading.Barrier(2)
    failures: list[BaseException] = []

    class Together:
        def __getattr__(self, name: str) -> Any:
            return getattr(site.db, name)

        def write(self, use_case: Callable[[Tx], T]) -> T:
            ready.wait(30)
            return site.db.write(use_case)

    fabrics = Fabrics(cast("Database", Together()), {NET: FabricSettings()}, HEALTH, remediation.consider)

    def push(vantage: str) -> None:
        try:
            fabrics.take_in(NET, site.cabling.collection(vantage), taken_at=site.clock.now())
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=push, args=(name,)) for name in ("sm01", "gpu-0008")]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failures == []
    assert len(site.open()) == 1
    assert site.events("fabric.cause") == ["fabric.cause_found"]
    assert len(site.tickets()) == 1
    assert count(site, schema.fabric_snapshot) == 2


def test_two_vantage_points_count_a_down_once(site: Site) -> None:
    for vantage in ("sm01", "gpu-0008"):
        push(site, counted(site, vantage, PORT, LinkDownedCounter=1))
    for vantage in ("sm01", "gpu-0008", "sm01", "gpu-0008"):
        push(site, counted(site, vantage, PORT, LinkDownedCounter=2))
    assert downs(site) == 1
    for vantage in ("gpu-0008", "sm01"):
        push(site, counted(site, vantage, PORT, LinkDownedCounter=3))
    assert downs(site) == 2
    assert site.open() == []


def test_the_same_look_pushed_twice_counts_a_down_once(site: Site) -> None:
    push(site, counted(site, "sm01", PORT, LinkDownedCounter=1))
    again = counted(site, "sm01", PORT, LinkDownedCounter=2)
    site.clock.advance(60)
    twice: list[str] = []

    class Overtaken:
        """Another replica commits the same look first."""

        def __getattr__(self, name: str) -> Any:
            return getattr(site.db, name)

        def write(self, use_case: Callable[[Tx], T]) -> T:
            if not twice:
                twice.append("once")
                site.fabrics.take_in(NET, again, taken_at=site.clock.now())
            return site.db.write(use_case)

    fabrics = Fabrics(cast("Database", Overtaken()), {NET: FabricSettings()}, HEALTH, remediation.consider)
    fabrics.take_in(NET, again, taken_at=site.clock.now())
    assert downs(site) == 1
