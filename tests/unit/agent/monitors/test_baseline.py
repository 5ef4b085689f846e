"""What a node had, kept over restarts: whole or not at all, whoever writes at the same time."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from ostler.agent.monitors.baseline import Baseline


def test_sections_of_several_threads_are_all_kept(tmp_path: Path) -> None:
    keep = tmp_path / "baseline.json"
    baseline = Baseline(tmp_path, keep)

    def put(name: str) -> None:
        for n in range(200):
            baseline.put(f"{name}{n % 20}", {"n": n})

    threads = [threading.Thread(target=put, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads(keep.read_text())["sections"]) == 80
    assert Baseline(tmp_path, keep).get("a19") == {"n": 199}


def test_one_writes_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most, real = [0], [0], json.dumps

    def dumps(*args: Any, **kwargs: Any) -> str:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        threading.Event().wait(0.002)  # the others get their chance to be wrong
        inside[0] -= 1
        return real(*args, **kwargs)

    monkeypatch.setattr("json.dumps", dumps)
    baseline = Baseline(tmp_path, tmp_path / "baseline.json")
    threads = [threading.Thread(target=baseline.put, args=(f"s{n}", {"n": n})) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1


def test_a_folder_that_cannot_be_written_is_borne(tmp_path: Path) -> None:
    baseline = Baseline(tmp_path, tmp_path / "absent" / "baseline.json")
    baseline.put("x", {"n": 1})
    assert baseline.get("x") == {"n": 1}


def test_another_machine_begins_anew(tmp_path: Path) -> None:
    board = tmp_path / "sys/class/dmi/id/board_serial"
    board.parent.mkdir(parents=True)
    board.write_text("B1\n")
    keep = tmp_path / "baseline.json"
    Baseline(tmp_path, keep).put("x", {"n": 1})
    assert Baseline(tmp_path, keep).get("x") == {"n": 1}
    board.write_text("B2\n")
    assert Baseline(tmp_path, keep).get("x") == {}
