"""`ostler adopt` from a file and from clusters, through a real server: dry runs, second runs, large fleets, real Slurm."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

import ostler.nodes.api
from ostler.adapters.cluster.fake import FakeCluster
from ostler.adapters.cluster.port import Cluster, ClusterNode
from ostler.adapters.cluster.slurm import SlurmCluster
from ostler.cli import main
from ostler.core.actor import Actor
from ostler.db.engine import Database
from ostler.db.schema import audit, event
from ostler.http.auth import Doorkeeper
from ostler.http.listeners import Listener, Listeners
from ostler.http.operator import operator_app
from ostler.nodes import adopt, service, store
from ostler.nodes.model import Condition, Pool
from tests import slurm_server

ADMIN = "an-admin-secret-of-the-environment"
MARA = Actor("person:mara")


class Listed(FakeCluster):
    """A cluster whose inventory a test writes; any other call is a touch."""

    def __init__(self, name: str, *nodes: ClusterNode) -> None:
        super().__init__(name)
        self.listed = nodes

    def inventory(self) -> Iterator[ClusterNode]:
        return iter(self.listed)


class Site:
    """A server and its command."""

    def __init__(self, db: Database, sources: dict[str, Cluster], capsys: pytest.CaptureFixture[str]) -> None:
        self.db, self.sources, self._capsys = db, sources, capsys

    def run(self, *words: str) -> tuple[int, str]:
        """The exit status of `ostler adopt …`, and what it printed."""
        self._capsys.readouterr()
        status = main(["adopt", *words])
        said = self._capsys.readouterr()
        return status, said.out + said.err

    def json(self, *words: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads(self.run(*words, "--json")[1])
        return found

    def names(self) -> list[str]:
        return [node.name for node in self.db.read(lambda tx: store.find(tx, sa.true()))]

    def rows(self, table: sa.Table) -> int:
        return int(self.db.read(lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(table))))


@pytest.fixture
def site(sqlite_db: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Site]:
    db = sqlite_db
    db.write(lambda tx: service.define_pool(tx, Pool("default"), actor=MARA))
    db.write(lambda tx: service.define_pool(tx, Pool("train", cluster="hpc"), actor=MARA))
    sources: dict[str, Cluster] = {}
    door = Doorkeeper(db, ADMIN)
    app = operator_app([ostler.nodes.api.router(db, door.authorize, sources)], registry=CollectorRegistry())
    listeners = Listeners([Listener("operator", "[server] listen", "127.0.0.1", 0, app)])
    listeners.start()
    monkeypatch.setenv("OSTLER_URL", listeners.bound["operator"].url)
    monkeypatch.setenv("OSTLER_TOKEN", ADMIN)
    yield Site(db, sources, capsys)
    listeners.stop()


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm_server.Slurm]:
    try:
        with slurm_server.running(tmp_path_factory.mktemp("slurm"), 3) as running:
            yield running
    except slurm_server.Absent as absent:
        if os.environ.get("CI"):
            pytest.fail(f"Slurm is needed here: {absent}")
        pytest.skip(str(absent))


def file(folder: Path, text: str) -> str:
    path = folder / "fleet.csv"
    path.write_text(text)
    return str(path)


def test_a_dry_run_finds_what_adopting_would_and_enters_nothing(site: Site, tmp_path: Path) -> None:
    site.run(file(tmp_path, "name,serial\ngpu-1,SN1\n"))
    events = site.rows(event)
    fleet = file(tmp_path, "name,serial\ngpu-1,SN1\ngpu-2,TWICE\ngpu-3,TWICE\ngpu-4,SN4\n")
    dry = site.json(fleet, "--dry-run")
    assert (dry["adopted"], dry["known"], dry["dry_run"]) == (["gpu-2", "gpu-3", "gpu-4"], ["gpu-1"], True)
    assert site.names() == ["gpu-1"]
    assert site.rows(event) == events
    wet = site.json(fleet)
    assert {**wet, "dry_run": True} == dry
    assert site.run(file(tmp_path, "name,pool\ngpu-9,nowhere\n"), "--dry-run") == (
        2,
        "ostler: line 2: No pool is called 'nowhere'.\n",
    )


def test_what_is_held_is_held_at_the_second_run_too_until_somebody_settles_it(site: Site, tmp_path: Path) -> None:
    fleet = file(tmp_path, "name,serial\ngpu-1,\ngpu-2,SN2\n")
    held = [{"name": "gpu-1", "why": "the source gives no serial number"}]
    for _ in range(2):
        status, _said = site.run(fleet)
        assert status == 1
        assert site.json(fleet)["held"] == held
    node = site.db.read(lambda tx: store.get(tx, "gpu-1"))
    site.db.write(lambda tx: service.clear_condition(tx, node.id, Condition.HELD_FOR_PERSON))
    assert site.run(fleet) == (0, "0 nodes adopted, 2 known already.\n")


def test_a_cluster_is_adopted_into_a_pool_and_only_read(site: Site) -> None:
    cluster = Listed(
        "hpc",
        ClusterNode("gpu-1", True, serial="SN1", sku="h100", slot="fra1/a/r7/u1"),
        ClusterNode("gpu-2", True, serial="0", cordoned_by_others="mara: bad DIMM"),
        ClusterNode("gpu-3", True, serial="SN1"),
    )
    site.sources["kubernetes:hpc"] = cluster
    done = site.json("kubernetes:hpc", "--pool", "train")
    assert done["adopted"] == ["gpu-1", "gpu-2", "gpu-3"]
    assert [one["name"] for one in done["held"]] == ["gpu-1", "gpu-2", "gpu-3"]
    assert done["notes"] == [{"name": "gpu-2", "note": "others keep work off it: mara: bad DIMM"}]
    assert (done["advice"], cluster.calls) == ([], [])
    nodes = site.db.read(lambda tx: store.find(tx, sa.true()))
    assert {(node.pool, node.state, node.serial) for node in nodes} == {("train", "production", None)}
    assert {row["type"] for row in site.db.read(store.conditions)} == {"Uncertified", "HeldForPerson"}
    _status, said = site.run("kubernetes:hpc", "--pool", "default", "--dry-run")
    assert "0 nodes would be adopted, 3 known already; nothing entered." in said
    assert 'put cluster = "hpc" under [pools.default] in the server\'s configuration.' in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["slurm:none-such"], "slurm:none-such: No such source; known are a CSV and the clusters kubernetes:hpc."),
        (["kubernetes:hpc", "--pool", "nowhere"], "No pool is called 'nowhere'."),
        (["no-such-file.csv"], "no-such-file.csv: It cannot be read: No such file or directory."),
    ],
)
def test_a_wrong_source_is_one_line(site: Site, words: list[str], says: str) -> None:
    site.sources["kubernetes:hpc"] = Listed("hpc")
    assert site.run(*words) == (2, f"ostler: {says}\n")


def test_a_cluster_that_does_not_answer_is_said(site: Site) -> None:
    class Silent(Listed):
        def inventory(self) -> Iterator[ClusterNode]:
            self._known(())
            return super().inventory()

    cluster = Silent("hpc")
    cluster.unreachable = True
    site.sources["slurm:hpc"] = cluster
    status, said = site.run("slurm:hpc")
    assert (status, site.names()) == (1, [])
    assert "The cluster does not answer" in said


def test_a_large_fleet_enters_in_batches_over_several_requests(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopt, "BATCH", 4)
    monkeypatch.setattr(adopt, "REQUEST_SECONDS", 0.0)
    fleet = [ClusterNode(f"gpu-{n:02}", True, serial="TWICE" if n in (1, 9) else f"SN{n}") for n in range(10)]
    site.sources["slurm:hpc"] = Listed("hpc", *fleet)
    done = site.json("slurm:hpc", "--pool", "train")
    assert sorted(done["adopted"]) == [node.name for node in fleet]
    why = "the serial number TWICE stands 2 times in the source"
    assert done["held"] == [{"name": name, "why": why} for name in ("gpu-01", "gpu-09")]
    assert (done["known"], done["remaining"]) == ([], 0)
    adoptions = sa.select(sa.func.count()).where(audit.c.action == "fleet.adopted")
    assert site.db.read(lambda tx: tx.scalar(adoptions)) == 3


def test_a_real_slurm_is_adopted_and_nothing_in_it_changes(site: Site, slurm: slurm_server.Slurm) -> None:
    slurm.boot("gpu-01", "gpu-02")
    slurm.run("scontrol", "update", "nodename=gpu-02", "state=drain", "reason=mara: bad DIMM")
    job = slurm.submit("gpu-01", script="exec sleep 600")
    slurm.until(lambda: slurm.job_state(job) == "RUNNING", "the job runs")

    def states() -> list[str]:
        return [slurm.node_state(name) for name in slurm.names]

    before = states()
    site.sources["slurm:hpc"] = SlurmCluster("hpc", conf=str(slurm.conf))
    done = site.json("slurm:hpc", "--pool", "train")
    assert done["adopted"] == ["gpu-01", "gpu-02", "gpu-03"]
    assert [(one["name"], one["note"]) for one in done["notes"]] == [
        ("gpu-02", "others keep work off it: mara: bad DIMM"),
        ("gpu-03", "its scheduler does not hear from it"),
    ]
    assert site.db.read(lambda tx: store.get(tx, "gpu-01")).sku == "h100"
    assert (states(), slurm.job_state(job)) == (before, "RUNNING")
