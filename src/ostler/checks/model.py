"""What every check answers. Built by the checks; read by `__main__`, the agent's verb `run-check` and the CLI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from ostler.core.errors import BadInput

Measured: TypeAlias = Mapping[str, str | int | float | bool]
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
