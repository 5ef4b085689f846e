"""Day 0 through the real apps, on both databases: from power-on to `onboard`, and everything that is refused."""

from __future__ import annotations

import concurrent.futures
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from ostler.core.clock import ManualClock
from ostler.core.errors import Unauthenticated, Unreachable
from ostler.db.engine import Database
from ostler.db.schema import agent_certificate, boot_request, join_token
from ostler.nodes import service as nodes
from ostler.nodes import store as node_store
from ostler.nodes.model import Capability, Slot, State
from ostler.provisioning import service
from ostler.provisioning.certified import CertifiedNodes
from tests.flow.provisioning.site import PERSON, SETTINGS, Machine, Site, certificate_request


@pytest.fixture
def site(db: Database, clock: ManualClock, tmp_path: Path) -> Site:
    return Site(db, clock, tmp_path)


def count(site: Site, table: sa.Table) -> int:
    return int(site.db.read(lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(table))))


def adopted(site: Site, mac: str, serial: str | None = None, name: str = "gpu-0001") -> str:
    """A node that runs in production since before Ostler."""
    return site.db.write(
        lambda tx: nodes.register(
            tx,
            name=name,
            pool="default",
            actor=PERSON,
            cause="adopt",
            state=State.PRODUCTION,
            serial=serial,
            macs=(mac,),
        )
    ).id


# The way it goes ------------------------------------------------------------------------------------------------------


def test_an_unknown_machine_boots_joins_and_is_in_onboard_by_itself(site: Site) -> None:
    machine = Machine(site)
    machine.power_on()
    assert site.node().state is State.DISCOVERED
    assert site.node().macs == (machine.mac,)
    answer = machine.join()
    assert answer.status_code == 200
    joined = answer.body
    assert (joined["node_name"], joined["node_id"]) == ("gpu-0001", site.node().id)
    assert joined["settings"] == {"verbs": ["run-check"]}
    assert site.node().state is State.ONBOARD
    assert site.node().uuid == machine.uuid
    certificate = x509.load_pem_x509_certificate(joined["certificate_pem"].encode())
    certificate.verify_directly_issued_by(site.ca)
    (row,) = site.db.read(lambda tx: tx.all(sa.select(agent_certificate)))
    assert row["fingerprint"] == certificate.fingerprint(hashes.SHA256()).hex()
    assert row["expires_at"] == certificate.not_valid_after_utc.timestamp()
    assert len(site.audited("node.joined")) == 1


def test_the_first_stage_asks_again_with_the_machines_identity(site: Site) -> None:
    script = site.boot.get("/boot/ipxe").text
    assert "mac=${net0/mac}&serial=${serial:uristring}&uuid=${uuid}" in script
    assert count(site, boot_request) == 0


def test_reading_the_seed_uses_nothing_up(site: Site) -> None:
    machine = Machine(site)
    machine.power_on()
    for _ in range(5):
        assert site.boot.get(f"/seed/{machine.seed['nonce']}/user-data").status_code == 200
    assert machine.join().status_code == 200


def test_the_database_knows_no_secret(site: Site) -> None:
    machine = Machine(site)
    machine.power_on()
    rows = site.db.read(lambda tx: [*tx.all(sa.select(join_token)), *tx.all(sa.select(boot_request))])
    assert len(rows) == 2
    assert machine.seed["token"] not in str([dict(row) for row in rows])


def test_a_production_node_that_reboots_comes_back_as_it_was(site: Site) -> None:
    node_id = adopted(site, "02:00:00:00:00:01", "GPU-0001")
    machine = Machine(site)
    machine.power_on()
    assert machine.join().status_code == 200
    assert site.node().state is State.PRODUCTION
    assert [node.id for node in site.nodes()] == [node_id]
    machine.power_on()
    assert machine.join().status_code == 200, "and again: it has no disk to keep its certificate on"
    rows = site.db.read(lambda tx: tx.all(sa.select(agent_certificate).order_by(agent_certificate.c.issued_at)))
    assert sorted(row["revoked_at"] is None for row in rows) == [False, True], "only the last key speaks for it"


def test_the_slots_network_reaches_the_node(site: Site) -> None:
    node_id = adopted(site, "02:00:00:00:00:01", "GPU-0001")
    network = {"ethernets": {"rail0": {"match": {"macaddress": "02:00:00:00:00:01"}, "addresses": ["10.9.0.5/24"]}}}
    site.db.write(lambda tx: node_store.put_slot(tx, Slot("fra1/a/r1/u1", "fra1", "a", "r1", "u1", {}, network)))
    site.db.write(lambda tx: node_store.update(tx, node_id, {"slot": "fra1/a/r1/u1"}))
    machine = Machine(site)
    machine.power_on()
    text = site.boot.get(f"/seed/{machine.seed['nonce']}/network-config").text
    assert "10.9.0.5/24" in text


