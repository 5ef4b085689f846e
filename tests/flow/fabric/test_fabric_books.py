"""What stands in the books of a fabric, and what people change in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from ostler.access.model import Principal, Role
from ostler.db import schema
from ostler.db.tx import Tx
from ostler.fabric import api, rounds, store
from ostler.fabric.push import CollectionIn, packed, unpacked
from ostler.fabric.service import Fabrics
from ostler.fabric.settings import FabricSettings
from ostler.fabric.tasks import Looks
from ostler.http.problems import install
from ostler.nodes import store as nodes
from ostler.remediation import service as remediation
from tests.flow.fabric.looking import PORT, count
from tests.flow.fabric.site import NET, Site
from tests.flow.fleet import HEALTH, MARA


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
    assert site.db.read(lambda tx: store.part_places(tx, NET))[first][1] == "replaced"


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
