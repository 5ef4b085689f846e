"""What a durable step may answer, and nothing else. Returned by every step in `*/tasks.py`, read by `jobs/runner.py`.

A step looks at the world, perhaps touches it, and returns one of these. `write` runs in the very transaction that
journals the answer: the domain's change and the fact that the step is done become true together or not at all. It must
not do I/O. It may return another answer to override this one (a permit refused, a state that moved meanwhile).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Data: TypeAlias = Mapping[str, Any]
Write: TypeAlias = Callable[[Any], "StepResult | None"]
"""Runs with a `db.tx.Tx` (typed `Any` here because core imports nothing)."""


@dataclass(frozen=True)
class Go:
    """This step is done; go on with the step called `to` at once. `data` is merged into the job's data."""

    to: str
    data: Data = field(default_factory=dict)
    write: Write | None = None


@dataclass(frozen=True)
class Wait:
    """Not yet: run this same step again after `seconds` of domain time, or sooner when the job is woken."""

    seconds: float
    why: str
    data: Data = field(default_factory=dict)
    write: Write | None = None


@dataclass(frozen=True)
class Done:
    """The procedure is finished."""

    data: Data = field(default_factory=dict)
    write: Write | None = None


@dataclass(frozen=True)
class Failed:
    """The procedure cannot be finished; a person or another procedure goes on from `why`."""

    why: str
    data: Data = field(default_factory=dict)
    write: Write | None = None


StepResult: TypeAlias = Go | Wait | Done | Failed
