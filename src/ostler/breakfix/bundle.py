"""Everything a vendor asks for, as one archive: who, which part, what was seen, tried and measured. For `api.py`.

A gzipped tar with plain JSON and text and a SHA256SUMS, so that it can be read without Ostler and checked on arrival.
Log lines come from machines that failed: they are quoted as data, with control characters already replaced at intake.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from ostler import __version__
from ostler.breakfix import cases, store
from ostler.breakfix.model import BreakfixSettings
from ostler.core.clock import iso
from ostler.db.tx import Tx
from ostler.nodes import store as nodes
from ostler.trends import store as trends

KERNEL_SOURCES = ("kernel",)
BMC_SOURCES = ("bmc", "bmc-parts", "bmc-silence")


def archive(tx: Tx, case_id: str, settings: BreakfixSettings) -> bytes:
    """The bundle of one case, gzipped."""
    row = store.case(tx, case_id)
    node = nodes.get(tx, row["node_id"])
    history = store.history(tx, node.id)
    files: dict[str, bytes] = {
        "case.json": _json(cases.view(row)),
        "node.json": _json(
            {"id": node.id, "name": node.name, "serial": node.serial, "slot": node.slot, "sku": node.sku}
            | {"driver": node.driver, "state": node.state}
        ),
        "parts.json": _json([asdict(part) for part in cases.parts(tx, node)]),
        "inventory.json": _json(dict(node.inventory)),
        "findings.jsonl": _lines(history["findings"]),
        "decisions.jsonl": _lines(history["decisions"]),
        "transitions.jsonl": _lines(history["transitions"]),
        "tickets.jsonl": _lines(history["tickets"]),
        "checks.jsonl": _lines(trends.of_node(tx, node.id, limit=settings.excerpt)),
        "kernel.log": _log(store.log(tx, node.id, KERNEL_SOURCES, settings.excerpt)),
        "bmc.log": _log(store.log(tx, node.id, BMC_SOURCES, settings.excerpt)),
        "signals.jsonl": _lines(store.log(tx, node.id, (), settings.excerpt)),
    }
    files["README.txt"] = _readme(row, node.name, tx.now, files)
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    files["SHA256SUMS"] = sums.encode()
    return _tar(case_id, files, tx.now)


def _tar(folder: str, files: Mapping[str, bytes], at: float) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime, entry.mode = len(data), int(at), 0o644
            tar.addfile(entry, io.BytesIO(data))
    return gzip.compress(packed.getvalue(), mtime=int(at))


def _readme(row: sa.RowMapping, node: str, at: float, files: Mapping[str, bytes]) -> bytes:
    part = f"{row['part']} {row['evidence'].get('name', '')}".strip()
    lines = [
        f"Ostler {__version__}, {iso(at)}: evidence for {row['id']}",
        "",
        f"Part:           {part}",
        f"Serial number:  {row['serial'] or 'not known'}",
        f"Node:           {node}",
        f"Reason:         {row['summary']}",
        f"Vendor case:    {row['vendor_case'] or '-'}",
        "",
        "Times are UTC. *.jsonl has one JSON object per line. Files:",
        *(f"  {name} ({len(data)} bytes)" for name, data in sorted(files.items())),
        "",
        "sha256sum -c SHA256SUMS checks them.",
    ]
    return ("\n".join(lines) + "\n").encode()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, default=str, ensure_ascii=False) + "\n").encode()


def _lines(rows: Iterable[sa.RowMapping]) -> bytes:
    return "".join(
        json.dumps(_plain(row), sort_keys=True, default=str, ensure_ascii=False) + "\n" for row in rows
    ).encode()


def _plain(row: sa.RowMapping) -> dict[str, Any]:
    """Times as people read them."""
    return {
        name: iso(value) if isinstance(value, float) and (name == "at" or name.endswith("_at")) else value
        for name, value in row.items()
    }


def _log(rows: Iterable[sa.RowMapping]) -> bytes:
    return "".join(f"{iso(row['received_at'])} {row['device'] or '-'} {row['message']}\n" for row in rows).encode()
