"""dcgmi diag read honestly: a Pass with an allocation error, with skips, or with links down is no pass."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from ostler.checks import dcgm_diag
from ostler.checks.commands import Ran
from ostler.checks.dcgm_report import links_down, parse
from ostler.checks.model import CheckResult, CheckVerdict

PASSED, FAILED, INCONCLUSIVE = CheckVerdict.PASSED, CheckVerdict.FAILED, CheckVerdict.INCONCLUSIVE

LINKS_UP = "+------+\n|  NvLink Link Status  |\nGPUs:\n    gpuId 0:\n        U U U U\n    gpuId 1:\n        U U _ X\n"
LINKS_DOWN = (
    LINKS_UP.replace("U U _ X", "U D D U") + "NvSwitches:\n    physicalId 8:\n        U D\n\nKey: Up=U, Down=D\n"
)


def result4(gpu: int, status: str = "Pass", warning: str = "", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"entity_group": "GPU", "entity_group_id": 1, "entity_id": gpu, "status": status, **more}
    if warning:
        found["warnings"] = [{"error_category": 4, "error_id": 7, "error_severity": 2, "warning": warning}]
    return found


def report4(*results: dict[str, Any], test: str = "memory", gpus: int = 2) -> str:
    """The shape of DCGM 4's `diag -j`."""
    software = {"name": "software", "results": [result4(n) for n in range(gpus)], "test_summary": {"status": "Pass"}}
    tested = {"name": test, "results": list(results), "test_summary": {"status": "Pass"}} if results else None
    return json.dumps(
        {
            "DCGM Diagnostic": {
                "test_categories": [
                    {"category": "Deployment", "tests": [software]},
                    *([{"category": "Hardware", "tests": [tested]}] if tested else []),
                ]
            },
            "entity_groups": [
                {"entity_group": "GPU", "entities": [{"entity_id": n, "serial_num": f"s{n}"} for n in range(gpus)]}
            ],
            "metadata": {"DCGM Version": "4.2.0", "Driver Version Detected": "570.86"},
        }
    )


def report3(status: str, warning: str = "", info: str = "") -> str:
    """The shape of DCGM 3's `diag -j`."""
    return "Successfully ran diagnostic for group.\n" + json.dumps(
        {
            "DCGM GPU Diagnostic": {
                "test_categories": [
                    {
                        "category": "Integration",
                        "tests": [
                            {
                                "name": "PCIe",
                                "results": [
                                    {"gpu_ids": "0,1", "status": status, "warnings": warning, "info": info},
                                ],
                            }
                        ],
                    }
                ]
            },
            "GPU Device IDs": ["2330", "2330"],
        }
    )


def run(output: str, *, status: int | None = 0, links: Ran | None = None, **arguments: str) -> CheckResult:
    def command(argv: Sequence[str], seconds: float) -> Ran:
        if argv[1] == "nvlink":
            return links or Ran(0, LINKS_UP)
        return Ran(status, output, "")

    return dcgm_diag.run(arguments, 60.0, command)


@pytest.mark.parametrize(
    ("output", "verdict", "says"),
    [
        (report4(result4(0), result4(1)), PASSED, ""),
        (report3("Pass", info="GPU 0 GPU to Host bandwidth: 55.1 GB/s"), PASSED, ""),
        (
            report4(result4(0), result4(1, "Fail", "GPU 1 had uncorrectable memory errors")),
            FAILED,
            "GPU 1: memory failed",
        ),
        (report3("Fail", "PCIe replays"), FAILED, "GPU 0,1: PCIe failed: PCIe replays"),
        (
            report4(result4(0, warning="Error: DCGM_FR_MEMORY_ALLOC")),
            INCONCLUSIVE,
            "says pass, but did not test it all",
        ),
        (report4(result4(0, warning="Unable to allocate enough memory")), INCONCLUSIVE, "says pass, but did not test"),
        (report4(result4(0, info="Less than 75% of the memory could be tested")), INCONCLUSIVE, "did not test it all"),
        (
            report4(result4(0, "Fail", "CUDA-capable device(s) is/are busy or unavailable")),
            INCONCLUSIVE,
            "says fail, but",
        ),
        (report4(result4(0), result4(1, "Skip", "MIG is on")), INCONCLUSIVE, "GPU 1: memory: skip"),
        (report4(result4(0, "Warn", "Clocks are being throttled")), INCONCLUSIVE, "GPU 0: memory: warn"),
        (report4(result4(0, "Not Run")), INCONCLUSIVE, "not run"),
        (report4(result4(0, "")), INCONCLUSIVE, "no status"),
        (
            report4(result4(0, warning="GPU 0's NvLink link 3 is currently down")),
            FAILED,
            "says pass, and an NVLink is down",
        ),
        (report3("Pass", info="NvLink 3 for GPU 0 is currently down"), FAILED, "an NVLink is down"),
        ('{"DCGM Diagnostic": {"runtime_error": "Unable to connect to host engine"}}', INCONCLUSIVE, "could not run"),
        ('{"DCGM Diagnostic": {"test_categories": []}}', INCONCLUSIVE, "gave no report"),
        ("Error: unable to establish a connection to the specified host", INCONCLUSIVE, "gave no report"),
        ("{" * 20_000, INCONCLUSIVE, "gave no report"),
        ("[1, 2]", INCONCLUSIVE, "gave no report"),
        ("", INCONCLUSIVE, "gave no report"),
    ],
)
def test_json_is_read_for_what_it_says(output: str, verdict: CheckVerdict, says: str) -> None:
    result = run(output)
    assert (result.verdict, says in result.message) == (verdict, True), result.message


