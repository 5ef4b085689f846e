"""Causes, tickets and findings: what ends them, and what does not."""

from __future__ import annotations

from dataclasses import replace

from ostler.db.tx import Tx
from ostler.fabric import blueprints
from ostler.fabric.model import Blueprint, Port
from ostler.fabric.settings import FabricSettings
from ostler.fabric.work import key_of
from ostler.nodes import store as nodes
from ostler.nodes.model import State
from ostler.tickets import service as tickets
from ostler.tickets.model import Subject, Work
from tests.flow.fabric.looking import PORT, bare, counted, far, push
from tests.flow.fabric.site import NET, Site
from tests.flow.fleet import MARA


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