# Who may not boot -----------------------------------------------------------------------------------------------------


def test_without_the_grant_a_machine_goes_on_with_its_own_disk(site: Site) -> None:
    site.define_pool(frozenset({Capability.OBSERVE}))
    adopted(site, "02:00:00:00:00:01", "GPU-0001")
    script = Machine(site).ask()
    assert script.rstrip().endswith("exit")
    assert "does not grant provision" in script
    assert count(site, join_token) == 0


def test_unknown_machines_wait_where_they_are_not_registered(db: Database, clock: ManualClock, tmp_path: Path) -> None:
    site = Site(db, clock, tmp_path, replace(SETTINGS, register_unknown=False))
    assert "unknown machines are not registered" in Machine(site).ask()
    assert site.nodes() == []


def test_machines_that_never_join_cannot_fill_the_books(db: Database, clock: ManualClock, tmp_path: Path) -> None:
    site = Site(db, clock, tmp_path, replace(SETTINGS, unjoined_limit=2))
    for number in range(4):
        Machine(site, f"02:00:00:00:00:0{number}", f"SN-{number}").ask()
    assert len(site.nodes()) == 2


def test_one_serial_number_on_two_machines_is_held(site: Site) -> None:
    Machine(site).power_on()
    script = Machine(site, mac="02:00:00:00:00:02").ask()
    assert "held for a person" in script
    assert "sleep 10" in script
    assert "two machines carry one serial number" in site.holds()["gpu-0001"]
    assert len(site.nodes()) == 1
    Machine(site, mac="02:00:00:00:00:02").ask()
    assert len(site.audited("node.held")) == 1, "asking again writes nothing"


def test_a_swapped_board_waits_until_a_person_says_so(site: Site) -> None:
    adopted(site, "02:00:00:00:00:01", "GPU-0001")
    swapped = Machine(site, serial="GPU-0007")
    assert "its board was swapped" in swapped.ask()
    genuine = Machine(site)
    assert "seed" in genuine.ask(), "a forged claim does not keep the genuine node from booting"
    answer = site.people.post("/v1/nodes/gpu-0001/identity", json={"serial": "GPU-0007", "reason": "board replaced"})
    assert answer.status_code == 200, answer.text
    assert site.holds() == {}
    swapped.power_on()
    assert swapped.join().status_code == 200
    assert site.node().serial == "GPU-0007"
    assert site.audited("node.identity_settled")[0]["reason"] == "board replaced"


def test_a_machine_without_a_serial_number_is_entered_and_waits(site: Site) -> None:
    machine = Machine(site, serial="To Be Filled By O.E.M.")
    assert "no serial number worth the name" in machine.ask()
    assert "nobody has confirmed yet" in machine.ask()
    (node,) = site.nodes()
    assert (node.name, node.serial, node.state) == ("node-020000000001", None, State.DISCOVERED)
    site.people.post(f"/v1/nodes/{node.name}/identity", json={"serial": "", "reason": "prototype, has none"})
    machine.power_on()
    assert machine.join(serial="To Be Filled By O.E.M.").status_code == 200


