"""The agent loads the catalogue on every node: it must pull in nothing but the standard library."""

from __future__ import annotations

import subprocess
import sys


def test_detection_imports_the_standard_library_only() -> None:
    code = (
        "import sys; from ostler.faults import Detector; Detector().detect('x'); "
        "print('\\n'.join({m.partition('.')[0] for m in sys.modules} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    foreign = {name for name in done.stdout.split() if not name.startswith(("_", "a1_"))}
    assert foreign <= {"ostler"} | _site_modules()


def _site_modules() -> set[str]:
    """What the interpreter loads by itself (.pth files of editable installs)."""
    code = "import sys; print('\\n'.join({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())
