"""`ostler provision …` against a server that listens: what it prints, and how it fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostler.agent.join import read_seed
from ostler.cli import main
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.http.listeners import Listener, Listeners
from ostler.nodes.model import State
from tests.flow.provisioning.site import Machine, Site


@pytest.fixture
def site(sqlite_db: Database, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = Site(sqlite_db, clock, tmp_path)
    listeners = Listeners([Listener("operator", "[server] listen", "127.0.0.1", 0, made.operator)])
    listeners.start()
    monkeypatch.setenv("OSTLER_URL", listeners.bound["operator"].url)
    yield made
    listeners.stop()


def test_render_shows_every_document_with_its_indentation(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    Machine(site).power_on()
    assert main(["provision", "render", "gpu-0001"]) == 0
    shown = capsys.readouterr().out
    assert "gpu-0001: image (the pool default grants provision)" in shown
    for name in ("boot script", "meta-data", "user-data", "vendor-data", "network-config"):
        assert f"--- {name}\n" in shown
    assert "\n- path: /etc/ostler/seed.json\n  permissions: '0600'\n" in shown
    assert main(["provision", "render", "02:00:00:00:00:01", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["node"] == "gpu-0001"


def test_what_is_not_there_is_one_line(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["provision", "render", "nobody"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "nobody" in told.err
    assert len(told.err.splitlines()) == 1


def test_an_inventory_in_csv_and_a_sku_in_toml(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sku = tmp_path / "hgx.toml"
    sku.write_text('gpus = 8\nmemory_gib = 2048\n[firmware.BIOS]\nversion = "2.1"\n')
    assert main(["provision", "sku", str(sku), "--reason", "new model"]) == 0
    inventory = tmp_path / "rack.csv"
    inventory.write_text(
        "name,macs,serial,slot,sku,bmc_address\n"
        "gpu-1,02:00:00:00:00:01 02:00:00:00:00:02,SN-1,fra1/a/r1/u1,hgx,https://10.0.9.1\n"
        "gpu-2,02:00:00:00:00:03,SN-2,fra1/a/r1/u2,,\n"
    )
    assert main(["provision", "expect", str(inventory)]) == 0
    assert "2 nodes are in the books." in capsys.readouterr().out
    node = site.node("gpu-1")
    assert (node.state, node.sku, len(node.macs)) == (State.DISCOVERED, "hgx", 2)
    assert site.people.get("/v1/skus/hgx").json()["sku"]["firmware"]["BIOS"]["version"] == "2.1"


def test_identity(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    Machine(site, serial="").ask()
    assert main(["provision", "identity", "node-020000000001", "--serial", "SN-77", "--reason", "label"]) == 0
    assert "serial number SN-77" in capsys.readouterr().out
    assert site.holds() == {}


def test_a_seed_is_what_the_agent_reads(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(site)
    machine.power_on()
    capsys.readouterr()
    assert main(["provision", "seed", "gpu-0001", "--reason", "it runs already"]) == 0
    file = tmp_path / "seed.json"
    file.write_text(capsys.readouterr().out)
    seed = read_seed(str(file))
    assert seed.mac == machine.mac
    machine.seed = {"token": seed.token, "nonce": seed.nonce}
    assert machine.join().status_code == 200
    capsys.readouterr()
    assert main(["provision", "seed", "nobody"]) == 2
    assert main(["provision", "seed", "gpu-0001", "--mac", "02:00:00:00:00:99"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "is no MAC of gpu-0001" in told.err


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "name,macs\ngpu-1\n", "another number of fields"),
        ("a.csv", 'name,macs\n"gpu-1,x\n', "CSV"),
        ("a.csv", "name,macs\ngpu-1,zz\n", "nodes[0].macs"),
        ("a.toml", "nodes = 5\n", "list of nodes"),
        ("a.toml", "nodes = [\n", "cannot be read"),
        ("a.yaml", "nodes: [a\n", "no YAML at line"),
        ("a.json", "{", "cannot be read"),
        ("a.txt", "", "must end in"),
        ("a.json", "\xff", "cannot be read"),
    ],
)
def test_a_bad_file_is_one_line(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, says: str
) -> None:
    file = tmp_path / name
    file.write_text(text)
    assert main(["provision", "expect", str(file)]) == 2
    told = capsys.readouterr()
    assert says in told.err
    assert len(told.err.splitlines()) == 1
    assert main(["provision", "expect", str(tmp_path / "missing.csv")]) == 2
    assert site.nodes() == []
