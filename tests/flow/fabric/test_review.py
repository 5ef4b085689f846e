"""What goes wrong between looks: late and doubled ones, blind ones, a process that dies, and what people do meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from ostler.access.model import Principal, Role
from ostler.adapters.fabric.port import Collection, Output
from ostler.brake.pause_file import PauseFile
from ostler.core.clock import ManualClock
from ostler.db import schema
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.fabric import api, blueprints, rounds, store
from ostler.fabric.model import Blueprint, Port
from ostler.fabric.push import CollectionIn, packed, unpacked
from ostler.fabric.service import Fabrics
from ostler.fabric.settings import FabricSettings
from ostler.fabric.tasks import Looks
from ostler.fabric.work import key_of
from ostler.http.problems import install
from ostler.nodes import store as nodes
from ostler.nodes.model import State
from ostler.remediation import service as remediation
from ostler.tickets import service as tickets
from ostler.tickets.model import Subject, Work
from tests.flow.fabric.site import NET, Site, new_site
from tests.flow.fleet import HEALTH, MARA, Fleet

T = TypeVar("T")
PORT = Port("gpu-0005", "mlx5_3")


@pytest.fixture
def site(db: Database, clock: ManualClock, tmp_path: Path) -> Site:
    found = new_site(db, clock, Fleet(db, clock, PauseFile(tmp_path / "pause")), FabricSettings())
    clock.advance(86_400)  # the nodes' boots explain nothing any more
    return found


def far(site: Site, port: Port = PORT) -> Port:
    cable = site.blueprint.by_port[port]
    return cable.b if cable.a == port else cable.a


def count(site: Site, table: sa.Table) -> int:
    return int(site.db.read(lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(table))))


# ── looks that come late, twice, or from a process that died ────────────────────────────────────────────────────────


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


# ── what ends, and what does not ────────────────────────────────────────────────────────────────────────────────────


def test_a_look_without_counters_does_not_close_an_ill_link(site: Site) -> None:
    push(site, counted(site, "sm01", PORT, LocalLinkIntegrityErrors=1))
    push(site, counted(site, "sm01", PORT, LocalLinkIntegrityErrors=5))
    assert [row["kind"] for row in site.open()] == ["link-trouble"]
    push(site, bare(site, "gpu-0008"))
    assert [row["kind"] for row in site.open()] == ["link-trouble"]
    assert [row["state"] for row in site.tickets()] == ["open"]
    assert site.findings(PORT.chassis) == [("ib-integrity", "mlx5_3/1")]
    push(site, counted(site, "sm01", PORT, LocalLinkIntegrityErrors=5))
    assert [row["kind"] for row in site.open()] == ["link-trouble"], "a quiet minute is no proof"
    push(site, counted(site, "sm01", PORT, LocalLinkIntegrityErrors=6))
    site.clock.advance(10_000)
    push(site, bare(site, "gpu-0008"))
    assert [row["kind"] for row in site.open()] == ["link-trouble"], "nobody read its counters"
    push(site, counted(site, "sm01", PORT, LocalLinkIntegrityErrors=6))
    assert site.open() == []
    assert [row["state"] for row in site.tickets()] == ["done"]
    assert site.findings(PORT.chassis) == []


def test_a_technicians_done_is_proved_by_the_next_look_at_an_ill_link(site: Site) -> None:
    push(site, counted(site, "sm01", PORT, LocalLinkIntegrityErrors=1))
    push(site, counted(site, "sm01", PORT, LocalLinkIntegrityErrors=5))
    (ticket,) = site.tickets()
    site.db.write(lambda tx: tickets.claim(tx, ticket["id"], actor=MARA, force="idle"))
    site.db.write(lambda tx: tickets.done(tx, ticket["id"], actor=MARA, evidence="cleaned"))
    push(site, counted(site, "sm01", PORT, LocalLinkIntegrityErrors=5))
    assert [row["state"] for row in site.tickets()] == ["done"]
    assert site.open() == []


def test_a_ticket_of_seatrial_is_closed_by_the_sweep(site: Site) -> None:
    site.look()
    node = site.nodes[PORT.chassis]
    wanted = Work(
        key=key_of(NET, "cable-absent-0123"),
        subject=Subject.CABLE,
        cause="mlx5_3 has no link",
        instruction="Plug it in.",
        node_ids=(node.id,),
        fabric=NET,
        ports=(PORT, far(site)),
        evidence={"kind": "cable-absent"},
        seen_at=site.clock.now(),
    )
    site.db.write(lambda tx: tickets.report(tx, wanted))
    site.look()
    assert [row["state"] for row in site.tickets()] == ["done"]


def test_a_confirmed_cause_stays_confirmed_until_it_is_over(site: Site) -> None:
    spine = min(name for name in site.blueprint.chassis if name.startswith("spine"))
    site.cabling.dark = {spine}
    site.look("sm01")
    site.look("gpu-0008")
    site.clock.advance(FabricSettings().second_look_s * 2)
    site.look("sm01")
    (row,) = site.open()
    assert row["confirmed"]
    site.look("gpu-0008")
    site.cabling.dark = set()
    site.clock.advance(FabricSettings().second_look_s * 2)
    site.look("sm01")
    assert site.events("fabric.cause") == ["fabric.cause_found", "fabric.cause_cleared"]
    assert [row["state"] for row in site.tickets()] == ["done"]


def test_a_finding_ends_although_the_cause_ended_in_a_partial_look(site: Site) -> None:
    site.cabling.cut(PORT)
    site.look()
    assert site.findings(PORT.chassis) == [("ib-uncabled", "mlx5_3/1")]
    site.cabling.plug(PORT, far(site))
    other = far(site, Port(PORT.chassis, "mlx5_0")).chassis
    mine = {cable for cable in site.cabling.links if cable == Port(PORT.chassis, "mlx5_0")}
    held = {port: site.cabling.links[port] for port in mine}
    site.cabling.mute = {other}
    for port in mine:
        site.cabling.cut(port)
    site.look()
    for port, peer in held.items():
        site.cabling.plug(port, peer)
    site.cabling.mute = set()
    site.look()
    assert site.open() == []
    assert site.findings(PORT.chassis) == []


def test_a_finding_ends_although_the_cause_ended_while_the_node_was_out(site: Site) -> None:
    node = site.nodes[PORT.chassis]
    site.cabling.cut(PORT)
    site.look()
    site.db.write(lambda tx: nodes.update(tx, node.id, {"state": State.TRIAGE.value}))
    site.cabling.plug(PORT, far(site))
    site.look()
    assert site.open() == []
    site.db.write(lambda tx: nodes.update(tx, node.id, {"state": State.PRODUCTION.value}))
    site.look()
    assert site.findings(PORT.chassis) == []


def test_a_finding_goes_with_the_place_when_nodes_change_places(site: Site) -> None:
    site.cabling.cut(PORT)
    site.look()
    one, two = site.nodes["gpu-0005"], site.nodes["gpu-0006"]

    def exchange(tx: Tx) -> None:
        nodes.update(tx, one.id, {"name": "between"})
        nodes.update(tx, two.id, {"name": "gpu-0005"})
        nodes.update(tx, one.id, {"name": "gpu-0006"})

    site.db.write(exchange)
    site.look()
    assert site.findings("gpu-0006") == [("ib-uncabled", "mlx5_3/1")]
    assert site.findings("gpu-0005") == []


def without(blueprint: Blueprint, chassis: str) -> Blueprint:
    """The design after a box was taken out of it."""
    return replace(
        blueprint,
        chassis={name: one for name, one in blueprint.chassis.items() if name != chassis},
        cables=tuple(cable for cable in blueprint.cables if chassis not in (cable.a.chassis, cable.b.chassis)),
    )


def test_what_was_wrong_with_a_box_ends_with_the_box(site: Site) -> None:
    site.cabling.cut(PORT)
    site.look()
    fewer = without(site.blueprint, PORT.chassis)
    site.cabling.dark = {PORT.chassis}
    site.db.write(lambda tx: blueprints.take_in(tx, NET, fewer, [], actor=MARA))
    site.look()
    assert site.open() == []
    assert [row["state"] for row in site.tickets()] == ["done"]
    assert site.findings(PORT.chassis) == []


def test_a_stranger_who_is_gone_is_over(site: Site) -> None:
    fewer = without(site.blueprint, "gpu-0008")
    site.db.write(lambda tx: blueprints.take_in(tx, NET, fewer, [], actor=MARA))
    site.look()
    assert {row["kind"] for row in site.open()} == {"undesigned"}
    site.cabling.dark = {"gpu-0008"}
    site.look()
    assert site.open() == []


# ── what stands in the books ────────────────────────────────────────────────────────────────────────────────────────


def test_a_damaged_snapshot_costs_its_deltas_and_no_look(site: Site) -> None:
    site.look("sm01")
    site.look("gpu-0008")
    site.db.write(lambda tx: tx.execute(schema.fabric_snapshot.update().values(body=b"OSTLER-FABRIC 99\nx")))
    site.cabling.cut(PORT)
    site.look("sm01")
    assert [row["kind"] for row in site.open()] == ["cable-absent"]


def test_every_vantage_point_keeps_its_last_look_in_full(site: Site) -> None:
    settings = FabricSettings(keep_bodies=2)
    site.look("sm01")
    for _ in range(4):
        site.look("gpu-0008")
    fabrics = Fabrics(site.db, {NET: settings}, HEALTH, remediation.consider)
    Looks(site.db, fabrics, {}).forget()
    rows = site.db.read(lambda tx: store.latest_by_vantage(tx, NET, 0.0))
    assert [row["vantage"] for row in rows] == ["gpu-0008", "gpu-0008", "sm01"]


def test_a_part_that_was_taken_out_and_put_back_waits_for_a_word_again(site: Site) -> None:
    site.look()
    node = ("gpu-0002", "mlx5_4")
    first, second = site.cabling.guids[node], 0x0002C903DEADBE00
    site.cabling.guids[node] = second
    site.look()

    def approve(tx: Tx) -> None:
        store.set_part(tx, NET, first, {"state": "gone"})
        store.set_part(tx, NET, second, {"state": "known"})

    site.db.write(approve)
    site.cabling.guids[node] = first
    site.look()
    assert [row["kind"] for row in site.open()] == ["part-replaced"]
    assert site.db.read(lambda tx: store.part_states(tx, NET, [first])) == {first: "replaced"}


def test_a_part_that_was_moved_is_learnt_anew_when_a_person_says_so(site: Site) -> None:
    site.look()
    one, two = ("gpu-0001", "mlx5_0"), ("gpu-0002", "mlx5_0")
    moved = site.cabling.guids[one]
    site.cabling.guids[two], site.cabling.guids[one] = moved, 0x0002C903DEADBE00
    site.look()
    assert [row["kind"] for row in site.open()] == ["miscabled"], "the registry goes before a name"
    assert site.db.write(lambda tx: store.forget_part(tx, NET, moved))
    site.look()
    assert {row["kind"] for row in site.open()} == {"part-replaced"}
    assert [row["state"] for row in site.tickets()] == ["done"]


def test_a_replacement_that_was_withdrawn_waits_no_more(site: Site) -> None:
    site.look()
    node = ("gpu-0002", "mlx5_4")
    first, second = site.cabling.guids[node], 0x0002C903DEADBE00
    site.cabling.guids[node] = second
    site.look()
    site.cabling.guids[node] = first
    site.look()
    assert site.open() == []
    assert site.db.read(lambda tx: store.parts(tx, NET, state="replaced")) == []


@pytest.mark.parametrize("text", ["gpu\0x", "gpu\ud800x"])
def test_a_vantage_point_with_a_strange_name_is_taken(site: Site, text: str) -> None:
    site.look(text)
    site.look(text)
    assert count(site, schema.fabric_snapshot) == 2


def test_names_that_no_database_holds_are_taken(site: Site) -> None:
    collection = site.cabling.collection()
    data = collection.outputs[0].data.replace(b"gpu-0004 mlx5_2", b"gpu-0004\0 mlx5_2")
    site.clock.advance(60)
    output = replace(collection.outputs[0], data=data, stderr="ibwarn: [1] failed\0 \udc80 error\n")
    site.fabrics.take_in(NET, replace(collection, outputs=(output,)), taken_at=site.clock.now())
    assert count(site, schema.fabric_snapshot) == 1


def test_an_output_without_a_command_is_taken(site: Site) -> None:
    collection = site.cabling.collection()
    outputs = tuple(
        replace(collection.outputs[0], tool=tool, argv=())
        for tool in ("file", "file", "opensm-subnet", "ibqueryerrors", "sminfo", "iblinkinfo", "strange")
    )
    body = packed(replace(collection, outputs=outputs), 0.0)
    pushed = unpacked(CollectionIn.model_validate(body), site.clock.real())
    site.fabrics.take_in(NET, pushed, taken_at=site.clock.now())
    assert count(site, schema.fabric_snapshot) == 1


def test_two_vantage_points_do_not_make_coverage_flap(site: Site) -> None:
    site.look("sm01")
    for _ in range(3):
        site.clock.advance(FabricSettings().second_look_s)
        site.cabling.mute = {"leaf-r0-01"}
        site.look("gpu-0008")
        site.cabling.mute = set()
        site.clock.advance(FabricSettings().second_look_s)
        site.look("sm01")
    assert len(site.events("fabric.coverage")) <= 1


# ── people ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_person_does_in_a_round_is_in_the_audit_log(site: Site) -> None:
    node = site.nodes["gpu-0005"]
    site.db.write(lambda tx: nodes.update(tx, node.id, {"name": "blade-77", "slot": None}))
    item = {"n": 1, "port": str(PORT), "why": "x", "measured": "", "place": ""}
    round_id = site.db.write(lambda tx: rounds.open_round(tx, NET, FabricSettings(), "snap_1", [item]))
    site.db.write(lambda tx: rounds.enter(tx, NET, round_id, 1, rounds.Found.BAD, "dirty", actor=MARA))
    site.db.write(lambda tx: rounds.sign(tx, NET, round_id, "", actor=MARA))
    actions = site.db.read(lambda tx: tx.all(sa.select(schema.audit.c.action, schema.audit.c.actor)))
    assert {row["action"] for row in actions if "round" in row["action"]} >= {
        "fabric.round_result",
        "fabric.round_signed",
    }


def test_a_part_is_forgotten_by_a_technician_with_a_reason(site: Site) -> None:
    site.look()
    asked: list[Role] = []

    def authorize(role: Role) -> Callable[..., Principal]:
        asked.append(role)
        return lambda: Principal("token:tom", role)

    app = FastAPI()
    app.include_router(api.router(site.fabrics, authorize))
    install(app)
    client = TestClient(app)
    guid = f"0x{site.cabling.guids['gpu-0001', 'mlx5_0']:016x}"
    path = f"/v1/fabrics/{NET}/parts/{guid}/forget"
    assert client.post(path, json={}).status_code in (400, 422)
    assert client.post(path, json={"reason": "moved to gpu-0002"}).status_code == 204
    assert client.post(path, json={"reason": "again"}).status_code == 404
    assert client.post(f"/v1/fabrics/{NET}/parts/0xZZ/forget", json={"reason": "x"}).status_code in (400, 422)
    row = site.db.read(
        lambda tx: tx.one(sa.select(schema.audit).where(schema.audit.c.action == "fabric.part_forgotten"))
    )
    assert row is not None
    assert (row["reason"], row["detail"]) == ("moved to gpu-0002", {"guid": guid})
    assert Role.TECHNICIAN in asked
