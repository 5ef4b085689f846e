"""All-reduce: real gloo processes on this machine, and what is made of workers that err, lie or say nothing."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: make torch")

from ostler.checks.gpu.nccl_allreduce import Meeting, judge, run
from ostler.checks.model import CheckResult, CheckVerdict
from ostler.checks.tally import Tally
from ostler.core.errors import BadInput

PASSED, FAILED, INCONCLUSIVE = CheckVerdict.PASSED, CheckVerdict.FAILED, CheckVerdict.INCONCLUSIVE
HERE = {"device": "cpu", "mib": "1", "repeats": "2", "min_busbw_gb_s": "0.0000001"}


def test_two_processes_reduce_and_their_bandwidth_is_the_bus_bandwidth() -> None:
    result = run({**HERE, "gpus": "2"}, 60.0)
    assert result.verdict is PASSED, result.message
    assert result.measured["busbw_gb_s"] == result.measured["algbw_gb_s"], "2(n-1)/n is 1 for two ranks"


def test_two_nodes_meet_by_address_port_and_token() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meeting = {"gpus": "1", "peer": "127.0.0.1", "port": port, "token": "t1"}
    results: dict[str, CheckResult] = {}

    def side(role: str) -> None:
        results[role] = run({**HERE, **meeting, "role": role}, 60.0)

    sides = [threading.Thread(target=side, args=(role,)) for role in ("first", "second")]
    for thread in sides:
        thread.start()
    for thread in sides:
        thread.join()
    assert [results[role].verdict for role in ("first", "second")] == [PASSED, PASSED], results
    assert results["second"].measured["ranks"] == 2


def test_a_partner_that_never_comes_is_inconclusive() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    result = run({**HERE, "gpus": "1", "role": "second", "peer": "127.0.0.1", "port": port, "token": "t"}, 1.0)
    assert result.verdict is INCONCLUSIVE


@pytest.mark.parametrize(
    ("said", "verdict", "says"),
    [
        ([{"wrong": 0, "seconds": [0.01]}, {"wrong": 0, "seconds": [0.02]}], PASSED, ""),
        ([{"wrong": 0, "seconds": [0.01]}, {"wrong": 3, "seconds": [0.01]}], FAILED, "rank 1 (GPU 1): 3 elements"),
        ([{"wrong": 0, "seconds": [0.01]}, None], INCONCLUSIVE, "rank 1 ended or hung"),
        ([{"wrong": 0, "seconds": [0.01]}, {"error": "NCCL error: remote process exited"}], INCONCLUSIVE, "remote"),
        ([{"wrong": 0, "seconds": [9.0]}, {"error": "CUDA error: uncorrectable ECC error"}], FAILED, "rank 1: CUDA"),
        ([{"wrong": 0, "seconds": [0.01]}, {"wrong": 0, "seconds": [9.0]}], FAILED, "at least 40 are wanted"),
    ],
)
def test_what_the_workers_say_is_judged(said: list[dict[str, Any] | None], verdict: CheckVerdict, says: str) -> None:
    tally = Tally("nccl-allreduce")
    judge(tally, said, Meeting(2, 0), 1_000_000_000, 40.0)
    result = tally.result()
    assert (result.verdict, says in result.message) == (verdict, True), result.message


def test_bus_bandwidth_is_what_nccl_tests_prints() -> None:
    tally = Tally("nccl-allreduce")
    judge(tally, [{"wrong": 0, "seconds": [0.02, 0.02, 9.0]}] * 8, Meeting(8, 0), 1_000_000_000, None)
    assert (tally.measured["algbw_gb_s"], tally.measured["busbw_gb_s"]) == (50.0, 87.5)
    assert tally.result().verdict is INCONCLUSIVE, "nobody said how fast"


def test_one_gpu_reduces_with_nobody() -> None:
    assert run({**HERE, "gpus": "1"}, 60.0).verdict is INCONCLUSIVE


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"role": "third"}, "role: 'third'"),
        ({"role": "first"}, "peer: give the address"),
        ({"role": "first", "peer": "a;b", "token": "t"}, "peer: give the address"),
        ({"role": "first", "peer": "a"}, "token: give both"),
        ({"role": "first", "peer": "a", "token": "t", "port": "0"}, "port: must be"),
    ],
)
def test_a_bad_rendezvous_is_refused(arguments: dict[str, str], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        run(arguments, 1.0)
