"""`ostler replay` as a person uses it: a shipped incident, a file, another policy, and every mistake in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ostler.cli import main

Captured = pytest.CaptureFixture[str]
LOST = "NVRM: Xid (PCI:0000:18:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


def recorded(folder: Path, *rows: object) -> str:
    path = folder / "one.jsonl"
    head = {"incident": "mine", "fleet": [{"nodes": "gpu-1"}]}
    path.write_text("".join(json.dumps(row) + "\n" for row in (head, *rows)))
    return str(path)


def test_a_shipped_incident_says_what_is_decided_and_why(capsys: Captured) -> None:
    assert main(["replay", "gpu-lost"]) == 0
    out = capsys.readouterr().out
    assert "gpu-1: act reboot (immediate): gpu-off-bus on 0000:18:00 is fatal" in out
    assert "6 in production" in out


def test_another_policy_is_compared(capsys: Captured, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("[health.rules.gpu-off-bus]\naction = 'watch'\n[health.rules.gpu-lost]\naction = 'watch'\n")
    assert main(["replay", "gpu-lost", "--policy", str(other)]) == 0
    assert "\n-    0:00:40  gpu-1: act reboot" in capsys.readouterr().out
    assert main(["replay", "gpu-lost", "--policy", str(other), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [one["action"] for one in document["policy"]["no_more"]] == ["reboot"]
    assert document["policy"]["decisions"] == document["policy"]["instead"] == []


def test_a_policy_that_decides_the_same_says_so(capsys: Captured, tmp_path: Path) -> None:
    same = tmp_path / "same.toml"
    same.write_text("")
    assert main(["replay", "app-errors.near", "--policy", str(same)]) == 0
    assert "decides the same" in capsys.readouterr().out


def test_expectations_that_fail_are_told_and_fail_only_a_check(capsys: Captured, tmp_path: Path) -> None:
    rows = [{"at": 1, "node": "gpu-1", "kernel": LOST}, {"expect": {"node": "gpu-1", "never": {}}}]
    name = recorded(tmp_path, *rows)
    assert main(["replay", name]) == 0
    assert "one.jsonl:3: gpu-1: act reboot (immediate) for gpu-off-bus" in capsys.readouterr().out
    assert main(["replay", name, "--check"]) == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"at": 1, "node": "gpu-1", "kernal": "x"}, "one.jsonl:2: at: "),
        ({"at": 1, "node": "gpu-1", "to": "heaven"}, "one.jsonl:2: to: "),
        ({"at": 1, "resume": "fleet"}, "one.jsonl:2: resume: "),
    ],
)
def test_mistakes_are_one_line(row: object, said: str, capsys: Captured, tmp_path: Path) -> None:
    assert main(["replay", recorded(tmp_path, row)]) in (1, 2)
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_settings_of_a_recording_are_checked(capsys: Captured, tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text('{"fleet": [{"nodes": "a"}], "settings": {"health.storm_nodez": 3}}\n')
    assert main(["replay", str(path)]) == 2
    assert "set.jsonl:1: settings" in capsys.readouterr().err


def test_nothing_named_is_refused_and_the_list_names_all(capsys: Captured) -> None:
    assert main(["replay"]) == 2
    assert main(["replay", "--list"]) == 0
    assert "repeat-failer" in capsys.readouterr().out
