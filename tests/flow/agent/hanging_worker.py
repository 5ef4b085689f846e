"""A monitors' process with monitors that misbehave as a file says: `python hanging_worker.py FILE`. For tests."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from ostler.agent.monitors import worker
from ostler.agent.monitors.port import Look
from ostler.faults.monitored import fault

DISK = "nvme0n1"


class Moody:
    """Does what the file says: `well`, `ill`, `raise`, `wrong`, `print`, `slow`, `hang`; `hang` ends when it changes."""

    deadline_s = 0.3

    def __init__(self, name: str, file: Path) -> None:
        self.name = name
        self._file = file
        self._introduced = False
        self._slow = 0

    @property
    def period_s(self) -> float:
        """It introduces itself as slow, so that a busy machine starves nobody, and then looks often."""
        introduced, self._introduced = self._introduced, True
        return 0.05 if introduced else 60.0

    def look(self, now: float) -> Look:
        mood = self._file.read_text().strip()
        if mood == "raise":
            raise OSError("the disk does not answer")
        if mood == "wrong":
            raise ZeroDivisionError("a defect")
        if mood == "print":
            os.write(1, b"I am a library that talks\n")
        while mood in ("hang", "slow") and self._file.read_text().strip() == mood:
            time.sleep(0.005)
            if mood == "slow" and time.monotonic() - now > 0.5:
                self._slow += 1
                new = self._file.parent.parent / "looks.new"
                new.write_text(str(self._slow))
                new.replace(new.with_suffix(""))
                break
        return Look((fault("host-disk-failing", DISK),) if mood == "ill" else ())


if __name__ == "__main__":
    worker.BEAT_S = 0.1
    folder = Path(sys.argv[1])
    worker.serve([Moody(file.name, file) for file in sorted(folder.iterdir())])