def test_two_interfaces_of_one_new_machine_at_once_make_one_node(site: Site) -> None:
    macs = [f"02:00:00:00:00:1{number}" for number in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        scripts = list(pool.map(lambda mac: Machine(site, mac=mac).ask(), macs))
    assert len(site.nodes()) == 1
    assert sum("/seed/" in script for script in scripts) == 1
    assert sum("held for a person" in script for script in scripts) == 3


@pytest.mark.parametrize(
    "parameters",
    [
        {"mac": "nonsense"},
        {"mac": "02:00:00:00:00:01\nboot"},
        {"mac": "x" * 5000},
        {"mac": "02:00:00:00:00:01", "serial": "s" * 600},
        {"mac": "02:00:00:00:00:01", "serial": "\x01\xff\n#!ipxe\nshell", "uuid": "${net0/mac}\nshell"},
        {"mac": ["a", "b"]},
    ],
)
def test_whatever_a_machine_sends_it_gets_a_script(site: Site, parameters: dict[str, str]) -> None:
    response = site.boot.get("/boot/ipxe", params=parameters)
    assert response.status_code == 200
    lines = response.text.splitlines()
    assert lines[0] == "#!ipxe"
    assert "shell" not in lines
    assert any(line.startswith("sleep") for line in lines)


def test_a_forged_host_header_reaches_no_script(db: Database, clock: ManualClock, tmp_path: Path) -> None:
    site = Site(db, clock, tmp_path, replace(SETTINGS, boot_url=""))
    assert site.boot.get("/boot/ipxe", headers={"host": "x y;shell"}).status_code == 400
    assert (
        "chain --replace --autofree http://10.2.2.2:80/boot"
        in site.boot.get("/boot/ipxe", headers={"host": "10.2.2.2:80"}).text
    )


@pytest.mark.parametrize(
    ("trouble", "shown"),
    [
        (RuntimeError("a bug with secrets"), "internal error"),
        (Unreachable("The database does not answer."), "The database does not answer."),
    ],
)
def test_trouble_of_ours_is_a_script_that_waits(
    site: Site, monkeypatch: pytest.MonkeyPatch, trouble: Exception, shown: str
) -> None:
    def broken(*_arguments: object) -> None:
        raise trouble

    monkeypatch.setattr(service, "boot", broken)
    script = Machine(site).ask()
    assert shown in script
    assert "secrets" not in script
    assert "asking again in 10 s" in script


def test_a_network_that_would_not_come_up_is_found_before_it_is_served(site: Site) -> None:
    node_id = adopted(site, "02:00:00:00:00:01", "GPU-0001")
    bad = Slot("fra1/a/r1/u1", "fra1", "a", "r1", "u1", {}, {"ethernets": {"rail0": {"mtu": "large"}}})
    site.db.write(lambda tx: node_store.put_slot(tx, bad))
    site.db.write(lambda tx: node_store.update(tx, node_id, {"slot": bad.name}))
    assert "held for a person" in Machine(site).ask()
    assert "slot fra1/a/r1/u1: ethernets.rail0.mtu" in site.holds()["gpu-0001"]
    good = replace(bad, network={"ethernets": {"rail0": {"mtu": 9000}}})
    site.db.write(lambda tx: node_store.put_slot(tx, good))
    Machine(site).power_on()
    assert site.holds() == {}


# Who may not join -----------------------------------------------------------------------------------------------------


def problem(site: Site, machine: Machine, status: int, says: str, **forged: str) -> None:
    answer = machine.join(**forged)
    assert answer.status_code == status
    detail = answer.body["detail"]
    assert says in detail
    assert "\n" not in detail
    refusals = site.audited("node.join_refused")
    assert refusals[-1]["reason"] == detail
    assert machine.seed["token"] not in str(refusals)


def test_a_token_joins_once(site: Site) -> None:
    machine = Machine(site)
    machine.power_on()
    assert machine.join().status_code == 200
    problem(site, machine, 409, "was used already")
    assert count(site, agent_certificate) == 1
    assert site.node().state is State.ONBOARD


def test_of_many_at_once_one_joins(site: Site) -> None:
    machine = Machine(site)
    machine.power_on()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = sorted(answer.status_code for answer in pool.map(lambda _: machine.join(), range(4)))
    assert answers == [200, 409, 409, 409]
    assert count(site, agent_certificate) == 1


def test_an_expired_token_joins_nothing_and_a_fresh_boot_helps(site: Site) -> None:
    machine = Machine(site)
    machine.power_on()
    site.clock.advance(SETTINGS.join_token_s + 1)
    problem(site, machine, 401, "expired 1 s ago")
    assert site.boot.get(f"/seed/{machine.seed['nonce']}/user-data").status_code == 410
    assert site.node().state is State.DISCOVERED
    machine.power_on()
    assert machine.join().status_code == 200


@pytest.mark.parametrize(
    ("forged", "says"),
    [
        ({"token": "forged"}, "never issued"),
        ({"token": "\ud7ff\u0101"}, "never issued"),
        ({"nonce": "other"}, "nonce"),
        ({"mac": "02:00:00:00:00:66"}, "another MAC"),
        ({"serial": "GPU-0666"}, "another serial number"),
        ({"serial": ""}, "another serial number"),
    ],
)
def test_a_forged_join_joins_nothing_and_burns_nothing(site: Site, forged: dict[str, str], says: str) -> None:
    machine = Machine(site)
    machine.power_on()
    problem(site, machine, 401, says, **forged)
    assert count(site, agent_certificate) == 0
    assert machine.join().status_code == 200, "the genuine machine still joins"


def test_a_token_of_one_boot_does_not_join_with_the_nonce_of_another(site: Site) -> None:
    machine = Machine(site)
    machine.power_on()
    first = machine.seed["nonce"]
    machine.power_on()
    problem(site, machine, 401, "nonce", nonce=first)


@pytest.mark.parametrize("request_pem", ["", "nonsense", "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n", "\u0101" * 100])
def test_a_bad_certificate_request_burns_no_token(site: Site, request_pem: str) -> None:
    machine = Machine(site)
    machine.power_on()
    assert machine.join(csr_pem=request_pem).status_code == 422
    assert machine.join().status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"token": 5}', b"\xff\xfe", b'{"token":"x"}'])
