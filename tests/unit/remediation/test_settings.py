"""`[remediation]`, with its rules per fault and pool, as the one reader of the configuration takes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostler.config import load
from ostler.core.errors import BadInput
from ostler.remediation.model import FaultRule, PoolRule

TEXT = """\
[remediation]
drain_mode = "evict"
drain_deadline_s = 900
ladder = ["reboot", "triage"]

[remediation.faults.gpu-off-bus]
timing = "pending"
dry_run = true
repair_limit = 1
ladder = ["power-cycle", "rma"]

[remediation.pools.h100]
partial_drain = true
drain_deadline_s = 60
"""


def test_rules_per_fault_and_pool(tmp_path: Path) -> None:
    path = tmp_path / "ostler.toml"
    path.write_text(TEXT)
    found = load(path, {}).remediation
    assert (found.drain_mode, found.drain_deadline_s, found.ladder) == ("evict", 900.0, ("reboot", "triage"))
    assert found.rule("gpu-off-bus") == FaultRule(
        timing="pending", dry_run=True, repair_limit=1, ladder=("power-cycle", "rma")
    )
    assert found.rule("xid-48") == FaultRule()
    assert found.pool_rule("h100") == PoolRule(drain_deadline_s=60.0, partial_drain=True)


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ('[remediation]\ndrain_mode = "force"', 2, "drain_mode is one of allow-completion, evict"),
        ('[remediation]\nladder = ["triage", "reboot"]', 2, "in this order"),
        ('[remediation]\nladder = ["pray"]', 2, "ladder is a part of"),
        ("[remediation]\nladder = []", 2, "ladder is empty"),
        ('[remediation.faults.xid-48]\naction = "explode"', 2, "action is one of"),
        ('[remediation.faults.xid-48]\ntiming = "soon"', 2, "timing is one of"),
        ('[remediation.pools.h100]\ndrain_mode = "force"', 2, "drain_mode is one of"),
        ("[remediation.faults.xid-48]\nrepair_limit = true", 2, "a whole number is expected"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, text: str, line: int, why: str) -> None:
    path = tmp_path / "ostler.toml"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        load(path, {})
    assert why in str(caught.value) and f"ostler.toml:{line} " in str(caught.value)
