"""Golden digests: two physical GPUs, a majority, the same versions, and stores that are not what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ostler.checks.gpu.goldens import (
    FORMAT,
    Observation,
    golden,
    merge,
    parse,
    read,
    render,
    summary,
    versions_of,
    write,
)
from ostler.core.errors import BadInput

VERSIONS = versions_of({"torch": "2.13.0", "cuda": "13.0", "cublas": "13.0.2", "driver": "580.1"})
A, B, C = "a" * 64, "b" * 64, "c" * 64


def seen(digest: str, gpu: str, sku: str = "H100", kernel: str = "gemm-bf16") -> Observation:
    return Observation(sku, kernel, "64x64", "1", digest, gpu, VERSIONS)


@pytest.mark.parametrize(
    ("observations", "digest", "why_not"),
    [
        ([], None, "0 of 2 GPUs"),
        ([seen(A, "1")], None, "1 of 2 GPUs"),
        ([seen(A, "1"), seen(A, "1")], None, "1 of 2 GPUs"),
        ([seen(A, "1"), seen(A, "2")], A, ""),
        ([seen(A, "1"), seen(A, "2", sku="H200")], None, "1 of 2 GPUs"),
        ([seen(A, "1"), seen(A, "2", kernel="other")], None, "1 of 2 GPUs"),
        ([seen(A, "1"), seen(A, "2"), seen(B, "3")], A, ""),
        ([seen(A, "1"), seen(A, "2"), seen(B, "3"), seen(B, "4")], None, "disagree"),
        ([seen(A, "1"), seen(A, "2"), seen(B, "3"), seen(C, "4")], None, "disagree"),
        ([seen(A, "1"), seen(A, "2"), seen(B, "2")], None, "1 of 2 GPUs"),
        ([seen(A, ""), seen(A, "2")], None, "1 of 2 GPUs"),
    ],
)
def test_a_digest_is_golden_only_where_two_gpus_agree(
    observations: list[Observation], digest: str | None, why_not: str
) -> None:
    found = golden(observations, seen(A, "9"))
    assert (found.digest, why_not in found.why_not) == (digest, True)


def test_a_store_comes_back_as_it_was_written_and_holds_each_once(tmp_path: Path) -> None:
    both = merge([seen(A, "1"), seen(B, "2")], [seen(A, "1")])
    assert len(both) == 2
    write(tmp_path / "store.json", both)
    assert read(str(tmp_path / "store.json")) == both == read(render(both).replace("\n", ""))
    assert [path.name for path in tmp_path.iterdir()] == ["store.json"]
    assert [answer.digest for _, answer in summary([*both, seen(A, "3")])] == [A]


GOOD = json.loads(render([seen(A, "1")]))["observations"][0]


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "is no store of goldens"),
        ({"format": "x"}, "is no store of goldens"),
        ({"format": FORMAT, "observations": {}}, "must be a list"),
        ({"format": FORMAT, "observations": [7]}, r"observations\[0\]: must be an object"),
        ({"format": FORMAT, "observations": [{**GOOD, "digest": "A" * 64}]}, "64 hexadecimal"),
        ({"format": FORMAT, "observations": [{**GOOD, "gpu": ""}]}, "'gpu' must be a text"),
        ({"format": FORMAT, "observations": [{**GOOD, "sku": "x" * 201}]}, "'sku' must be a text"),
        ({"format": FORMAT, "observations": [{**GOOD, "versions": {"torch": "2"}}]}, "'versions' must name"),
    ],
)
def test_a_bad_store_is_refused_with_its_place(document: object, complaint: str) -> None:
    text = document if isinstance(document, str) else json.dumps(document)
    with pytest.raises(BadInput, match=complaint):
        parse(text, "store.json")


def test_a_store_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be written"):
        write(tmp_path / "none" / "store.json", [])
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="no UTF-8"):
        read(str(tmp_path / "binary"))
