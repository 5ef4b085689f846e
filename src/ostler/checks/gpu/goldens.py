"""Golden digests: what a kernel's result must be, to the bit, on one SKU with one set of versions.

Nobody can say beforehand which bits are right, so a digest is golden only where at least two physical GPUs agree on it
and outnumber all that say otherwise. The store is one JSON file of observations, from which the goldens follow:

    {"format": "ostler-goldens/1", "observations": [
      {"sku": "NVIDIA H100 80GB HBM3", "kernel": "gemm-bf16", "shape": "8192x8192", "seed": "1", "digest": "…64 hex…",
       "gpu": "1653922071234", "versions": {"torch": "…", "cuda": "…", "cublas": "…", "driver": "…"}}, …]}

sdc.py reads it (`golden=FILE`) and writes its own observations (`observations=FILE`); `ostler checks golden` merges.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ostler.core.errors import BadInput

FORMAT = "ostler-goldens/1"
VERSIONS = ("torch", "cuda", "cublas", "driver")
AGREEING = 2
"""Physical GPUs that must agree before a digest is golden."""
_BYTES = 32 << 20
_WORD = 200


@dataclass(frozen=True, slots=True)
class Observation:
    """One GPU's digest of one kernel."""

    sku: str
    kernel: str
    shape: str
    seed: str
    digest: str
    gpu: str
    """Serial number."""
    versions: tuple[tuple[str, str], ...]

    @property
    def key(self) -> tuple[object, ...]:
        """What must be the same for two digests to be comparable."""
        return self.sku, self.kernel, self.shape, self.seed, self.versions


@dataclass(frozen=True, slots=True)
class Golden:
    """A digest that enough GPUs agree on, or why there is none."""

    digest: str | None
    why_not: str = ""


def versions_of(found: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The versions that count, in order."""
    return tuple((name, found.get(name, "")) for name in VERSIONS)


def golden(observations: Iterable[Observation], like: Observation) -> Golden:
    """The golden digest for what `like` computed, from what others saw."""
    missing = [name for name, value in like.versions if not value]
    if missing:
        return Golden(None, f"the version of {', '.join(missing)} is not known")
    votes: dict[str, set[str]] = {}
    for seen in observations:
        if seen.key == like.key and seen.gpu:
            votes.setdefault(seen.digest, set()).add(seen.gpu)
    # A GPU that has given two answers to one question is no witness for either.
    torn = {gpu for gpus in votes.values() for gpu in gpus if sum(gpu in other for other in votes.values()) > 1}
    counts = sorted(((len(gpus - torn), found) for found, gpus in votes.items()), reverse=True)
    if not counts or counts[0][0] < AGREEING:
        seen_by = counts[0][0] if counts else 0
        return Golden(None, f"{seen_by} of {AGREEING} GPUs needed have agreed on a digest")
    most, others = counts[0][0], sum(count for count, _ in counts[1:])
    if most <= others:
        return Golden(None, "GPUs of this SKU disagree, without a majority")
    return Golden(counts[0][1])


def read(source: str) -> list[Observation]:
    """A store: the name of a file, or the JSON itself. Raises BadInput."""
    if source.lstrip().startswith("{"):
        return parse(source, "golden")
    path = Path(source)
    try:
        if path.stat().st_size > _BYTES:
            raise BadInput(f"larger than {_BYTES >> 20} MiB", where=source[:_WORD])
        return parse(path.read_text("utf-8"), source[:_WORD])
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", where=source[:_WORD]) from None
    except UnicodeDecodeError:
        raise BadInput("is no UTF-8 text", where=source[:_WORD]) from None


def parse(text: str, where: str) -> list[Observation]:
    """The observations of a store. Raises BadInput, naming the entry."""
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise BadInput("is no JSON document", where=where) from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BadInput(f"is no store of goldens: its format is not {FORMAT!r}", where=where)
    entries = document.get("observations")
    if not isinstance(entries, list):
        raise BadInput("'observations' must be a list", where=where)
    return [_entry(entry, f"{where}: observations[{number}]") for number, entry in enumerate(entries)]


def _entry(entry: Any, where: str) -> Observation:
    if not isinstance(entry, dict):
        raise BadInput("must be an object", where=where)
    words = {}
    for name in ("sku", "kernel", "shape", "seed", "digest", "gpu"):
        value = entry.get(name)
        if not isinstance(value, str) or not value or len(value) > _WORD:
            raise BadInput(f"{name!r} must be a text of 1 to {_WORD} characters", where=where)
        words[name] = value
    if re.fullmatch(r"[0-9a-f]{64}", words["digest"]) is None:
        raise BadInput("'digest' must be 64 hexadecimal digits", where=where)
    versions = entry.get("versions")
    if not isinstance(versions, dict) or any(
        not isinstance(versions.get(name), str) or not versions[name] or len(versions[name]) > _WORD
        for name in VERSIONS
    ):
        raise BadInput(f"'versions' must name {', '.join(VERSIONS)}", where=where)
    return Observation(versions=versions_of(versions), **words)


def merge(*many: Iterable[Observation]) -> list[Observation]:
    """All of them, each once, in a settled order."""
    return sorted(
        {seen for some in many for seen in some}, key=lambda seen: (*map(str, seen.key), seen.gpu, seen.digest)
    )


def render(observations: Iterable[Observation]) -> str:
    """The store as text."""
    entries = [{**asdict(seen), "versions": dict(seen.versions)} for seen in observations]
    return json.dumps({"format": FORMAT, "observations": entries}, indent=1) + "\n"


def write(path: Path, observations: Iterable[Observation]) -> None:
    """Replaces the file whole, or leaves it as it was. Raises BadInput when it cannot be written."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(render(observations), "utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise BadInput(f"cannot be written: {error.strerror}", where=str(path)) from None


def summary(observations: Iterable[Observation]) -> list[tuple[Observation, Golden]]:
    """One observation per question with the golden that follows, for people."""
    everything = list(observations)
    first: dict[tuple[object, ...], Observation] = {}
    for seen in everything:
        first.setdefault(seen.key, seen)
    return [(seen, golden(everything, seen)) for seen in first.values()]
