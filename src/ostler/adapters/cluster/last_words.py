"""`python3 -m ostler.adapters.cluster.last_words FILE COMMAND…`: runs COMMAND, leaves its last line of output in FILE.

The first process of an idle run's container: Kubernetes hands the termination log on in the pod's status, but only
what a process wrote there itself. No shell, so no quoting and nothing that keeps a signal from the checks. Standard
library only, because it runs on the node.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import IO

LIMIT = 4096
"""Bytes: what a kubelet hands on of a termination log."""
_LINE = 1 << 20


def main(argv: list[str]) -> int:
    """Runs `argv[1:]` and passes its output on. The command's exit status, or 128 + the signal that ended it."""
    if len(argv) < 2:
        sys.stderr.write("usage: last_words FILE COMMAND [ARGUMENT ...]\n")
        return 2
    path, command = Path(argv[0]), argv[1:]
    ended: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def stop(number: int, frame: FrameType | None) -> None:
        ended.append(number)
        if child is not None:
            _tell(child, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return 127
    if ended:  # it came before the child
        _tell(child, ended[0])
    assert child.stdout is not None
    last = _pass_on(child.stdout)
    status = child.wait()
    if ended:
        return 128 + ended[0]
    path.write_bytes(last[-LIMIT:])
    return status if status >= 0 else 128 - status


def _tell(child: subprocess.Popen[bytes], number: int) -> None:
    """To the child and all that it started."""
    if child.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)


def _pass_on(output: IO[bytes]) -> bytes:
    """Everything to our own output; answers the last line that is not empty."""
    last = b""
    while line := output.readline(_LINE):
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        last = line.strip() or last
    return last


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
