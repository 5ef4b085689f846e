"""Outcomes. Written by `acceptance` and `remediation`, read by guards, by `why` and by the console."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What a check says."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    """Could not run, was stopped, or ran on less than all: never to be read as passed."""
