"""What an error raised by PyTorch or CUDA says about the hardware: broken, or only unknown. Used by `bench.guard`.

The words are those of cudaGetErrorString (CUDA Runtime API, "Error Handling") and of PyTorch around them.
"""

from __future__ import annotations

import re

from ostler.checks.model import CheckVerdict

_BROKEN = (
    "uncorrectable ecc",
    "uncorrectable nvlink",
    "contained memory error",
    "hardware stack error",
    "illegal memory access",
    "illegal address",
    "illegal instruction",
    "misaligned address",
    "invalid program counter",
    "unspecified launch failure",
    "device has fallen off",
    "gpu is lost",
    "tensor memory leak",
)
"""Our kernels are sound and their addresses valid: one of these does not come from a mistake in the program."""
_NO_MEMORY = ("out of memory", "cannot allocate memory", "can't allocate memory", "alloc_failed", "not enough memory")
_LINE = 240


def meaning(error: BaseException) -> tuple[CheckVerdict, str]:
    """The verdict that an error stands for, and one line of why."""
    text = _one_line(error)
    lower = text.lower()
    if any(word in lower for word in _NO_MEMORY) or isinstance(error, MemoryError):
        return CheckVerdict.INCONCLUSIVE, f"out of memory: {text}"
    if any(word in lower for word in _BROKEN):
        return CheckVerdict.FAILED, text
    return CheckVerdict.INCONCLUSIVE, text


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    text = re.sub(r"[^ -~]", " ", text)
    return text[:_LINE]