def test_what_is_no_join_request(site: Site, body: bytes) -> None:
    answer = site.agents.post("/v1/agent/join", content=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_joining_node_cannot_take_anothers_serial_number(site: Site) -> None:
    adopted(site, "02:00:00:00:00:02", "GPU-0002", "gpu-0002")
    adopted(site, "02:00:00:00:00:01")
    machine = Machine(site, serial="")
    machine.power_on()
    problem(site, machine, 409, "which is that of gpu-0002", serial="GPU-0002")
    assert set(site.holds()) == {"gpu-0001", "gpu-0002"}
    assert count(site, agent_certificate) == 0


# Renewal --------------------------------------------------------------------------------------------------------------


def renew(site: Site, fingerprint: str | None, status: int = 200) -> str:
    """The fingerprint of the new certificate, or the refusal."""
    site.peer = fingerprint
    answer = site.agents.post("/v1/agent/renew", content=certificate_request())
    assert answer.status_code == status, answer.text
    if status != 200:
        return str(answer.json()["detail"])
    assert answer.json()["node_id"] == site.node().id
    return x509.load_pem_x509_certificate(answer.json()["certificate_pem"].encode()).fingerprint(hashes.SHA256()).hex()


@pytest.fixture
def certified(site: Site) -> str:
    """The fingerprint of a joined node's certificate."""
    machine = Machine(site)
    machine.power_on()
    pem = machine.join().body["certificate_pem"]
    return x509.load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA256()).hex()


def test_a_valid_certificate_is_renewed_and_a_revoked_one_is_not(site: Site, certified: str) -> None:
    renew(site, None, 401)
    renew(site, "00" * 32, 401)
    site.clock.advance(61)
    second = renew(site, certified)
    assert count(site, agent_certificate) == 2
    (entry,) = site.audited("node.certificate_renewed")
    assert entry["subject"] == site.node().id
    machine = Machine(site)
    machine.power_on()
    machine.join()
    for fingerprint in (certified, second):
        assert "no longer, valid" in renew(site, fingerprint, 401), "joined anew: revoked"


def test_whose_answer_was_lost_renews_again_by_the_old_certificate(site: Site, certified: str) -> None:
    nodes_of = CertifiedNodes(site.db)
    made = set()
    for _ in range(3):
        site.clock.advance(61)
        made.add(renew(site, certified))
    assert len(made) == 3
    for fingerprint in (certified, *made):
        assert nodes_of.node_of(fingerprint) == site.node().id
    site.clock.advance(SETTINGS.certificate_days * 86_400 - 182)
    with pytest.raises(Unauthenticated, match="has expired"):
        nodes_of.node_of(certified)
    renew(site, certified, 401)
    last = renew(site, made.pop())
    assert count(site, agent_certificate) < 5, "those that ended are not kept for ever"
    assert nodes_of.node_of(last) == site.node().id


def test_a_node_gets_one_certificate_a_minute(site: Site, certified: str) -> None:
    assert "less than 60 s ago" in renew(site, certified, 503)
    site.clock.advance(61)
    second = renew(site, certified)
    for fingerprint in (certified, second):
        renew(site, fingerprint, 503)
    assert count(site, agent_certificate) == 2


@pytest.mark.parametrize("state", State)
def test_a_node_in_any_state_but_retired_renews(site: Site, certified: str, state: State) -> None:
    site.clock.advance(61)
    node_id = site.node().id
    site.db.write(lambda tx: node_store.update(tx, node_id, {"state": state.value}))
    if state is State.RETIRED:
        assert "is retired" in renew(site, certified, 403)
    else:
        renew(site, certified)
    assert site.node().state is state


