"""What a durable procedure is. Made by each feature's `tasks.py`, collected by `app.py`, run by `runner.py`.

A procedure is a name, a version and named steps. A step looks at the world, perhaps touches it, and answers with one of
`core.steps`. It may run again when its process dies before the answer is journaled, so it must be safe to repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import sqlalchemy as sa

from ostler.core.steps import StepResult
from ostler.db.tx import Tx


@dataclass(frozen=True)
class JobView:
    """What a step gets to see of its job."""

    id: str
    procedure: str
    version: int
    subject: str
    """A node's id, or `fleet`."""
    step: str
    data: Mapping[str, Any]
    """What `enqueue`, earlier answers and wake-ups put there."""
    tries: int
    """How often this step has failed temporarily in a row."""
    created_at: float
    now: float
    """Domain time when the step was started."""
    lost: Callable[[], bool] = lambda: False
    """True once another replica has taken the job over: a long step may as well stop."""


Step: TypeAlias = Callable[[JobView], StepResult]
OnHeld: TypeAlias = Callable[[Tx, JobView, str], None]
"""Called in the transaction that holds a job for a person, with the reason: a feature records a finding."""


@dataclass(frozen=True)
class Procedure:
    """Named steps under a version. Raise `version` when the steps change their meaning."""

    name: str
    version: int
    first: str
    steps: Mapping[str, Step]
    resumes: frozenset[int] = frozenset()
    """Earlier versions whose unfinished jobs these steps can go on with."""

    def __post_init__(self) -> None:
        if self.first not in self.steps:
            raise ValueError(f"procedure {self.name} begins with '{self.first}', which is none of its steps")

    @property
    def versions(self) -> frozenset[int]:
        """Every version of a job that this can run."""
        return self.resumes | {self.version}


def view(row: sa.RowMapping, now: float, lost: Callable[[], bool] = lambda: False) -> JobView:
    """A row of `job` as its step sees it."""
    names = ("id", "procedure", "version", "subject", "step", "data", "tries", "created_at")
    return JobView(**{name: row[name] for name in names}, now=now, lost=lost)
