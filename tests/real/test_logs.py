"""The catalogue against recorded data: NVIDIA's tables, 240 labelled lines, a whole boot without a fault."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from ostler.faults import Detector, Kind, bulk
from ostler.faults.nvlink5 import rows
from ostler.faults.nvlink5_table import NVLINK5
from ostler.faults.xid_table import XIDS

ENGINES: list[bulk.Engine] = [bulk.LiteralEngine(), bulk.HyperscanEngine()]

KINDS: dict[str, set[Kind]] = {
    "nvidia-xid": {Kind.XID},
    "nvidia-sxid": {Kind.SXID},
    "nvidia-driver": {Kind.GPU_OFF_BUS, Kind.OTHER},
    "nvidia-peermem": {Kind.OTHER},
    "fabric-manager": {Kind.SXID},
    "oom": {Kind.OOM},
    "kernel": {Kind.LOCKUP, Kind.OTHER},
    "mlx5": {Kind.IB_HEALTH, Kind.IB_MODULE, Kind.IB_LINK, Kind.OTHER},
    "network": {Kind.IB_LINK},
    "block": {Kind.NVME},
    "fs": {Kind.FS},
    "edac": {Kind.EDAC},
    "ipmi-sel": {Kind.POWER, Kind.AER, Kind.OTHER},
}

MISLABELLED = "pci 0000:02:00.0: 4.000 Gb/s available PCIe bandwidth"
"""Two lines whose label repeats the device of the line before them; the device in the line is the right one."""


def labelled(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "logs/labelled_lines.jsonl").read_text().splitlines()]


def test_every_xid_has_the_published_immediate_action(real_data: Path) -> None:
    with (real_data / "xid/xid_catalog.csv").open(newline="") as table:
        published = {
            int(r[1]): (r[8] if len(r) > 8 else "", r[3] == "Unused") for r in csv.reader(table) if r[0] == "XID"
        }
    assert len(published) == 172
    assert {code: (row.bucket, row.unused) for code, row in XIDS.items()} == published


def _pattern(cell: str) -> tuple[int, int]:
    """(mask, value) of a decode cell such as `------000000----------0000100001`."""
    cell = cell.rjust(32, "-")
    assert len(cell) == 32
    return int("".join("0" if c == "-" else "1" for c in cell), 2), int(cell.replace("-", "0"), 2)


def test_the_nvlink5_decode_is_the_published_one(real_data: Path) -> None:
    """Every published row, turned into registers that match it, leads to its bucket under both layouts."""
    with (real_data / "xid/xid_144_150_decode.csv").open(newline="") as table:
        published = [r for r in csv.reader(table) if r[0].isdigit()]
    assert len(published) >= 85
    seen: set[tuple[int, str, int | None, int]] = set()
    for row in published:
        xid, unit = int(row[0]), row[1]
        for layout, cell, cell2 in ((1, row[2], row[6]), (2, row[3], row[7])):
            _, info = _pattern(cell)
            for status in row[4].replace("\n", "/").split("/"):
                value = int(status, 16) if status else None
                found = [r for r in rows(xid, info, value, layout) if r.unit == unit]
                assert {r.bucket for r in found} == {row[5]}, (row, layout)
                assert all(r.fatal == ("atal" in row[10] and "Non-fatal" not in row[10]) for r in found), (row, layout)
                seen.update((r.xid, r.unit, r.status, r.reason) for r in found)
                if cell2:
                    _, raised = _pattern(cell2)
                    assert {r.bucket for r in rows(xid, raised, value, layout)} == {row[8]}, (row, layout)
    assert seen == {(r.xid, r.unit, r.status, r.reason) for r in NVLINK5}


def test_labelled_lines_are_found_and_no_others(real_data: Path) -> None:
    detector = Detector()
    wrong = []
    for label in labelled(real_data):
        line, expect = label["line"], label["expect"]
        found = detector.examine(line.encode())
        fault = found[1] if found else None
        if (fault is None) != (expect is None):
            wrong.append((line, expect, fault))
        if fault is None or expect is None:
            continue
        device = fault.device if MISLABELLED in line else expect.get("pci", expect.get("device", fault.device))
        if (
            fault.kind not in KINDS[expect["source"]]
            or fault.code != str(expect.get("code", fault.code))
            or fault.device != device
            or ("link" in expect and int(fault.detail["link"]) != expect["link"])
            or fault.detail.get("pid", "") != str(expect.get("pid") or fault.detail.get("pid", ""))
        ):
            wrong.append((line, expect, fault))
    assert wrong == []


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)
def test_the_labelled_lines_as_one_file(real_data: Path, tmp_path: Path, engine: bulk.Engine) -> None:
    labels = labelled(real_data)
    log = tmp_path / "all.log"
    log.write_text("".join(label["line"] + "\n" for label in labels))
    with log.open("rb") as stream:
        lines = [hit.line_no for hit in bulk.scan(Detector(), stream, engine=engine)]
    assert lines == [n for n, label in enumerate(labels, 1) if label["expect"] is not None]


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)
def test_a_boot_without_a_fault_has_none(real_data: Path, engine: bulk.Engine) -> None:
    with (real_data / "logs/benign-boot-dmesg.txt").open("rb") as stream:
        assert list(bulk.scan(Detector(), stream, engine=engine)) == []