@pytest.mark.parametrize("body", [b"", b"nonsense", b"\xff\xfe", b"x" * 100_000])
def test_what_is_no_request_to_renew(site: Site, certified: str, body: bytes) -> None:
    site.clock.advance(61)
    site.peer = certified
    assert site.agents.post("/v1/agent/renew", content=body).status_code == 422
    assert count(site, agent_certificate) == 1


def test_the_authority_is_there_for_a_seed_that_has_only_its_hash(site: Site) -> None:
    assert x509.load_pem_x509_certificate(site.agents.get("/v1/agent/ca").content) == site.ca


# People ---------------------------------------------------------------------------------------------------------------


def test_people_see_exactly_what_a_node_would_get_without_the_token(site: Site) -> None:
    machine = Machine(site)
    served = machine.power_on()
    shown = site.people.get("/v1/nodes/gpu-0001/provision").json()
    assert shown["boot"] == "image"
    assert "ds=nocloud;s=http://10.0.0.1:8471/seed/REDACTED/" in shown["script"]
    told = shown["documents"]["user-data"]
    assert machine.seed["token"] not in told
    assert machine.seed["nonce"] not in told
    real = site.boot.get(f"/seed/{machine.seed['nonce']}/user-data").text
    assert real.replace(machine.seed["token"], "REDACTED").replace(machine.seed["nonce"], "REDACTED") == told
    assert served["hostname"] == "gpu-0001"
    assert shown["requests"][0]["mac"] == machine.mac


def test_expected_nodes_are_recognised_at_their_first_boot(site: Site) -> None:
    row = {
        "name": "gpu-r1-01",
        "macs": ["02-00-00-00-00-01", "02:00:00:00:00:02"],
        "serial": "GPU-0001",
        "slot": "fra1/a/r1/u1",
        "network": {"ethernets": {"rail0": {"match": {"macaddress": "02:00:00:00:00:01"}, "dhcp4": True}}},
        "domains": {"nvlink": "nv1"},
        "bmc_address": "https://10.0.9.1",
    }
    for _ in range(2):
        answer = site.people.post("/v1/expected-nodes", json={"nodes": [row], "reason": "rack r1"})
        assert answer.status_code == 201, answer.text
    (node,) = site.nodes()
    assert (node.name, node.slot, node.bmc_address) == ("gpu-r1-01", "fra1/a/r1/u1", "https://10.0.9.1")
    machine = Machine(site)
    assert machine.power_on()["hostname"] == "gpu-r1-01"
    assert machine.join().status_code == 200
    assert site.node("gpu-r1-01").state is State.ONBOARD
    slot = site.db.read(lambda tx: node_store.get_slot(tx, "fra1/a/r1/u1"))
    assert slot is not None
    assert slot.domains == {"rack": "fra1/a/r1", "nvlink": "nv1"}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"macs": []}, "nodes[0].macs"),
        ({"macs": ["nonsense"]}, "nodes[0].macs"),
        ({"name": "gpu_1"}, "nodes[0].name"),
        ({"name": ""}, "nodes[0].name"),
        ({"serial": "Default string"}, "nodes[0].serial"),
        ({"slot": "somewhere"}, "nodes[0].slot"),
        ({"service": "best"}, "nodes[0].service"),
        ({"bmc": "x"}, "nodes[0]"),
        ({"pool": 7}, "nodes[0].pool"),
        ({"network": {"ethernets": {}}, "slot": "f/a/r/u"}, "nodes[0].network"),
        ({"network": {"ethernets": {}}}, "nodes[0].network"),
    ],
)
def test_a_mistake_in_the_inventory_is_named_and_nothing_is_entered(
    site: Site, change: dict[str, object], where: str
) -> None:
    row = {"name": "gpu-1", "macs": ["02:00:00:00:00:01"], **change}
    answer = site.people.post("/v1/expected-nodes", json={"nodes": [row]})
    assert answer.status_code == 422
    assert answer.json()["where"].startswith(where)
    assert site.nodes() == []


# Files ----------------------------------------------------------------------------------------------------------------


def test_pinned_files_are_served_with_ranges_and_nothing_beside_them(
    db: Database, clock: ManualClock, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "vmlinuz").write_bytes(b"0123456789")
    (folder / ".hidden").write_text("s")
    (tmp_path / "secret").write_text("s")
    site = Site(db, clock, tmp_path, replace(SETTINGS, image_folder=str(folder)))
    assert site.boot.get("/images/vmlinuz").content == b"0123456789"
    part = site.boot.get("/images/vmlinuz", headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    for name in ("../secret", "%2e%2e%2fsecret", "..", ".hidden", "missing"):
        assert site.boot.get(f"/images/{name}").status_code == 404
