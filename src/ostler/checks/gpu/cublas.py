"""Which cuBLAS this process has loaded: its bits may differ between versions, so a golden digest names it.

PyTorch does not say; the library itself does (cublasGetProperty, cuBLAS documentation, "Helper Functions").
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any


def version(torch: Any, maps: Path = Path("/proc/self/maps")) -> str:
    """`13.0.2`, or empty when it cannot be told. Makes one small product first, which loads the library."""
    one = torch.ones((8, 8), device="cuda:0")
    torch.mm(one, one)
    try:
        lines = maps.read_text().splitlines()
    except OSError:
        return ""
    path = next((line.split()[-1] for line in lines if "/libcublas.so" in line), None)
    return "" if path is None else _asked(path)


def _asked(path: str) -> str:
    try:
        library = ctypes.CDLL(path)
        parts = []
        for kind in range(3):  # MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL of libraryPropertyType
            value = ctypes.c_int(-1)
            if library.cublasGetProperty(ctypes.c_int(kind), ctypes.byref(value)) != 0:
                return ""
            parts.append(str(value.value))
    except (OSError, AttributeError):
        return ""
    return ".".join(parts)
