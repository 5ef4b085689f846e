"""Replacements and their evidence: thresholds by serial number, the case's way, the archive a vendor gets."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ostler.brake.pause_file import PauseFile
from ostler.breakfix import bundle, cases, store
from ostler.breakfix.model import BreakfixSettings, CaseState
from ostler.core.clock import ManualClock
from ostler.core.errors import BadInput, Conflict, NotFound, Refused
from ostler.core.ids import new_id
from ostler.db.engine import Database
from ostler.db.schema import decision
from ostler.nodes import store as nodes
from ostler.nodes.model import Node
from ostler.tickets import store as tickets
from tests.flow.fleet import MARA, XID79, Fleet

SETTINGS = BreakfixSettings(replace_after=3, replace_window_s=1000.0)
GPU = "0000:18:00.0"
INVENTORY = {"gpus": [{"pci": GPU, "model": "H100", "serial": "165A"}, {"pci": "0000:2a:00.0", "serial": "165B"}]}


@pytest.fixture
def fleet(db: Database, clock: ManualClock, tmp_path: Path) -> Fleet:
    return Fleet(db, clock, PauseFile(tmp_path / "pause"))


@pytest.fixture
def node(fleet: Fleet) -> Node:
    (node,) = fleet.add()
    fleet.db.write(lambda tx: nodes.update(tx, node.id, {"inventory": INVENTORY}))
    return fleet.node(node)


def repaired(fleet: Fleet, node: Node, serial: str, action: str = "reset-gpu") -> None:
    row = {"id": new_id("decision"), "node_id": node.id, "action": action, "timing": "pending", "verdict": "act"}
    fleet.db.write(
        lambda tx: tx.execute(decision.insert().values(**row, reasons=["x"], fault="gpu-hot", serial=serial, at=tx.now))
    )


def request(fleet: Fleet, node: Node, part: str = "gpu", name: str = GPU, *, override: bool = False) -> str:
    return fleet.db.write(
        lambda tx: cases.request(
            tx, node, part=part, name=name, reason="keeps failing", actor=MARA, settings=SETTINGS, override=override
        )
    )


def test_a_replacement_is_earned_by_serial_number(fleet: Fleet, node: Node) -> None:
    for _ in range(2):
        repaired(fleet, node, "165A")
    repaired(fleet, node, "165B")
    with pytest.raises(Refused, match="2 of 3 repairs within"):
        request(fleet, node)
    (elsewhere,) = fleet.add()
    repaired(fleet, elsewhere, "165A")  # the same GPU in another chassis
    case_id = request(fleet, node)
    row = fleet.db.read(lambda tx: store.case(tx, case_id))
    assert (row["serial"], row["part"], row["state"]) == ("165A", "gpu", "open")
    assert row["evidence"]["repairs"] == 3
    (ticket,) = fleet.db.read(lambda tx: tickets.listed(tx, node_id=node.id))
    assert "serial number 165A" in ticket["instruction"]
    assert request(fleet, node) == case_id


def test_old_repairs_do_not_count_and_an_operator_overrides(fleet: Fleet, node: Node) -> None:
    for _ in range(3):
        repaired(fleet, node, "165A")
    fleet.clock.advance(1001)
    with pytest.raises(Refused):
        request(fleet, node)
    assert request(fleet, node, override=True)


def test_a_decision_for_rma_is_enough(fleet: Fleet, node: Node) -> None:
    repaired(fleet, node, "165A", "rma")
    assert request(fleet, node)


@pytest.mark.parametrize(
    ("part", "name", "error", "says"),
    [
        ("gpu", "", BadInput, "Say which: gpu-1 has 0000:18:00.0, 0000:2a:00.0"),
        ("gpu", "0000:99:00.0", NotFound, "it has 0000:18:00.0"),
        ("flux", "", NotFound, "no part of the kind 'flux'"),
    ],
)
def test_which_part(fleet: Fleet, node: Node, part: str, name: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        request(fleet, node, part, name, override=True)


def test_the_way_of_a_case(fleet: Fleet, node: Node) -> None:
    case_id = request(fleet, node, override=True)

    def go(to: CaseState, **more: Any) -> None:
        fleet.db.write(lambda tx: cases.advance(tx, case_id, to, actor=MARA, reason="so", **more))

    go(CaseState.SHIPPED, vendor_case="NV-1")
    with pytest.raises(BadInput, match="old part's serial"):
        go(CaseState.REPLACED, replacement_serial="165A")
    go(CaseState.REPLACED, replacement_serial="165C")
    row = fleet.db.read(lambda tx: store.case(tx, case_id))
    assert (row["state"], row["vendor_case"], row["replacement_serial"]) == ("replaced", "NV-1", "165C")
    assert row["closed_at"] == fleet.clock.now()
    with pytest.raises(Conflict, match="is replaced; it is closed"):
        go(CaseState.REFUSED)
    assert request(fleet, node, override=True) != case_id


def test_the_vendors_archive_holds_the_evidence_and_its_sums(fleet: Fleet, node: Node) -> None:
    fleet.say(node, XID79)
    case_id = request(fleet, node, override=True)
    packed = fleet.db.read(lambda tx: bundle.archive(tx, case_id, SETTINGS))
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as tar:
        files = {entry.name: _bytes(tar, entry) for entry in tar.getmembers()}
    assert {name.partition("/")[0] for name in files} == {case_id}
    inside = {name.partition("/")[2]: data for name, data in files.items()}
    for line in inside["SHA256SUMS"].decode().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(inside[name]).hexdigest() == digest
    assert set(inside) - {"SHA256SUMS"} == {line.split("  ")[1] for line in inside["SHA256SUMS"].decode().splitlines()}
    assert b"GPU has fallen off the bus" in inside["kernel.log"]
    assert json.loads(inside["case.json"])["serial"] == "165A"
    assert {part["serial"] for part in json.loads(inside["parts.json"])} >= {"165A", "165B"}
    (found,) = [json.loads(line) for line in inside["findings.jsonl"].splitlines()]
    assert found["fault"] == "gpu-off-bus"
    assert b"165A" in inside["README.txt"]


def _bytes(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(entry)
    assert file is not None
    return file.read()
