"""Files that only their owner may read, written whole or not at all. Used by the secret store and the authority."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from ostler.core.errors import Permanent, Unavailable


def private_folder(folder: Path) -> None:
    """Make `folder` (0700) if it is missing; raise `Permanent` when others may look into an existing one."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Permanent(f"The folder cannot be made: {error.strerror}.", where=str(folder)) from None
    check_private(folder)


def check_private(path: Path) -> None:
    """Raise `Permanent` when the file or folder is not ours alone, with the command that mends it."""
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        wanted = "700" if path.is_dir() else "600"
        raise Permanent(
            f"Others may read this (mode {mode:04o}); it holds secrets. Run: chmod {wanted} {path}", where=str(path)
        )
    if found.st_uid != os.geteuid():
        raise Permanent("This belongs to another user, and it holds secrets.", where=str(path))


def write_private(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write beside `path`, sync, and rename over it: a crash leaves the old content or the new, never half."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise Unavailable(f"It cannot be written: {error.strerror}.", where=str(path)) from None
