"""A server, a fabric under real opensm, and the real commands: from the design to a cable that a look shows mended."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ostler.fabric.designs import own_csv
from ostler.fabric.designs.fat_tree import fat_tree
from ostler.fabric.model import Port
from tests import fabric_lab
from tests.fabric_lab import FabricLab

pytestmark = pytest.mark.xdist_group("fabric-loop")

A, B = Port("gpu-0003", "mlx5_1"), Port("gpu-0003", "mlx5_2")


class Server:
    """`ostler serve` with one fabric that it looks at by itself, and another that is pushed."""

    def __init__(self, folder: Path, lab: FabricLab) -> None:
        self._token = secrets.token_urlsafe(24)
        through = ["env", *(f"{key}={value}" for key, value in lab.environment("gpu-0002").items())]
        (folder / "ostler.toml").write_text(
            f"""
[server]
data_dir = "{folder / "data"}"
listen = "127.0.0.1:0"
boot_listen = "127.0.0.1:0"
agent_listen = "127.0.0.1:0"
[fabrics.compute]
collector = "tools"
through = {json.dumps(through)}
subnet_list = "{lab.subnet_list}"
counters_every_s = 86400.0
sweep_at = []
repair_look_s = 0.5
[fabrics.pushed]
"""
        )
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OSTLER_")}
        self._log = (folder / "server.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ostler", "serve", "--config", str(folder / "ostler.toml")],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**kept, "OSTLER_ADMIN_TOKEN": self._token},
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (folder / "server.log").read_text()[-2000:]
        self.environment = {**kept, "OSTLER_URL": json.loads(line)["operator"], "OSTLER_TOKEN": self._token}

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()

    def ran(self, *words: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "ostler", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == status, (words, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout

    def json(self, *words: str, status: int = 0) -> Any:
        return json.loads(self.ran(*words, "--json", status=status))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FabricLab]:
    fabric_lab.needed()
    blueprint = fat_tree(8, 8, leaf_ports=40, switch_model="MQM8700", width=4, speed="HDR")
    with FabricLab(blueprint, tmp_path_factory.mktemp("fabric")) as lab:
        yield lab


@pytest.fixture(scope="module")
def server(lab: FabricLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    assert lab.blueprint is not None
    (folder / "design.csv").write_text(own_csv.write(lab.blueprint))
    server = Server(folder, lab)
    try:
        server.ran("fabric", "import", "compute", str(folder / "design.csv"), "--reason", "as built")
        server.ran("fabric", "import", "pushed", str(folder / "design.csv"), "--reason", "as built")
        yield server
    finally:
        server.stop()


def through(lab: FabricLab) -> list[str]:
    """Words that make the commands' tools look at the simulated fabric, from another host than the server's."""
    pairs = (f"{key}={value}" for key, value in lab.environment("gpu-0004").items())
    return [part for word in ("env", *pairs) for part in ("--through", word)]


def _exchange(lab: FabricLab) -> None:
    one, two = lab.unlink(A), lab.unlink(B)
    assert one is not None and two is not None
    lab._link(lab.end(A), two)
    lab._link(lab.end(B), one)
    lab.settle()


def test_a_swapped_cable_is_found_moved_and_proved(server: Server, lab: FabricLab) -> None:
    assert lab.blueprint is not None
    cables = len(lab.blueprint.cables)
    report = server.json("fabric", "look", "compute")
    assert report["clean"] and report["cables"]["ok"] == cables

    _exchange(lab)
    report = server.json("fabric", "look", "compute", status=1)
    (cause,) = report["causes"]
    assert cause["kind"] == "miscabled"
    assert {(move["from"], move["to"]) for move in cause["moves"]} == {(str(A), str(B)), (str(B), str(A))}
    (open_cause,) = [json.loads(line) for line in server.ran("fabric", "causes", "compute", "--json").splitlines()]
    ticket = open_cause["ticket_id"]
    shown = server.ran("tickets", "show", ticket)
    assert "mlx5_1" in shown and "mlx5_2" in shown

    server.ran("tickets", "claim", ticket, "--force", "nothing runs yet")
    _exchange(lab)
    server.ran("tickets", "done", ticket, "--evidence", "exchanged")
    server.ran("fabric", "look", "compute")
    assert server.json("tickets", "show", ticket)["state"] == "done"
    assert server.json("fabric", "show", "compute")["causes"] == []


def test_what_another_host_sees_is_pushed(server: Server, lab: FabricLab) -> None:
    looked = server.ran("fabric", "collect", "pushed", "--once", *through(lab))
    assert "ok" in looked
    lab.unlink(B)
    lab.settle()
    looked = server.ran("fabric", "collect", "pushed", "--once", *through(lab), status=1)
    assert "cable-absent" in looked
    lab.restore()
    lab.settle()
    server.ran("fabric", "collect", "pushed", "--once", *through(lab))


def test_a_look_from_a_file_says_the_same(server: Server, lab: FabricLab, tmp_path: Path) -> None:
    design, observed = tmp_path / "design.csv", tmp_path / "look.json"
    design.write_text(server.ran("fabric", "export", "compute"))
    server.ran("fabric", "snapshot", "--out", str(observed), *through(lab))
    server.ran("fabric", "check", "--blueprint", str(design), "--observed", str(observed))
    lab.unlink(A)
    later = tmp_path / "later.json"
    server.ran("fabric", "snapshot", "--out", str(later), *through(lab))
    found = json.loads(server.ran("fabric", "check", "-b", str(design), "-o", str(later), "--json", status=1))
    assert [cause["kind"] for cause in found["causes"]] == ["cable-absent"]
    assert str(A) in server.ran("fabric", "diff", str(observed), str(later), status=1)
    lab.restore()
