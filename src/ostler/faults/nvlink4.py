"""XID 74, NVLink up to generation 4: what the seven registers of the message say. Called by `xid.py`.

Bits after NVIDIA's WORKFLOW_NVLINK_ERR (catalogue of 2026, for Hopper): registers one, three, four and five count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ostler.faults.entry import text
from ostler.faults.model import Action, Severity

_LINE = re.compile(rb"link (-?\d{1,3})\s*\(((?:0x[0-9a-fA-F]{1,8}(?:, ?|(?=\))))+)\)")

IGNORABLE = {0: (0, 23, 30)}
SYMPATHETIC = {0: (1, 20), 3: (16, 17, 18)}
"""As a rule the echo of another error; alone worth a report."""
ECC = {0: (4, 5), 2: (0, 1, 2, 6), 4: (18, 19, 21, 22, 24, 25, 27, 28)}
"""Parity or ECC inside the link: hardware once the same link shows it more than twice."""
MECHANICAL = {0: (8, 9, 12, 16, 17, 24, 28)}
"""Check the link's connections and reseat."""
SIGNAL = {0: (21, 22)}
"""Marginal signal integrity."""
REPEATED = {0: (27, 29), 2: (13, 16, 17, 18, 19)}
"""Worth a diagnosis only when it comes again."""
THRESHOLD = {4: (20, 23, 26, 29)}
"""Many corrected errors; operation goes on."""


class Verdict(NamedTuple):
    severity: Severity
    action: Action
    detail: dict[str, str]


def _mask(bits: Mapping[int, tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(sum(1 << b for b in bits.get(register, ())) for register in range(7))


_CLASSES = (
    ("ecc", _mask(ECC)),
    ("mechanical", _mask(MECHANICAL)),
    ("signal", _mask(SIGNAL)),
    ("repeated", _mask(REPEATED)),
    ("threshold", _mask(THRESHOLD)),
    ("sympathetic", _mask(SYMPATHETIC)),
    ("ignorable", _mask(IGNORABLE)),
)


def classify(registers: tuple[int, ...]) -> str:
    """The gravest class whose bits are set: ecc, mechanical, signal, repeated, threshold, other (a bit that NVIDIA does
    not list), sympathetic, ignorable; "" if no bit is set."""
    found = [name for name, masks in _CLASSES if any(r & m for r, m in zip(registers, masks, strict=False))]
    known = tuple(sum(masks[i] for _, masks in _CLASSES) for i in range(7))
    unlisted = any(r & ~k for r, k in zip(registers, known, strict=False))
    if unlisted and (not found or found[0] in ("sympathetic", "ignorable")):
        return "other"
    return found[0] if found else ""


def decode_line(rest: bytes) -> Verdict:
    """From what follows the code. A link that the driver calls fatal needs a reset; the rest is watched, because every
    remedy of the workflow depends on the same link doing it again."""
    detail: dict[str, str] = {}
    link_class = ""
    found = _LINE.search(rest)
    if found is not None:
        detail["link"] = text(found[1])
        registers = tuple(int(r, 16) for r in found[2].replace(b",", b" ").split()[:7])
        link_class = classify(registers)
        if link_class:
            detail["class"] = link_class
    if b"fatal error" in rest and b"non-fatal" not in rest:
        return Verdict(Severity.FATAL, Action.RESET_GPU, detail)
    if link_class == "ignorable":
        return Verdict(Severity.INFO, Action.NONE, detail)
    return Verdict(Severity.WARNING, Action.WATCH, detail)
