"""A look at the fabric goes into the books: causes, tickets, findings, parts; and what nobody saw changes nothing."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from ostler.brake.pause_file import PauseFile
from ostler.core.clock import ManualClock
from ostler.core.errors import BadInput
from ostler.core.ids import new_id
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.fabric import books, store
from ostler.fabric.designs.fat_tree import fat_tree
from ostler.fabric.look import Look
from ostler.fabric.model import Blueprint, ChassisKind, Port
from ostler.fabric.settings import FabricSettings
from ostler.nodes import store as nodes
from ostler.nodes.model import Service, State
from ostler.tickets import service as tickets
from tests.flow.fabric.cabling import Cabling
from tests.flow.fabric.site import NET, Site, new_site
from tests.flow.fleet import MARA, Fleet


@pytest.fixture
def site(db: Database, clock: ManualClock, tmp_path: Path) -> Site:
    return new_site(db, clock, Fleet(db, clock, PauseFile(tmp_path / "pause")), FabricSettings())


def test_a_clean_fabric_writes_no_cause_ticket_or_event(site: Site) -> None:
    taken = site.look()
    assert taken.report["clean"]
    assert taken.report["cables"]["ok"] == len(site.blueprint.cables)
    assert site.open() == []
    assert site.tickets() == []
    assert site.events("fabric") == []


def test_exchanged_plugs_are_one_ticket_until_a_look_shows_them_right(site: Site) -> None:
    a, b = Port("gpu-0003", "mlx5_1"), Port("gpu-0003", "mlx5_2")
    site.cabling.swap(a, b)
    report = site.look().report
    (cause,) = report["causes"]
    assert cause["kind"] == "miscabled"
    assert [(move["from"], move["to"]) for move in cause["moves"]] == [(str(a), str(b)), (str(b), str(a))]
    (ticket,) = site.tickets()
    assert ticket["proof"] == "fabric"
    assert site.findings("gpu-0003") == [("ib-miscabled", "mlx5_1/1"), ("ib-miscabled", "mlx5_2/1")]
    assert site.events("fabric.cause") == ["fabric.cause_found"]

    site.look()  # the same again: one ticket still, and nobody is told twice
    assert [row["id"] for row in site.tickets()] == [ticket["id"]]
    assert site.events("fabric.cause") == ["fabric.cause_found"]

    site.db.write(lambda tx: tickets.claim(tx, ticket["id"], actor=MARA, force="the job ends in a minute"))
    site.clock.advance(60)
    site.db.write(lambda tx: tickets.done(tx, ticket["id"], actor=MARA, evidence="plugs exchanged"))
    assert site.tickets()[0]["state"] == "verifying"
    site.look()  # a word closes nothing
    assert site.tickets()[0]["state"] in ("open", "claimed")

    site.cabling.swap(a, b)
    site.look()
    (ticket,) = site.tickets()
    assert ticket["state"] == "done"
    assert site.open() == []
    assert site.findings("gpu-0003") == []
    assert site.events("fabric.cause") == ["fabric.cause_found", "fabric.cause_cleared"]


def test_a_half_done_job_is_the_same_ticket(site: Site) -> None:
    first, second, third = (Port(f"gpu-000{n}", "mlx5_0") for n in (1, 2, 3))
    site.cabling.swap(first, second)
    site.cabling.swap(second, third)
    site.look()
    (ticket,) = site.tickets()
    site.cabling.swap(second, third)
    site.look()
    (again,) = [row for row in site.tickets() if row["state"] != "done"]
    assert again["id"] == ticket["id"]
    assert len(site.open()) == 1


def test_a_look_that_was_blind_closes_nothing(site: Site) -> None:
    site.cabling.cut(Port("gpu-0005", "mlx5_3"))
    site.look()
    assert [row["kind"] for row in site.open()] == ["cable-absent"]
    assert site.findings("gpu-0005") == [("ib-uncabled", "mlx5_3/1")]
    site.cabling.mute = set(site.blueprint.chassis) - {"gpu-0001", "leaf-r0-01"}
    report = site.look().report
    assert not report["coverage"]["complete"]
    assert [row["kind"] for row in site.open() if row["confirmed"]] == ["cable-absent"]
    assert site.findings("gpu-0005") == [("ib-uncabled", "mlx5_3/1")]
    assert "fabric.coverage_changed" in site.events("fabric.coverage")
    assert "fabric.cause_cleared" not in site.events("fabric")
    site.cabling.mute = set()
    site.cabling.plug(Port("gpu-0005", "mlx5_3"), site.blueprint.by_port[Port("gpu-0005", "mlx5_3")].b)
    site.look()
    assert site.open() == []


def test_a_dead_switch_needs_a_second_witness(site: Site) -> None:
    spines = sorted(name for name in site.blueprint.chassis if name.startswith("spine"))
    site.cabling.dark = {spines[0]}
    site.look("sm01")
    (row,) = site.open()
    assert (row["kind"], row["confirmed"]) == ("switch-down", False)
    assert site.tickets() == []
    assert site.events("fabric.cause") == []
    site.look("gpu-0008")
    (row,) = site.open()
    assert row["confirmed"]
    assert [ticket["subject"] for ticket in site.tickets()] == ["switch"]
    assert site.events("fabric.cause") == ["fabric.cause_found"]


def test_a_replaced_hca_is_no_fault_and_waits_for_a_word(site: Site) -> None:
    site.look()
    known = site.db.read(lambda tx: store.known_parts(tx, NET))
    assert len(known) == len({site.cabling._node(port) for port in site.cabling.links})
    old = site.cabling.guids["gpu-0002", "mlx5_4"]
    site.cabling.guids["gpu-0002", "mlx5_4"] = 0x0002C903DEADBE00
    report = site.look().report
    assert report["cables"]["ok"] == len(site.blueprint.cables)
    assert [row["kind"] for row in site.open()] == ["part-replaced"]
    assert site.tickets() == []
    (waiting,) = site.db.read(lambda tx: store.parts(tx, NET, state="replaced"))
    assert (waiting["chassis"], waiting["port"]) == ("gpu-0002", "mlx5_4")
    assert site.db.read(lambda tx: store.part_places(tx, NET))[old][1] == "known"


def test_an_unmanaged_node_is_told_of_and_left_alone(site: Site) -> None:
    node = site.nodes["gpu-0004"]
    site.db.write(lambda tx: nodes.update(tx, node.id, {"service": Service.UNMANAGED.value}))
    site.cabling.swap(Port("gpu-0004", "mlx5_1"), Port("gpu-0004", "mlx5_2"))
    site.look()
    assert site.findings("gpu-0004") == [("ib-miscabled", "mlx5_1/1"), ("ib-miscabled", "mlx5_2/1")]
    after = site.db.read(lambda tx: nodes.get(tx, node.id))
    assert (after.state, after.pending_state) == (node.state, None)
    assert site.db.read(lambda tx: nodes.holds(tx, [node.id])) == []


def test_a_dump_of_another_fabric_changes_nothing_of_this_one(site: Site) -> None:
    site.cabling.cut(Port("gpu-0005", "mlx5_3"))
    site.look()
    ours = site.cabling
    strange = fat_tree(8, 8, host_name="other-####")
    boxes = {name: f"x-{name}" for name, one in strange.chassis.items() if one.kind is ChassisKind.SWITCH}
    site.cabling = Cabling(_renamed(strange, boxes))
    site.cabling.guids = {node: guid + 0x10000000 for node, guid in site.cabling.guids.items()}
    site.look()
    assert sorted(row["kind"] for row in site.open()) == ["cable-absent", "other-fabric"]
    assert [row["state"] for row in site.tickets()] == ["open"]
    site.cabling = ours
    site.look()
    assert [row["kind"] for row in site.open()] == ["cable-absent"]


def test_a_cause_that_falls_apart_is_two(site: Site) -> None:
    ports = [Port(f"gpu-000{n}", "mlx5_0") for n in (1, 2, 3, 4)]
    for one, two in itertools.pairwise(ports):
        site.cabling.swap(one, two)
    site.look()
    (whole,) = site.open()
    for port in ports:
        cable = site.blueprint.by_port[port]
        site.cabling.plug(cable.a, cable.b)
    site.cabling.swap(ports[0], ports[1])
    site.cabling.swap(ports[2], ports[3])
    site.look()
    rows = site.open()
    assert len(rows) == 2
    assert whole["id"] in {row["id"] for row in rows}
    assert len({row["ticket_id"] for row in rows}) == 2


def _renamed(blueprint: Blueprint, names: dict[str, str]) -> Blueprint:
    def port(old: Port) -> Port:
        return Port(names.get(old.chassis, old.chassis), old.name)

    cables = tuple(
        cable._replace(a=min(port(cable.a), port(cable.b)), b=max(port(cable.a), port(cable.b)))
        for cable in blueprint.cables
    )
    chassis = {
        names.get(name, name): replace(one, name=names.get(name, name)) for name, one in blueprint.chassis.items()
    }
    return Blueprint(blueprint.name, blueprint.source, chassis, cables)


def test_a_node_that_is_out_of_production_gets_no_finding_of_its_cables(site: Site) -> None:
    node = site.nodes["gpu-0006"]
    site.db.write(lambda tx: nodes.update(tx, node.id, {"state": State.TRIAGE.value}))
    site.cabling.cut(Port("gpu-0006", "mlx5_0"))
    site.look()
    assert site.findings("gpu-0006") == []
    assert len(site.tickets()) == 1


def test_a_link_that_goes_down_again_and_again_is_found_over_many_looks(site: Site) -> None:
    port = Port("gpu-0007", "mlx5_2")
    site.clock.advance(3600)  # the nodes booted a while ago: nothing of this is explained by it
    for downs in range(4):
        site.cabling.counters = {port: {"LinkDownedCounter": downs}} if downs else {}
        site.clock.advance(540)
        site.look()
        assert [row["kind"] for row in site.open()] == (["link-trouble"] if downs == 3 else [])
    assert ("ib-flapping", "mlx5_2/1") in site.findings("gpu-0007")
    (ticket,) = [row for row in site.tickets() if row["proof"] == "fabric"]
    assert str(site.blueprint.by_port[port].b.chassis) in ticket["instruction"] + ticket["cause"] + str(ticket["steps"])
    site.clock.advance(13 * 3600)  # the window of 12 h is over, and nothing was added
    site.look()
    assert site.open() == []
    assert [row["state"] for row in site.tickets() if row["id"] == ticket["id"]] == ["done"]


def test_a_cable_that_stays_out_is_one_cause_and_reboots_nobody(site: Site) -> None:
    site.look()
    site.cabling.cut(Port("gpu-0005", "mlx5_3"))
    for _ in range(4):
        site.clock.advance(900)
        site.look()
        assert [row["kind"] for row in site.open()] == ["cable-absent"]
    assert len(site.tickets()) == 1
    assert site.findings("gpu-0005") == [("ib-uncabled", "mlx5_3/1")]


def test_many_causes_are_written_in_turns_and_a_death_between_them_is_healed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "BATCH", 2)
    ports = [Port(f"gpu-000{n}", f"mlx5_{n}") for n in range(1, 6)]
    for port in ports:
        site.cabling.cut(port)
    with monkeypatch.context() as dying:
        dying.setattr(site.fabrics, "_go_on", _dies)
        with pytest.raises(SystemExit):
            site.look()
    assert len(site.open()) == 2
    site.look()
    assert len(site.open()) == len(site.tickets()) == 5
    for port in ports:
        site.cabling.plug(port, site.blueprint.by_port[port].b)
    site.look()
    assert site.open() == []
    assert {row["state"] for row in site.tickets()} == {"done"}
    assert site.events("fabric.cause").count("fabric.cause_found") == 5


def test_a_newer_look_takes_over_from_one_that_is_still_writing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "BATCH", 1)
    for number in (1, 2, 3):
        site.cabling.cut(Port(f"gpu-000{number}", "mlx5_0"))
    go_on = site.fabrics._go_on
    taken: list[str] = []

    def overtaken(tx: Tx, *, look: Look, rest: books.Rest) -> books.Rest | None:
        if not taken:
            taken.append(look.snapshot_id)
            row = dict(
                store.snapshot(tx, NET, look.snapshot_id), id=new_id("snap"), taken_at=look.taken_at + 1, body=None
            )
            store.insert_snapshot(tx, row)
        return go_on(tx, look=look, rest=rest)

    monkeypatch.setattr(site.fabrics, "_go_on", overtaken)
    site.look()
    assert len(site.open()) == 1  # what the newer look will say of the others is its business


def test_a_ticket_that_nothing_can_prove_is_withdrawn_and_comes_back_if_it_is_so(site: Site) -> None:
    site.cabling.cut(Port("gpu-0005", "mlx5_3"))
    site.look()
    (ticket,) = site.tickets()
    with pytest.raises(BadInput, match="Say why"):
        site.db.write(lambda tx: tickets.withdraw(tx, ticket["id"], actor=MARA, reason=" "))
    site.db.write(lambda tx: tickets.withdraw(tx, ticket["id"], actor=MARA, reason="the hall is being taken down"))
    (ticket,) = site.tickets()
    assert (ticket["state"], ticket["closing"]["by"]) == ("done", MARA.name)
    site.look()
    assert sorted(row["state"] for row in site.tickets()) == ["done", "open"]


def _dies(*_: object, **__: object) -> None:
    raise SystemExit