def test_all_results_pass_but_the_command_did_not() -> None:
    result = run(report4(result4(0)), status=226)
    assert (result.verdict, "ended with status 226" in result.message) == (INCONCLUSIVE, True)
    assert run(report4(result4(0)), status=None).verdict is INCONCLUSIVE


def test_gpus_that_the_report_does_not_name_are_missed() -> None:
    assert run(report4(result4(0)), gpus="2").verdict is PASSED
    result = run(report4(result4(0)), gpus="8")
    assert (result.verdict, "names 2 of 8 GPUs" in result.message) == (INCONCLUSIVE, True)


def test_a_skip_may_be_allowed_by_name_only() -> None:
    report = report4(result4(0, "Skip"), test="context create")
    assert run(report, allow_skipped="Context-Create").verdict is PASSED
    assert run(report, allow_skipped="memory").verdict is INCONCLUSIVE


def test_links_that_are_down_fail_however_the_diagnosis_ended() -> None:
    result = run(report4(result4(0)), links=Ran(0, LINKS_DOWN))
    assert (result.verdict, result.measured["nvlinks_down"]) == (FAILED, 3)
    assert "3 NVLinks are down: GPU 1 link 1, GPU 1 link 2, NVSwitch 8 link 1" in result.message
    assert run(report4(result4(0)), links=Ran(0, LINKS_DOWN), nvlink="0").verdict is PASSED
    unknown = run(report4(result4(0)), links=Ran(1, "", "no such command"))
    assert (unknown.verdict, "could not be read" in unknown.message) == (INCONCLUSIVE, True)


def test_link_states_are_counted() -> None:
    assert links_down(LINKS_UP) == ([], 6)
    assert links_down("gpuId x:\n D D\nnonsense U D") == ([], 0)
    assert links_down("gpuId 0:\n U U\n D means that a link is down") == ([], 2)


def test_a_test_without_a_result_is_no_pass() -> None:
    document = json.loads(report4(result4(0)))
    document["DCGM Diagnostic"]["test_categories"][1]["tests"].append({"name": "pcie"})
    result = run(json.dumps(document))
    assert result.verdict is INCONCLUSIVE and "pcie" in result.message, result.message


TABLE = """Successfully ran diagnostic for group.
+---------------------------+------------------------------------------------+
| Diagnostic                | Result                                         |
+===========================+================================================+
|-----  Metadata  ----------+------------------------------------------------|
| DCGM Version              | 3.3.7                                          |
| GPU Device IDs Detected   | 2330,2330                                      |
|-----  Deployment  --------+------------------------------------------------|
| Denylist                  | Pass                                           |
| Page Retirement           | Pass - All                                     |
+-----  Hardware  ----------+------------------------------------------------+
| GPU Memory                | Pass - GPU: 1                                  |
|                           | @SECOND@                                 |
| Info                      | GPU 1 Allocated 84212 MB (98                   |
|                           | .1%)@INFO@                                     |
+---------------------------+------------------------------------------------+
"""


@pytest.mark.parametrize(
    ("second", "info", "verdict", "says"),
    [
        ("Pass - GPU: 0", "", PASSED, ""),
        ("Fail - GPU: 0", "", FAILED, "GPU 0: GPU Memory failed"),
        ("Skip - GPU: 0", "", INCONCLUSIVE, "GPU 0: GPU Memory: skip"),
        ("Pass - GPU: 0", " Unable to allocate", INCONCLUSIVE, "did not test it all"),
    ],
)
def test_the_table_for_people_is_read_too(second: str, info: str, verdict: CheckVerdict, says: str) -> None:
    output = TABLE.replace("@SECOND@", second).replace("@INFO@", info)
    result = run(output, gpus="2")
    assert (result.verdict, says in result.message) == (verdict, True), result.message
    report = parse(output)
    assert report is not None
    assert report.gpus == ("0", "1")


def test_wrapped_cells_are_joined_before_they_are_read() -> None:
    cut = TABLE.replace("@SECOND@", "Pass - GPU: 0").replace(
        "| .1%)@INFO@                                     |",
        "| .1%). GPU 0's NvLink link 1 is currentl       |\n"
        "|                           | y down Run a field diagnostic                  |",
    )
    assert run(cut).verdict is FAILED


def test_without_dcgm_it_is_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    result = dcgm_diag.run({}, 60.0)
    assert (result.verdict, result.message) == (INCONCLUSIVE, "dcgmi is not installed")
