"""The lines that strike: each says what the story needs it to say, ours and the recorded ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostler.demo import lines
from ostler.faults import Detector

MEANS = {
    "fallen": ("xid", "79", "reboot"),
    "app-13": ("xid", "13", "none"),
    "app-31": ("xid", "31", "none"),
    "contained": ("xid", "94", "none"),
    "drain-reset": ("xid", "154", "reset-gpu"),
    "solo-45": ("xid", "45", "watch"),
    "nic-dead": ("ib-health", "health-compromised", "reboot"),
    "double-bit": ("xid", "48", "reset-gpu"),
}


def check(found: lines.Lines) -> None:
    assert set(found.said) == set(MEANS)
    for word, meaning in MEANS.items():
        fault = Detector().detect(found.about(word, "0000:ab:00.0"))
        assert fault is not None, word
        assert (fault.kind.value, fault.code, fault.action.value) == meaning, word
        assert fault.device.removesuffix(".0") == "0000:ab:00", "the line is about the struck node's own device"


def test_our_own_lines(tmp_path: Path) -> None:
    found = lines.find({}, tmp_path)
    assert found.said == lines.OWN
    check(found)


def test_recorded_lines_where_there_are_some(real_data: Path) -> None:
    found = lines.find({"OSTLER_REAL_DATA": str(real_data)})
    assert found.said["fallen"] != lines.OWN["fallen"]
    assert "recorded on real machines" in found.source
    check(found)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\n{}\n[1]\n", b'{"tier": "captured", "line": 3}\n', b"[" * 10_000])
def test_damaged_recordings_are_passed_over(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "labelled_lines.jsonl").write_bytes(content)
    assert lines.find({"OSTLER_REAL_DATA": str(tmp_path)}).said == lines.OWN
