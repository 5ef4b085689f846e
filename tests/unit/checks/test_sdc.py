"""Silent data corruption: who is named, by what comparison, and when nothing can be said."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: make torch")

from ostler.checks.gpu import goldens, sdc
from ostler.checks.gpu.kernels import RECIPES, digest, pattern
from ostler.checks.model import CheckResult, CheckVerdict
from ostler.core.errors import BadInput
from tests.unit.checks.liars import VERSIONS, Lying, torch

PASSED, FAILED, INCONCLUSIVE = CheckVerdict.PASSED, CheckVerdict.FAILED, CheckVerdict.INCONCLUSIVE


def run(bench: Lying, **arguments: str) -> CheckResult:
    given = {"seconds": "0", "size": "32", "kernels": "gemm-bf16,attention-fp32", **arguments}
    return sdc.run(given, 60.0, bench)


def test_sound_gpus_pass_and_their_digests_are_told() -> None:
    result = run(Lying(3), kernels="gemm-fp32,gemm-fp16,gemm-bf16,gemm-fp8,attention-fp32,fused-attention-bf16")
    assert result.verdict is PASSED
    assert len(str(result.measured["digest_gemm-fp8"])) == 64
    assert (result.measured["kernels"], result.measured["golden"]) == (6, "inconclusive")
    assert "golden digests: inconclusive" in result.message


def test_a_gpu_that_differs_from_itself_between_rounds_is_named() -> None:
    bench = Lying(3)
    bench.flip[1] = lambda turn: turn == 2
    result = run(bench, kernels="gemm-bf16", inner="1")
    assert (result.verdict, result.measured["rounds"]) == (FAILED, 2)
    assert "GPU 1: gemm-bf16 differs from itself in 1 of 2 repeats" in result.message


@pytest.mark.parametrize("turn", [1, 2])
def test_one_wrong_repeat_among_right_ones_is_found(turn: int) -> None:
    bench = Lying(2)
    bench.flip[1] = lambda at: at == turn
    result = run(bench, kernels="gemm-bf16", inner="2")
    assert result.verdict is FAILED
    assert "GPU 1: gemm-bf16 differs from itself in 1 of 2 repeats" in result.message
    assert "GPU 0" not in result.message


def test_a_gpu_that_is_always_wrong_is_found_by_the_majority() -> None:
    bench = Lying(4)
    bench.flip[0] = lambda turn: True
    result = run(bench)
    assert result.verdict is FAILED
    assert "GPU 0: gemm-bf16 differs from 3 other GPUs" in result.message
    assert "GPU 1" not in result.message


def test_two_that_disagree_are_both_suspect() -> None:
    bench = Lying(2)
    bench.flip[1] = lambda turn: True
    result = run(bench, kernels="gemm-bf16")
    assert (result.verdict, "GPUs 0 and 1: gemm-bf16" in result.message) == (FAILED, True)


def test_a_copy_that_arrives_different_is_a_failure() -> None:
    bench = Lying(3)
    bench.corrupt_copy = {2}
    result = run(bench, kernels="gemm-bf16")
    assert (result.verdict, "GPU 2: what was copied to it" in result.message) == (FAILED, True)


def test_one_gpu_alone_proves_nothing_without_a_golden() -> None:
    result = run(Lying(1), kernels="gemm-bf16")
    assert (result.verdict, "no second GPU and no golden" in result.message) == (INCONCLUSIVE, True)


def _store(tmp_path: Path, serials: tuple[str, ...], right: bool = True) -> str:
    seen = tmp_path / "seen.json"
    assert run(Lying(1), kernels="gemm-bf16", observations=str(seen)).verdict is INCONCLUSIVE
    one = goldens.read(str(seen))[0]
    found = one.digest if right else "0" * 64
    many = [goldens.Observation(one.sku, one.kernel, one.shape, one.seed, found, s, one.versions) for s in serials]
    goldens.write(tmp_path / "store.json", many)
    return str(tmp_path / "store.json")


def test_golden_digests_speak_for_a_single_gpu(tmp_path: Path) -> None:
    result = run(Lying(1), kernels="gemm-bf16", golden=_store(tmp_path, ("x", "y")), require_golden="1")
    assert (result.verdict, result.measured["golden"]) == (PASSED, "agrees")


def test_a_wrong_golden_digest_fails_each_gpu(tmp_path: Path) -> None:
    result = run(Lying(2), kernels="gemm-bf16", golden=_store(tmp_path, ("x", "y"), right=False))
    assert result.verdict is FAILED
    assert "GPU 0: gemm-bf16 differs from the golden digest" in result.message


def test_a_golden_seen_by_one_gpu_is_none(tmp_path: Path) -> None:
    store = _store(tmp_path, ("x", "x"))
    assert run(Lying(2), kernels="gemm-bf16", golden=store).verdict is PASSED
    needed = run(Lying(2), kernels="gemm-bf16", golden=store, require_golden="1")
    assert (needed.verdict, "1 of 2 GPUs needed have agreed" in needed.message) == (INCONCLUSIVE, True)


def test_other_versions_are_another_question(tmp_path: Path) -> None:
    store = _store(tmp_path, ("x", "y"), right=False)
    bench = Lying(2)
    bench.versions = {**VERSIONS, "driver": "590.1"}
    assert run(bench, kernels="gemm-bf16", golden=store).verdict is PASSED
    bench.versions = {**VERSIONS, "cublas": ""}
    assert "the version of cublas is not known" in run(bench, kernels="gemm-bf16", golden=store).message


def test_too_little_time_for_two_rounds_is_inconclusive() -> None:
    result = sdc.run({"size": "32"}, 0.0, Lying(2))
    assert (result.verdict, "before two rounds" in result.message) == (INCONCLUSIVE, True)


def test_fewer_gpus_than_asked_never_pass() -> None:
    result = run(Lying(3, asked=8), kernels="gemm-bf16")
    assert (result.verdict, "ran on 3 of 8 GPUs" in result.message) == (INCONCLUSIVE, True)


def test_an_error_on_one_gpu_is_its_verdict() -> None:
    bench = Lying(3)
    bench.raises[1] = RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with …")
    result = run(bench, kernels="gemm-bf16")
    assert (result.verdict, "GPU 1 gemm-bf16: CUDA error: an illegal memory access" in result.message) == (FAILED, True)
    bench.raises[1] = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
    result = run(bench, kernels="gemm-bf16")
    assert (result.verdict, "GPU 1 gemm-bf16: out of memory" in result.message) == (INCONCLUSIVE, True)


def test_gpus_of_two_models_are_not_compared_with_each_other() -> None:
    from ostler.checks.tally import Tally

    tally = Tally("sdc")
    sound, _ = sdc.compare("k", {0: ["a", "a"], 1: ["a", "a"], 2: ["b", "b"]}, {0: "x", 1: "x", 2: "y"}, tally)
    assert (sorted(sound), tally.failures) == ([0, 1, 2], [])


def test_inputs_are_the_same_on_every_machine() -> None:
    """The digests are part of the golden stores' meaning: they may not change with a version of anything."""
    assert digest(pattern(torch, (16, 16), "1:gemm-bf16:0", "bf16"))[:16] == "5aa4be47809e875e"
    assert digest(pattern(torch, (16, 16), "1:gemm-fp8:0", "fp8"))[:16] == "bccc0296e1c9fbbd"


def test_unknown_kernels_and_stores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="kernels: 'x' is none of"):
        run(Lying(2), kernels="x")
    with pytest.raises(BadInput, match="cannot be read"):
        run(Lying(2), golden=str(tmp_path / "none.json"))
    assert set(RECIPES) >= {"gemm-fp8", "gemm-tf32"}
