"""Which idle node is checked next, and what a run amounts to."""

from __future__ import annotations

from typing import Any

import pytest

from ostler.adapters.cluster.port import IdlePhase, IdleView
from ostler.faults.model import Action
from ostler.health.model import Confidence
from ostler.trends.model import Verdict
from ostler.verification import policy
from ostler.verification.model import Candidate, Result, VerificationSettings
from ostler.verification.tasks import read_results

SETTINGS = VerificationSettings(pools=("*",), every_s=3600.0, at_once_share=0.1, at_once=5)
NOW = 10_000.0
P, F, I = Verdict.PASSED, Verdict.FAILED, Verdict.INCONCLUSIVE  # noqa: E741


def node(number: int, last: float | None = None, suspicion: int = 0, pool: str = "a") -> Candidate:
    return Candidate(f"n{number}", pool, last, suspicion)


@pytest.mark.parametrize(
    ("candidates", "running", "size", "chosen"),
    [
        ([], {}, 100, []),
        ([node(1)], {}, 100, ["n1"]),
        ([node(1, NOW - 3599)], {}, 100, []),
        ([node(1, NOW - 3600)], {}, 100, ["n1"]),
        ([node(1, 5000.0), node(2, 4000.0), node(3)], {}, 100, ["n3", "n2", "n1"]),
        ([node(1), node(2, 5000.0, suspicion=1)], {}, 100, ["n2", "n1"]),
        ([node(n) for n in range(9)], {}, 30, ["n0", "n1", "n2"]),
        ([node(n) for n in range(9)], {"a": 2}, 30, ["n0"]),
        ([node(n) for n in range(9)], {"a": 3}, 30, []),
        ([node(n) for n in range(9)], {}, 1000, ["n0", "n1", "n2", "n3", "n4"]),
        ([node(n) for n in range(9)], {"b": 4}, 1000, ["n0"]),
        ([node(1)], {}, 3, ["n1"]),
    ],
)
def test_who_is_next(candidates: list[Candidate], running: dict[str, int], size: int, chosen: list[str]) -> None:
    assert policy.choose(candidates, running, {"a": size, "b": size}, SETTINGS, NOW) == chosen


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [([], I), ([P], P), ([P, P], P), ([P, I], I), ([P, F], F), ([I, F], F)],
)
def test_nothing_that_did_not_run_counts_as_passed(verdicts: list[Verdict], whole: Verdict) -> None:
    assert policy.overall([Result(f"c{n}", verdict) for n, verdict in enumerate(verdicts)]) is whole


def test_one_odd_run_moves_no_node() -> None:
    once = policy.diagnosis(Result("gemm", F, {}, "GPU 3 is slow"), "out_1", confirmed=False)
    assert (once.confidence, once.action) == (Confidence.LOW, Action.WATCH)
    twice = policy.diagnosis(Result("gemm", F, {}, "GPU 3 is slow"), "out_2", confirmed=True)
    assert (twice.confidence, twice.action, twice.component) == (Confidence.HIGH, Action.TRIAGE, "gpu")
    assert (twice.fault, twice.device) == ("check-failed", "gemm")


GOOD = '{"verdict": "passed", "checks": [{"name": "gemm", "verdict": "passed", "measured": {"tflops": 640}}]}'


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (GOOD, [("gemm", P)]),
        (f"noise\n{GOOD}\n", [("gemm", P)]),
        ('{"checks": [{"name": "gemm", "verdict": "splendid"}]}', [("gemm", I)]),
        ('{"checks": [{"name": "other", "verdict": "passed"}]}', []),
        ('{"checks": 3}', [("gemm", I)]),
        ("", [("gemm", I)]),
        ("[" * 5000, [("gemm", I)]),
        ('{"checks": [3, {"name": "gemm", "verdict": "failed", "measured": 7, "message": null}]}', [("gemm", F)]),
    ],
)
def test_the_last_words_of_a_run(output: str, expected: list[tuple[str, Verdict]]) -> None:
    view = IdleView(IdlePhase.ENDED, output, 0)
    assert [(one.check, one.verdict) for one in read_results(view, ["gemm gpus=8"])] == expected


@pytest.mark.parametrize("wrong", [{"checks": ("=",)}, {"every_s": 1.0}, {"limit_s": 1.0}])
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        VerificationSettings(**wrong)


def test_what_a_database_would_not_take_is_replaced() -> None:
    """The text comes from a node; PostgreSQL refuses NUL, and JSON knows no NaN."""
    said = '{"checks":[{"name":"gemm","verdict":"failed","measured":{"a":NaN,"b":"\\u0000","c":[1,Infinity]},"message":"x\\u0000"}]}'
    (one,) = read_results(IdleView(IdlePhase.ENDED, said, 1), ["gemm"])
    assert (one.verdict, one.message) == (Verdict.FAILED, "x\ufffd")
    assert one.measured == {"a": "nan", "b": "\ufffd", "c": [1, "inf"]}
