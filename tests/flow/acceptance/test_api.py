"""`/v1/nodes/{node}/acceptance` and `/v1/skus` as programs see them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from ostler.acceptance import api
from ostler.access.model import Principal, Role
from ostler.core.clock import ManualClock
from ostler.core.errors import Forbidden
from ostler.db.engine import Database
from ostler.http.operator import operator_api
from ostler.nodes.model import State
from tests.flow.acceptance.world import SKU, World


def client(world: World, role: Role = Role.ADMIN) -> TestClient:
    def authorize(needed: Role) -> Callable[..., Principal]:
        def dependency() -> Principal:
            if role < needed:
                raise Forbidden(f"This needs the role {needed}.")
            return Principal("person:mara", role)

        return dependency

    return TestClient(operator_api([api.router(world.db, authorize, world.settings)]))


@pytest.fixture
def world(sqlite_db: Database, clock: ManualClock) -> World:
    return World(sqlite_db, clock)


def test_a_node_on_its_way_says_where_it_is_and_why(world: World) -> None:
    world.put_in(State.SEATRIAL)
    world.run(0.8)
    seen = client(world, Role.VIEWER).get("/v1/nodes/gpu-0001/acceptance").json()
    assert seen["state"] == "zap"
    assert seen["job"]["procedure"] == "zap"
    assert "BMC 1.0 → 2.0" in seen["job"]["why"]
    assert [update["component"] for update in seen["firmware"]["updates"]] == ["BMC", "BIOS"]
    assert [(outcome["name"], outcome["verdict"]) for outcome in seen["outcomes"]] == [("seatrial", "passed")]
    assert seen["test"]["profile"] == "full"
    world.run(3, until=State.TEST)
    later = client(world).get("/v1/nodes/gpu-0001/acceptance").json()
    assert later["firmware"]["current"] is True


def test_skus_are_declared_by_admins_and_kept(world: World) -> None:
    assert client(world, Role.OPERATOR).put("/v1/skus/new", json={"sku": {"gpus": 4}}).status_code == 403
    answer = client(world).put("/v1/skus/new", json={"sku": {"gpus": 4}, "reason": "bought"})
    assert answer.json() == {"name": "new", "sku": {"gpus": 4}}
    assert [item["name"] for item in client(world).get("/v1/skus").json()["items"]] == ["hgx", "new"]
    (entry,) = [row for row in world.audited("sku.declared") if row["subject"] == "sku:new"]
    assert entry["reason"] == "bought"
    client(world).put("/v1/skus/new", json={"sku": {"gpus": 4}})
    assert len([row for row in world.audited("sku.declared") if row["subject"] == "sku:new"]) == 1


def test_a_mistake_in_a_sku_is_named_and_nothing_changes(world: World) -> None:
    answer = client(world).put("/v1/skus/hgx", json={"sku": {**SKU, "gpus": "many"}})
    assert answer.status_code == 422
    assert answer.json()["where"] == "sku hgx: gpus"
    assert client(world).get("/v1/skus/hgx").json()["sku"]["gpus"] == 2
    assert client(world).get("/v1/skus/none").status_code == 404


def test_a_sku_is_assigned(world: World) -> None:
    client(world).put("/v1/skus/other", json={"sku": {"gpus": 4}})
    assert client(world).put("/v1/nodes/gpu-0001/sku", json={"sku": "other"}).json()["sku"] == "other"
    assert client(world).put("/v1/nodes/gpu-0001/sku", json={"sku": "missing"}).status_code == 404
    assert world.node.sku == "other"
