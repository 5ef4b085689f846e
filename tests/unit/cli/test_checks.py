"""`ostler checks`: lists, runs checks and plans, ends at once when it is told to, and never leaves a false pass."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from ostler.adapters.cluster.port import IdlePhase, IdleView
from ostler.checks.gpu import goldens
from ostler.checks.model import CheckResult, CheckVerdict
from ostler.cli import checks, main
from ostler.verification.tasks import read_results

VERSIONS = goldens.versions_of({"torch": "2", "cuda": "13", "cublas": "13", "driver": "580"})


def test_the_list_names_checks_and_plans(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checks", "list"]) == 0
    shown = capsys.readouterr().out
    assert "nccl-allreduce" in shown
    assert "verification" in shown
    assert main(["checks", "list", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {"sdc", "storage"} <= {check["name"] for check in document["checks"]}


def test_a_plan_is_printed_as_settings_name_checks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checks", "plan", "quick", "--sku", "h100", "--gpus", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "gpu-present expected=4"
    assert main(["checks", "plan", "quick", "--sku", "h100", "--json"]) == 0
    assert "gpu-present expected=8" in json.loads(capsys.readouterr().out)


def test_a_check_that_passes_exits_0_and_says_so_in_the_last_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tmp_path / "last"
    arguments = ["checks", "run", "cpu-arith", "--set", "seconds=0.3", "--json", "--termination-log", str(words)]
    assert main(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["verdict"], document["checks"][0]["name"]) == ("passed", "cpu-arith")
    assert json.loads(words.read_text())["verdict"] == "passed"


def test_the_last_line_is_the_document_and_fits_what_a_scheduler_hands_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def instead(check: str, given: Mapping[str, str], budget_s: float) -> CheckResult:
        few = check == "cpu-arith"
        measured = {f"gpu_{n}_tflops": 640.25 for n in range(2 if few else 64)}
        return CheckResult(check, CheckVerdict.PASSED if few else CheckVerdict.FAILED, measured, "GPU 3 is slow" * 9)

    monkeypatch.setattr("ostler.cli.checks.run_apart", instead)
    command = ["checks", "run", "cpu-arith", "memory-pattern", "disk-write", "--json"]
    found = {}
    for fit in (0, 2500, 900, 300):
        assert main([*command, "--fit", str(fit)]) == 1
        (line,) = capsys.readouterr().out.splitlines()
        assert not fit or len(line) <= fit
        found[fit] = json.loads(line)
    view = IdleView(IdlePhase.ENDED, json.dumps(found[900]), 1)
    assert [one.verdict for one in read_results(view, command[2:5])] == ["passed", "failed", "failed"]
    kept = {fit: [len(one["measured"]) for one in document["checks"]] for fit, document in found.items()}
    assert kept == {0: [2, 64, 64], 2500: [2, 0, 64], 900: [2, 0, 0], 300: [0, 0, 0]}, "the longest go first"
    assert found[900]["checks"][1]["message"]
    assert not found[300]["checks"][1]["message"]


def test_one_check_that_is_no_pass_makes_the_whole_no_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checks", "run", "gpu-present", "ib-write-bw"]) == 2, "ib-write-bw wants arguments"
    assert capsys.readouterr().err.startswith("ostler: role: say role=server")
    assert main(["checks", "run", "gpu-present"]) == 1
    assert "gpu-present: inconclusive" in capsys.readouterr().out


def test_no_time_left_is_inconclusive(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["checks", "run", "cpu-arith", "gpu-present", "--budget", "0.1", "--json"]
    assert main(arguments) == 1
    found = json.loads(capsys.readouterr().out)["checks"]
    assert found[1]["message"] == "no time was left for it"


@pytest.mark.parametrize(
    ("arguments", "checks", "ran"),
    [
        (["cpu-arith seconds=0.3"], ["cpu-arith"], 0.3),
        (["  cpu-arith   seconds=0.3 "], ["cpu-arith"], 0.3),
        (["cpu-arith seconds=0.3", "--set", "seconds=0.4"], ["cpu-arith"], 0.4),
        (["cpu-arith seconds=0.3", "memory-pattern mib=1 seconds=0.3"], ["cpu-arith", "memory-pattern"], 0.3),
    ],
)
def test_a_check_is_named_with_its_arguments_as_settings_name_it(
    arguments: list[str], checks: list[str], ran: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, float]] = []

    def instead(check: str, given: Mapping[str, str], budget_s: float) -> CheckResult:
        seen.append((check, float(given["seconds"])))
        return CheckResult(check, CheckVerdict.PASSED, {}, "")

    monkeypatch.setattr("ostler.cli.checks.run_apart", instead)
    assert main(["checks", "run", *arguments]) == 0
    assert seen == [(check, ran) for check in checks]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "nope"], "no check or plan is called 'nope'"),
        (["run", "nope seconds=1"], "no check or plan is called 'nope'"),
        (["run", "quick sku=h100"], "no check or plan is called 'quick'"),
        (["run", " "], "no check or plan is called ''"),
        (["run", "cpu-arith x=1"], "this check takes no 'x'"),
        (["run", "cpu-arith seconds"], "'seconds' is no KEY=VALUE"),
        (["run", "quick"], "--sku: a plan needs the GPU model"),
        (["run", "quick", "--sku", "x"], "no thresholds are known for 'x'"),
        (["run", "cpu-arith", "gpu-present", "--set", "seconds=1"], "--set: arguments are for one check"),
        (["run", "cpu-arith", "--set", "x=1"], "--set: this check takes no 'x'"),
        (["run", "cpu-arith", "--termination-log", "/nonexistent/x"], "/nonexistent/x: cannot be written"),
        (["golden", "/nonexistent/store", "/nonexistent/file"], "/nonexistent/file: cannot be read"),
    ],
)
def test_bad_usage_is_one_line(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checks", *arguments]) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n"), complaint in error) == ("", 1, True), error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_it_at_once_without_a_pass(number: signal.Signals, tmp_path: Path) -> None:
    words = tmp_path / "last"
    program = (
        "import sys, threading\nfrom pathlib import Path\nfrom ostler.checks import runner\nfrom ostler.cli import main\n"
        "begin = runner.subprocess.Popen\n"
        "def told(*a, **k):\n    child = begin(*a, **k)\n    print(child.pid, flush=True)\n    return child\n"
        "runner.subprocess.Popen = told\nsys.exit(main(sys.argv[1:]))"
    )
    command = ["checks", "run", "cpu-arith", "gpu-present", "--json", "--termination-log", str(words)]
    with subprocess.Popen(
        (sys.executable, "-c", program, *command, "--budget", "600"), stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        child = os.pidfd_open(int(running.stdout.readline()))
        assert json.loads(words.read_text())["verdict"] == "inconclusive", "what is left if it is killed right now"
        running.send_signal(number)
        document = json.loads(running.stdout.read())
        assert running.wait() == 128 + number
    assert document["verdict"] == "inconclusive"
    assert [check["message"] for check in document["checks"]] == ["stopped", "stopped"]
    assert json.loads(words.read_text())["verdict"] == "inconclusive"
    select.select([child], [], [])  # readable once it has ended, whoever reaps it and however busy the machine is
    os.close(child)


def result(verdict: str, message: str = "") -> CheckResult:
    return CheckResult("x", CheckVerdict(verdict), {}, message)


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        ([], "inconclusive"),
        (["passed"], "passed"),
        (["passed", "inconclusive"], "inconclusive"),
        (["inconclusive", "failed", "passed"], "failed"),
    ],
)
def test_the_worst_verdict_is_the_verdict(verdicts: list[str], whole: str) -> None:
    assert checks.overall([result(verdict) for verdict in verdicts]).value == whole


def test_last_words_fit_and_tell_what_failed_first(tmp_path: Path) -> None:
    many = [*(result("passed", "p" * 300) for _ in range(30)), result("failed", "\u2028" * 300)]
    checks._last_words(tmp_path / "last", CheckVerdict.FAILED, "x", many)
    text = (tmp_path / "last").read_bytes()
    assert len(text) <= 4096
    assert json.loads(text)["checks"][0]["verdict"] == "failed"


def test_goldens_are_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for gpu in ("a", "b"):
        seen = goldens.Observation("H100", "gemm-bf16", "64x64", "1", "e" * 64, gpu, VERSIONS)
        goldens.write(tmp_path / f"{gpu}.json", [seen])
    store = str(tmp_path / "store.json")
    assert main(["checks", "golden", store, str(tmp_path / "a.json")]) == 0
    assert "none: 1 of 2 GPUs needed" in capsys.readouterr().out
    assert main(["checks", "golden", store, str(tmp_path / "b.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["golden"] == "e" * 64
    assert len(goldens.read(store)) == 2
