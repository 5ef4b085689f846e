"""A machine that runs already gets its agent: adopted, seeded by a person, joined, reporting; and never disturbed."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ostler.agent import keys
from ostler.agent.join import Identity, IdentityStore, join
from ostler.agent.renewal import RenewingTransport
from ostler.app import Server, build
from ostler.config import Config, DatabaseSettings, ServerSettings
from ostler.core.clock import ManualClock
from ostler.core.errors import Unauthenticated
from ostler.db.engine import Database
from ostler.db.schema import agent_certificate, audit, idempotency, transition
from ostler.nodes import service as nodes
from ostler.nodes import store as node_store
from ostler.nodes.model import Capability, Condition, Node, State
from ostler.provisioning.model import ProvisioningSettings
from ostler.wire.agent import Heartbeat, Inventory, Nic, Report, System
from ostler.wire.boot import Seed
from ostler.wire.decode import decode
from tests.flow.provisioning.site import PERSON, SETTINGS, Machine, Site

MAC, SERIAL = "02:00:00:00:00:01", "GPU-0001"
ADMIN = "ost_" + "a" * 43
BOOT = "11111111-2222-3333-4444-555555555555"


def register(db: Database, *, name: str = "gpu-0001", mac: str = MAC, serial: str = SERIAL, pool: str = "") -> str:
    return db.write(
        lambda tx: nodes.register(
            tx,
            name=name,
            pool=pool or "default",
            actor=PERSON,
            cause="adopt",
            state=State.PRODUCTION,
            serial=serial or None,
            macs=(mac,) if mac else (),
        )
    ).id


# Through the server as it is served -----------------------------------------------------------------------------------


@pytest.fixture
def server(db_url: str, tmp_path: Path) -> Iterator[Server]:
    anywhere = "127.0.0.1:0"
    config = Config(
        server=ServerSettings(str(tmp_path / "data"), anywhere, anywhere, anywhere),
        database=DatabaseSettings(db_url),
        provisioning=ProvisioningSettings(certificate_days=3),
    )
    built = build(config, {"OSTLER_ADMIN_TOKEN": ADMIN})
    built.start()
    yield built
    built.stop()


def post(
    server: Server, path: str, body: dict[str, Any], key: str = "", token: str = ADMIN
) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.bound['operator'].port}{path}",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        | ({"Idempotency-Key": key} if key else {}),
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def machine(mac: str = MAC, serial: str = SERIAL) -> Inventory:
    return Inventory(system=System("Acme", "GX-8", serial, ""), nics=(Nic("eth0", mac),))


def joined(server: Server, folder: Path, inventory: Inventory | None = None) -> Identity:
    status, document = post(server, "/v1/nodes/gpu-0001/seed", {"reason": "adopted in November"})
    assert status == 201, document
    folder.mkdir(exist_ok=True)
    seed = decode(Seed, json.dumps(document).encode())
    return join(seed, IdentityStore(folder), inventory or machine(), real=time.time)


def speaking(identity: Identity, folder: Path, ahead: float = 0.0) -> RenewingTransport:
    """With a clock that is `ahead` by so many seconds."""
    return RenewingTransport(
        identity, IdentityStore(folder), real=lambda: time.time() + ahead, make=keys.make, ticks=lambda: ahead
    )


def report(transport: RenewingTransport) -> None:
    transport.report(Report(BOOT, time.time(), 1, heartbeat=Heartbeat(1.0), inventory=machine()))


def node_of(server: Server) -> Node:
    return server.db.read(lambda tx: node_store.get(tx, "gpu-0001"))


def count(server: Server, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
    return int(server.db.read(lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(table).where(*where))))


def test_an_adopted_node_gets_its_agent_and_stays_in_production(server: Server, tmp_path: Path) -> None:
    """The pool grants nothing but observing, as it is where Ostler has just arrived."""
    adopted = {"csv": f"name,serial,macs\ngpu-0001,{SERIAL},{MAC}\n", "source": "rack.csv"}
    assert post(server, "/v1/adopt", adopted)[0] in (200, 201)
    before = node_of(server)
    pool = server.db.read(lambda tx: node_store.get_pool(tx, before.pool))
    assert Capability.PROVISION not in pool.capabilities
    assert before.boot_id is None
    moves = count(server, transition)
    transport = speaking(joined(server, tmp_path / "state"), tmp_path / "state")
    report(transport)
    transport.close()
    after = node_of(server)
    assert (after.state, after.state_since, after.boot_id) == (State.PRODUCTION, before.state_since, BOOT)
    assert after.last_seen is not None
    assert count(server, transition) == moves
    assert count(server, audit, audit.c.action == "node.seed_issued", audit.c.reason == "adopted in November") == 1
    assert count(server, audit, audit.c.action == "node.joined") == 1


def test_its_certificate_is_renewed_over_mutual_tls_and_both_work(server: Server, tmp_path: Path) -> None:
    register(server.db)
    folder = tmp_path / "state"
    identity = joined(server, folder)
    server.db.write(  # a certificate a minute: this one is older
        lambda tx: tx.execute(agent_certificate.update().values(issued_at=agent_certificate.c.issued_at - 120))
    )
    transport = speaking(identity, folder, ahead=2.5 * 86_400)
    report(transport)
    report(transport)
    transport.close()
    renewed = IdentityStore(folder).load()
    assert renewed is not None
    assert renewed.certificate_pem != identity.certificate_pem
    assert count(server, agent_certificate, agent_certificate.c.revoked_at.is_(None)) == 2
    assert count(server, audit, audit.c.action == "node.certificate_renewed") == 1
    for one in (renewed, identity):
        transport = speaking(one, folder)
        report(transport)
        transport.close()


def test_a_second_seed_ends_the_first_identity_which_says_what_to_do(server: Server, tmp_path: Path) -> None:
    register(server.db)
    first = joined(server, tmp_path / "first")
    second = joined(server, tmp_path / "second")
    transport = speaking(first, tmp_path / "first")
    with pytest.raises(Unauthenticated, match=r"was revoked.*ostler provision seed gpu-0001"):
        report(transport)
    transport.close()
    transport = speaking(second, tmp_path / "second")
    report(transport)
    transport.close()


def test_a_seed_is_not_kept_for_a_repeated_request(server: Server, tmp_path: Path) -> None:
    register(server.db)
    path, body = "/v1/nodes/gpu-0001/seed", {"reason": "x"}
    status, document = post(server, path, body, "key-1")
    assert status == 201
    status, again = post(server, path, body, "key-1")
    assert status == 409
    assert "held a secret" in again["detail"]
    kept = server.db.read(lambda tx: tx.all(sa.select(idempotency)))
    assert [row["body"] for row in kept] == [None]
    rows = server.db.read(lambda tx: tx.all(sa.select(audit)))
    assert document["token"] not in str([dict(row) for row in rows])


def test_only_an_operator_gets_one(server: Server) -> None:
    register(server.db)
    for role, status in (("technician", 403), ("operator", 201)):
        made = post(server, "/v1/tokens", {"name": role, "role": role})[1]
        assert post(server, "/v1/nodes/gpu-0001/seed", {}, token=made["secret"])[0] == status
    assert post(server, "/v1/nodes/gpu-0001/seed", {}, token="ost_nobody")[0] == 401


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.fixture
def site(db: Database, clock: ManualClock, tmp_path: Path) -> Site:
    made = Site(db, clock, tmp_path)
    made.define_pool(frozenset({Capability.OBSERVE}))
    return made


def seeded(site: Site, name: str = "gpu-0001", **wish: str) -> Machine:
    answer = site.people.post(f"/v1/nodes/{name}/seed", json={"reason": "x", **wish})
    assert answer.status_code == 201, answer.text
    return Machine(site, seed=answer.json())


def refused(machine: Machine, status: int, says: str, **forged: str) -> None:
    answer = machine.join(**forged)
    assert answer.status_code == status, answer.body
    assert says in answer.body["detail"]
    assert machine.site.audited("node.join_refused")[-1]["reason"] == answer.body["detail"]


def test_its_token_joins_once_and_only_that_machine(site: Site) -> None:
    register(site.db)
    machine = seeded(site)
    assert machine.seed["mac"] == MAC
    assert machine.seed["server"] == SETTINGS.server_url
    refused(machine, 401, "another serial number", serial="GPU-0002")
    refused(machine, 401, "another serial number", serial="")
    refused(machine, 401, "another MAC", mac="02:00:00:00:00:02")
    refused(machine, 401, "another MAC", mac="")
    refused(machine, 401, "nonce", nonce="other")
    assert machine.join().status_code == 200
    refused(machine, 409, "was used already")
    assert site.node().state is State.PRODUCTION


def test_it_expires(site: Site) -> None:
    register(site.db)
    machine = seeded(site)
    site.clock.advance(SETTINGS.join_token_s + 1)
    refused(machine, 401, "expired 1 s ago")
    assert seeded(site).join().status_code == 200


def test_without_a_mac_in_the_books_the_serial_number_binds(site: Site) -> None:
    register(site.db, mac="")
    machine = seeded(site)
    assert machine.seed["mac"] is None
    refused(machine, 401, "another serial number", serial="GPU-0002")
    assert machine.join().status_code == 200
    assert site.node().macs == (MAC,), "which is known from now on"


@pytest.mark.parametrize("mac", ["", "80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:0a:0b:0c"])
def test_a_machine_without_ethernet_joins_and_teaches_no_mac(site: Site, mac: str) -> None:
    register(site.db, mac="")
    assert seeded(site).join(mac=mac).status_code == 200
    assert site.node().macs == ()


def test_a_mac_of_another_node_is_not_learnt(site: Site) -> None:
    register(site.db, mac="")
    register(site.db, name="gpu-0002", serial="GPU-0002")
    refused(seeded(site), 409, f"MAC {MAC}, which is that of gpu-0002")
    assert set(site.holds()) == {"gpu-0001", "gpu-0002"}
    answer = site.people.post("/v1/nodes/gpu-0001/seed", json={})
    assert answer.status_code == 409
    assert "held for a person" in answer.json()["detail"]


def test_one_of_several_macs_can_be_chosen(site: Site) -> None:
    node_id = register(site.db)
    site.db.write(lambda tx: node_store.add_macs(tx, node_id, ["02:00:00:00:00:0b"]))
    machine = seeded(site, mac="02-00-00-00-00-0B")
    assert machine.seed["mac"] == "02:00:00:00:00:0b"
    refused(machine, 401, "another MAC")
    assert machine.join(mac="02:00:00:00:00:0b").status_code == 200
    answer = site.people.post("/v1/nodes/gpu-0001/seed", json={"mac": "02:00:00:00:00:99"})
    assert (answer.status_code, answer.json()["where"]) == (422, "mac")


def test_who_gets_no_seed(site: Site) -> None:
    register(site.db, mac="", serial="")
    answer = site.people.post("/v1/nodes/gpu-0001/seed", json={})
    assert answer.status_code == 409
    assert "would fit any machine" in answer.json()["detail"]
    assert site.people.post("/v1/nodes/nobody/seed", json={}).status_code == 404
    assert site.people.post("/v1/nodes/gpu-0001/seed", json={"serial": "x"}).status_code == 422
    retired = register(site.db, name="gpu-0002")
    machine = seeded(site, "gpu-0002")
    site.db.write(lambda tx: node_store.update(tx, retired, {"state": State.RETIRED.value}))
    answer = site.people.post("/v1/nodes/gpu-0002/seed", json={})
    assert answer.status_code == 409
    assert "is retired" in answer.json()["detail"]
    refused(machine, 409, "is retired")
    assert len(site.audited("node.seed_issued")) == 1


def test_a_hold_that_is_not_about_identity_stands_in_nobodys_way(site: Site) -> None:
    node_id = register(site.db)
    site.db.write(
        lambda tx: nodes.raise_condition(tx, node_id, Condition.HELD_FOR_PERSON, reason="no-sku", message="no SKU")
    )
    assert seeded(site).join().status_code == 200


def test_without_the_agents_address_there_is_no_seed(db: Database, clock: ManualClock, tmp_path: Path) -> None:
    site = Site(db, clock, tmp_path, replace(SETTINGS, server_url=""))
    register(site.db)
    answer = site.people.post("/v1/nodes/gpu-0001/seed", json={})
    assert (answer.status_code, answer.json()["where"]) == (422, "server_url")
