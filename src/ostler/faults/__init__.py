"""What can go wrong on a GPU node, and how the kernel says it.

The catalogue (`catalogue.py` and the topical tables that it joins) turns one line of a kernel log, a BMC event log or a
fabric manager's log into a `Fault`. `Detector` reads one message at a time for the agent; `bulk.scan` reads whole files
for `ostler scan`. Standard library only, so that the agent stays small; nothing here decides what is done about a fault
beyond the action that the catalogue recommends for that one line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ostler.faults.model import Action, Fault, Hit, Kind, Severity

if TYPE_CHECKING:
    from ostler.faults.detector import Detector

__all__ = ["Action", "Detector", "Fault", "Hit", "Kind", "Severity"]


def __getattr__(name: str) -> Any:
    """The detector compiles the whole catalogue: the monitors' process, which reads no log, never asks for it."""
    if name == "Detector":
        from ostler.faults.detector import Detector

        return Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
