"""Secrets in a private folder, each sealed with AES-256-GCM under one key file. Built by `app.py`.

The seal keeps backups of the folder without the key file worthless, and binds a value to its name: files that were
swapped or edited are refused. Whoever can read the key file can read the secrets: the server's own user.
"""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ostler.adapters.keys.port import MAX_VALUE, check_name, check_value
from ostler.adapters.keys.private_files import check_private, private_folder, write_private
from ostler.core.errors import NotFound, Permanent, Unavailable

_MAGIC = b"ostler-secret-1\n"
_NONCE = 12
"""Bytes; random per write. NIST SP 800-38D allows 2^32 of them under one key."""
_TAG = 16


class FileSecrets:
    """`SecretStore` over `folder` (0700), with the key in `key_file` (0600; default `folder/key`)."""

    def __init__(self, folder: Path, key_file: Path | None = None) -> None:
        """Makes folder and key at the first start. Secrets without their key are refused: nothing could open them."""
        private_folder(folder)
        self._folder = folder
        key_file = key_file or folder / "key"
        if not key_file.exists():
            if any(folder.glob("*.secret")):
                raise Permanent(
                    "The key of the secret store is missing; restore it from its backup.", where=str(key_file)
                )
            write_private(key_file, secrets.token_hex(32).encode() + b"\n")
        check_private(key_file)
        try:
            key = bytes.fromhex(key_file.read_text("ascii"))
        except (ValueError, OSError):
            key = b""
        if len(key) != 32:
            raise Permanent("The key of the secret store is damaged (64 hex digits expected).", where=str(key_file))
        self._seal = AESGCM(key)

    def put(self, name: str, value: str) -> None:
        encoded = check_value(check_name(name), value)
        nonce = secrets.token_bytes(_NONCE)
        write_private(self._path(name), _MAGIC + nonce + self._seal.encrypt(nonce, encoded, _MAGIC + name.encode()))

    def get(self, name: str) -> str:
        path = self._path(check_name(name))
        try:
            check_private(path)
            with path.open("rb") as file:
                content = file.read(len(_MAGIC) + _NONCE + MAX_VALUE + _TAG + 1)
        except FileNotFoundError:
            raise NotFound(f"There is no secret {name!r}.", where=str(self._folder)) from None
        except OSError as error:
            raise Unavailable(f"It cannot be read: {error.strerror}.", where=str(path)) from None
        nonce, sealed = content[len(_MAGIC) :][:_NONCE], content[len(_MAGIC) + _NONCE :]
        try:
            if not content.startswith(_MAGIC):
                raise ValueError
            return self._seal.decrypt(nonce, sealed, _MAGIC + name.encode()).decode()
        except (InvalidTag, ValueError):
            raise Permanent(
                "This secret is damaged, or sealed under another key or name; put it again.", where=str(path)
            ) from None

    def delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path(check_name(name)).unlink()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.secret"
