"""What every check answers. Built by the checks; read by `__main__`, the agent's verb `run-check` and the CLI."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from ostler.core.errors import BadInput

Measured: TypeAlias = Mapping[str, Any]
"""Name to text, number, truth, or plain JSON of these (`ib-neighbours`), within what the wire takes."""
Arguments: TypeAlias = Mapping[str, str]


class CheckVerdict(StrEnum):
    """`inconclusive`: it could not run, was stopped, or ran on less than all. Never healthy by default."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One run of one check."""

    name: str
    verdict: CheckVerdict
    measured: Measured = field(default_factory=dict)
    """Name with unit to value: `write_mb_s`, `repeats`, …"""
    message: str = ""


MEASURED_LIMIT = 64
"""Values of one result that the wire takes (`wire.agent.OrderResult.measured`)."""
MESSAGE_LIMIT = 2000
"""Characters of a message, a little less than the wire takes."""

SHARED_ARGUMENTS = {
    "device": "cuda, or cpu: rehearses the logic without a GPU, which says nothing about one (cuda)",
    "gpus": "how many GPUs must take part (as many as are on the PCI bus)",
}
"""What every GPU check takes."""


def number(arguments: Arguments, name: str, default: float, least: float, most: float) -> float:
    """A numeric argument of a check. Raises BadInput naming it."""
    raw = arguments.get(name)
    if raw is None:
        return default
    try:
        value = float(raw)
    except ValueError:
        raise BadInput(f"expected a number, found {raw[:40]!r}", where=name) from None
    if not least <= value <= most:
        raise BadInput(f"must be between {least:g} and {most:g}", where=name)
    return value


def words(arguments: Arguments, name: str, default: str, known: Collection[str]) -> tuple[str, ...]:
    """An argument that lists some of `known`, separated by commas. Raises BadInput naming it."""
    chosen = tuple(word for word in arguments.get(name, default).split(",") if word)
    for word in chosen:
        if word not in known:
            raise BadInput(f"{word[:40]!r} is none of {', '.join(sorted(known))}", where=name)
    if not chosen:
        raise BadInput(f"name at least one of {', '.join(sorted(known))}", where=name)
    return chosen


def floor(arguments: Arguments, name: str) -> float | None:
    """A `min_*` or `max_*` argument; None when nobody gave it. Raises BadInput naming it."""
    return number(arguments, name, 0.0, 0.0, 1e9) if name in arguments else None
